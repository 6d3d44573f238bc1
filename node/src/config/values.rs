//! The values found so far, each with its source and validated on its own; checks across values come later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use lockstep_machine::SinkName;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::fault::Origin;
use super::keys::{Key, KeyDefault, SINKS};
use super::lookup::Slot;
use super::shape::{Raw, Value};
use super::sink;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// All values of the sources, by full path, and the errors in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    entries: BTreeMap<String, Entry>,
    /// Keys with a fault. Further checks skip them: they would only repeat it.
    bad: BTreeSet<String>,
    /// Sinks that a source named, even without any setting.
    pub(super) sinks: BTreeSet<SinkName>,
    pub(super) faults: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Values {
    /// Takes the value of a key from a source. A later source wins.
    pub(super) fn set(&mut self, slot: &Slot, raw: &Raw, origin: Origin) {
        self.sinks.extend(slot.sink.clone());
        match slot.key.shape.read(raw) {
            Ok(value) => {
                self.entries.insert(slot.path(), Entry { value, origin });
            }
            Err(reason) => {
                let value = match (slot.key.secret, &slot.sink) {
                    (true, _) => "(hidden)".into(),
                    // It may be an address with a password in it.
                    (false, Some(_)) => sink::shown(&raw.quoted()),
                    (false, None) => raw.quoted(),
                };
                self.bad_value(slot.path(), value, reason, origin);
            }
        }
    }

    /// Records a value that cannot be used.
    pub(super) fn bad_value(&mut self, key: String, value: String, reason: String, origin: Origin) {
        let fault = format!("{origin}: {key} = {value}: {reason}");
        self.faults.push(fault);
        self.bad.insert(key);
    }

    /// Gives every key without a value its default.
    pub(super) fn set_defaults<'k>(
        &mut self,
        sink: Option<&SinkName>,
        keys: impl Iterator<Item = &'k Key>,
    ) {
        for key in keys {
            let path = key.path_in(sink.map(SinkName::as_str));
            let KeyDefault::Is(text) = key.default else {
                continue;
            };
            // A test reads every default.
            if let (false, Ok(value)) = (
                self.entries.contains_key(&path),
                key.shape.read(&Raw::Text(text.into())),
            ) {
                let origin = Origin::Default;
                self.entries.insert(path, Entry { value, origin });
            }
        }
    }

    /// Sets a value that follows from others.
    pub(super) fn derive(&mut self, path: &str, value: Value) {
        let origin = Origin::Derived;
        self.entries.insert(path.into(), Entry { value, origin });
    }

    pub(super) fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let entry = self.entries.get(path)?;
        serde_json::from_value(entry.value.json.clone()).ok()
    }

    /// The value at this path, where the key has a default.
    pub(super) fn get_or_default<T: DeserializeOwned + Default>(&self, path: &str) -> T {
        self.get(path).unwrap_or_default()
    }

    /// Whether a source set the key.
    pub(super) fn is_set(&self, path: &str) -> bool {
        !matches!(self.origin(path), Origin::Default | Origin::Derived)
    }

    pub(super) fn origin(&self, path: &str) -> Origin {
        let entry = self.entries.get(path);
        entry.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Whether none of these keys has a fault.
    pub(super) fn good(&self, paths: &[&str]) -> bool {
        !paths.iter().any(|path| self.bad.contains(*path))
    }

    /// `key = value (origin)`, for messages.
    pub(super) fn cite(&self, path: &str) -> String {
        let plain = self.entries.get(path).map(|entry| entry.value.plain());
        format!(
            "{path} = {} ({})",
            plain.unwrap_or_default(),
            self.origin(path)
        )
    }

    /// Paths that a source set below this prefix.
    pub(super) fn set_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let paths = self.entries.keys().map(String::as_str);
        paths.filter(move |path| path.starts_with(prefix) && self.is_set(path))
    }

    /// A setting without a default was not set.
    pub(super) fn missing(&mut self, key: impl Display, what: impl Display) {
        self.faults.push(format!("{key} is not set; {what}"));
    }

    /// Settings that are valid alone contradict each other.
    pub(super) fn conflict(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    pub(super) fn warn(&mut self, what: impl Into<String>) {
        self.warnings.push(what.into());
    }

    /// The node's values as a tree of sections, without the sinks.
    pub(super) fn tree(&self) -> Json {
        let mut tree = json!({});
        for (path, entry) in &self.entries {
            let json = entry.value.json.clone();
            match path.split_once('.') {
                Some((SINKS, _)) => {}
                Some((section, key)) => tree[section][key] = json,
                None => tree[path] = json,
            }
        }
        tree
    }

    /// The values of one sink.
    pub(super) fn sink_tree(&self, sink: &SinkName) -> Json {
        let prefix = format!("{SINKS}.{sink}.");
        let mut tree = json!({ "name": sink });
        for (path, entry) in &self.entries {
            if let Some(key) = path.strip_prefix(&prefix) {
                tree[key] = entry.value.json.clone();
            }
        }
        tree
    }
}
