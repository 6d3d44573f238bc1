//! Finds a setting by the name that a source has for it, and the nearest one to a name that is none.

use lockstep_machine::SinkName;

use super::keys::{ENV_PREFIX, KEYS, Key, SINK_KEYS, SINKS, env_name};

/// A key, and the sink it belongs to if it is a sink's key.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) sink: Option<SinkName>,
    pub(super) key: &'static Key,
}

impl Slot {
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let key = KEYS.iter().find(|key| key.path == path)?;
        Some(Slot { sink: None, key })
    }

    pub(super) fn of_sink(sink: &SinkName, path: &str) -> Option<Self> {
        let key = SINK_KEYS.iter().find(|key| key.path == path)?;
        Some(Slot {
            sink: Some(sink.clone()),
            key,
        })
    }

    pub(super) fn of_env(variable: &str) -> Option<Self> {
        if let Some(key) = KEYS.iter().find(|key| key.env() == variable) {
            return Some(Slot { sink: None, key });
        }
        let rest = variable.strip_prefix(&env_name("sink."))?;
        let (sink, path) = rest.split_once('_')?;
        let sink = SinkName::new(sink.to_lowercase()).ok()?;
        let slot = Self::of_sink(&sink, &path.to_lowercase())?;
        // A variable in small letters is a mistake.
        (slot.key.env_in(Some(sink.as_str())) == variable).then_some(slot)
    }

    pub(super) fn path(&self) -> String {
        self.key.path_in(self.sink.as_ref().map(SinkName::as_str))
    }
}

/// The known path that looks most like `wrong`; `None` if none is near.
pub(super) fn nearest_path(wrong: &str) -> Option<String> {
    match wrong.split_once('.') {
        Some((SINKS, rest)) => {
            let sink = rest.split_once('.').map_or("<name>", |(sink, _)| sink);
            nearest(wrong, SINK_KEYS.iter().map(|key| key.path_in(Some(sink))))
        }
        Some((section, rest)) if strsim::damerau_levenshtein(section, SINKS) <= 2 => {
            Some(format!("{SINKS}.{rest}"))
        }
        _ => nearest(wrong, KEYS.iter().map(|key| key.path.to_owned())),
    }
}

/// The known environment variable that looks most like `wrong`; `None` if none is near.
pub(super) fn nearest_env(wrong: &str) -> Option<String> {
    nearest_sink_env(wrong).or_else(|| nearest(wrong, KEYS.iter().map(Key::env)))
}

/// Where a sink's name ends is a guess, since both it and the key may contain `_`: the nearest key
/// of all ways to split wins.
fn nearest_sink_env(wrong: &str) -> Option<String> {
    let upper = wrong.to_uppercase();
    let rest = upper.strip_prefix(&env_name("sink."))?;
    let splits = rest.match_indices('_').filter_map(|(at, _)| {
        let sink = rest[..at].replace(['_', '-'], "").to_lowercase();
        SinkName::new(&sink).ok()?;
        let path = rest[at + 1..].to_lowercase();
        let (distance, key) = SINK_KEYS
            .iter()
            .map(|key| (strsim::damerau_levenshtein(&path, key.path), key))
            .filter(|(distance, key)| *distance <= 2.max(key.path.len() / 3))
            .min_by_key(|(distance, _)| *distance)?;
        Some((distance, key.env_in(Some(&sink))))
    });
    splits.min().map(|(_, variable)| variable)
}

fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> Option<String> {
    fn last(path: &str) -> &str {
        path.rsplit('.').next().unwrap_or_default()
    }
    known
        .map(|known| {
            let whole = strsim::damerau_levenshtein(wrong, &known);
            // `heartbeat` in the wrong section is closer to `raft.heartbeat` than its letters say.
            let end = 1 + strsim::damerau_levenshtein(last(wrong), last(&known));
            (whole.min(end), whole, known)
        })
        .filter(|(distance, _, known)| {
            *distance <= 2.max(last(known).trim_start_matches(ENV_PREFIX).len() / 3)
        })
        .min()
        .map(|(_, _, known)| known)
}

/// What to use instead of a flag that does not exist, if a setting has the name of that flag.
pub fn instead_of_flag(flag: &str) -> Option<String> {
    let plain = flag.trim_start_matches('-').split('=').next()?;
    let key = KEYS
        .iter()
        .find(|key| key.path.replace(['.', '_'], "-") == plain)?;
    Some(format!(
        "set {} in the configuration file, or {} in the environment",
        key.path,
        key.env()
    ))
}
