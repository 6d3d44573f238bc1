//! The sinks while the sources are read: what each was given, and where.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Warning;
use crate::config::fault::{Fault, Origin};
use crate::config::keys::KeyDefault;
use crate::config::load::Setting;
use crate::config::shape::Raw;

use super::Sink;
use super::keys::{ENV_PREFIX, Kind, SINK_KEYS, SinkDraft, SinkKey, nearest};
use super::sense;

const NAME_BYTES_MAX: usize = 32;

/// All sinks that a source named.
#[derive(Default)]
pub(in crate::config) struct Drafts {
    sinks: BTreeMap<String, Draft>,
}

/// One sink, and where what was set came from.
pub(super) struct Draft {
    pub(super) values: SinkDraft,
    pub(super) origins: BTreeMap<&'static str, Origin>,
    /// Keys with a fault: judging how they fit with others would only repeat it.
    pub(super) bad: BTreeSet<&'static str>,
}

impl Draft {
    fn new() -> Self {
        let mut draft = Draft {
            values: SinkDraft::default(),
            origins: BTreeMap::new(),
            bad: BTreeSet::new(),
        };
        for key in SINK_KEYS {
            if let KeyDefault::Is(text) = key.default {
                // That every default can be read is tested.
                let _ = (key.read)(&mut draft.values, &Raw::Text(text.into()));
            }
        }
        draft
    }

    pub(super) fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    fn settings<'a>(&'a self, sink: &'a str) -> impl Iterator<Item = Setting> + 'a {
        let has = |key: &&SinkKey| self.values.kind.is_some_and(|it| key.kinds.contains(&it));
        SINK_KEYS.iter().filter(has).map(move |key| Setting {
            path: key.path(sink),
            secret: key.secret,
            value: (key.show)(&self.values),
            origin: self.origin(key.name).clone(),
        })
    }
}

impl Drafts {
    /// Makes a sink known, even if nothing is set.
    pub(in crate::config) fn add(&mut self, sink: &str) {
        self.draft(sink);
    }

    fn draft(&mut self, sink: &str) -> &mut Draft {
        self.sinks
            .entry(sink.to_string())
            .or_insert_with(Draft::new)
    }

    /// Sets a value, or says why not.
    pub(in crate::config) fn set(
        &mut self,
        sink: &str,
        key: &'static SinkKey,
        raw: &Raw,
        origin: &Origin,
    ) -> Result<(), String> {
        let draft = self.draft(sink);
        draft.origins.insert(key.name, origin.clone());
        let outcome = (key.read)(&mut draft.values, raw);
        if outcome.is_err() {
            draft.bad.insert(key.name);
        }
        outcome
    }

    /// Notes that a key has a fault that was told elsewhere.
    pub(in crate::config) fn spoil(&mut self, sink: &str, key: &'static SinkKey) {
        self.draft(sink).bad.insert(key.name);
    }

    /// Judges all sinks, and turns those that are good into what they are configured to be.
    pub(in crate::config) fn complete(
        &self,
        faults: &mut Vec<Fault>,
        warnings: &mut Vec<Warning>,
    ) -> Vec<Sink> {
        sense::complete(&self.sinks, faults, warnings)
    }

    /// Every setting of every sink, as far as its kind has it.
    pub(in crate::config) fn settings(&self) -> impl Iterator<Item = Setting> + '_ {
        self.sinks
            .iter()
            .flat_map(|(name, draft)| draft.settings(name))
    }
}

/// The rule for names of sinks: they stand in names of environment variables and in metrics.
pub(in crate::config) fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        return Ok(());
    }
    Err(format!(
        "a sink's name is a small letter, then small letters and digits, {NAME_BYTES_MAX} in all at most"
    ))
}

/// The sink and the key that an environment variable is for.
pub(in crate::config) fn of_env(variable: &str) -> Option<(String, &'static SinkKey)> {
    let (sink, _) = variable.strip_prefix(ENV_PREFIX)?.split_once('_')?;
    let sink = sink.to_lowercase();
    check_name(&sink).ok()?;
    let key = SINK_KEYS.iter().find(|key| key.env(&sink) == variable)?;
    Some((sink, key))
}

/// The environment variable that was probably meant.
pub(in crate::config) fn nearest_env(variable: &str) -> Option<String> {
    let upper = variable.to_uppercase();
    let rest = upper.strip_prefix(ENV_PREFIX)?;
    // A known key at the end: then something is wrong with the name, such as a `_` in it.
    let known = SINK_KEYS
        .iter()
        .filter_map(|key| {
            let end = format!("_{}", key.name.to_uppercase());
            Some((key, rest.strip_suffix(&end)?.replace(['_', '-'], "")))
        })
        .max_by_key(|(key, _)| key.name.len());
    let (key, sink) = match known {
        Some(known) => known,
        None => {
            let (sink, key) = rest.split_once('_')?;
            (nearest(&key.to_lowercase())?, sink.to_string())
        }
    };
    let sink = sink.to_lowercase();
    check_name(&sink).ok()?;
    Some(key.env(&sink))
}

/// The kinds there are, for a sentence.
pub(super) fn kinds() -> String {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}
