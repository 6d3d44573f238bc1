//! Validates the settings of sinks against each other.

use std::collections::BTreeMap;

use lockstep_machine::{Setting, SinkName};

use super::address::{self, Known};
use crate::config::keys::{KINDS, SINK_KEYS, SINKS, Sink};
use crate::config::values::Values;

/// A table that sinks of PostgreSQL keep for themselves, beside those of every database.
const MIGRATIONS: &str = "migrations";

/// Checks every sink, then all of them together. Returns those that are valid.
pub(in crate::config) fn check(values: &mut Values) -> Vec<Sink> {
    let names = values.sinks.clone();
    let max = *Setting::SinksMax.info().range.end();
    if names.len() as u64 > max {
        values.conflict(format!(
            "{} sinks are configured, maximum {max}",
            names.len()
        ));
    }
    let mut sinks = Vec::new();
    let mut destinations: BTreeMap<String, &SinkName> = BTreeMap::new();
    for name in &names {
        let mut check = Check { name, values };
        if let Some(destination) = check.sink(&mut sinks)
            && let Some(other) = destinations.insert(destination, name)
        {
            let origin = check.values.origin(&check.path("address"));
            values.conflict(format!(
                "sink.{other} and sink.{name} ({origin}) would overwrite each other in one database: change an address, schema or database"
            ));
        }
    }
    sinks
}

struct Check<'a> {
    name: &'a SinkName,
    values: &'a mut Values,
}

impl Check<'_> {
    fn path(&self, key: &str) -> String {
        format!("{SINKS}.{}.{key}", self.name)
    }

    fn get(&self, key: &str) -> Option<String> {
        self.values.get(&self.path(key))
    }

    fn good(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.values.good(&[&self.path(key)]))
    }

    fn is_set(&self, key: &str) -> bool {
        self.values.entry(&self.path(key)).is_some()
    }

    /// `sink.name.key (origin)`, for messages.
    fn cite(&self, key: &str) -> String {
        let path = self.path(key);
        format!("{path} ({})", self.values.origin(&path))
    }

    /// Adds the sink if it is valid. Returns where it writes, if another sink could write there too.
    fn sink(&mut self, sinks: &mut Vec<Sink>) -> Option<String> {
        let Some(kind) = self.get("kind") else {
            if self.good(&["kind"]) {
                let what = format!("set the kind of the destination: {}", KINDS.join(", "));
                self.values.missing(self.path("kind"), what);
            }
            return None;
        };
        self.foreign_keys(&kind);
        self.values.set_defaults(Some(self.name), SINK_KEYS.iter());
        let known = self.address(&kind);
        let within = match kind.as_str() {
            "webhook" => {
                self.webhook();
                None
            }
            _ => {
                self.database(&kind);
                self.get(if kind == "mongo" {
                    "database"
                } else {
                    "schema"
                })
            }
        };
        if self.values.faults.is_empty() {
            match serde_json::from_value(self.values.sink_tree(self.name)) {
                Ok(sink) => sinks.push(sink),
                Err(error) => self.values.conflict(format!("sink.{}: {error}", self.name)),
            }
        }
        let database = known?.database?;
        Some(format!("{kind} {database} {}", within.unwrap_or_default()))
    }

    /// Settings that only other kinds have.
    fn foreign_keys(&mut self, kind: &str) {
        let foreign = SINK_KEYS
            .iter()
            .filter(|key| !key.kinds.contains(&kind) && self.is_set(key.path));
        for key in foreign.collect::<Vec<_>>() {
            let what = format!(
                "{} is only for sinks of kind {}, and this sink is of kind {kind}: remove it",
                self.cite(key.path),
                key.kinds(),
            );
            self.values.conflict(what);
        }
    }

    fn address(&mut self, kind: &str) -> Option<Known> {
        if !self.good(&["kind", "address", "allow_local"]) {
            return None;
        }
        let path = self.path("address");
        let Some(address) = self.get("address") else {
            self.values
                .missing(path, format!("set the address of this {kind}"));
            return None;
        };
        let allow_local = self.values.get_or_default(&self.path("allow_local"));
        match address::check(kind, &address, allow_local) {
            Ok(known) => {
                if known.has_password {
                    self.values.warn(format!(
                        "{} contains a password: use password_file, which no list of settings or processes shows",
                        self.cite("address")
                    ));
                }
                Some(known)
            }
            Err(reason) => {
                let value = format!("{:?}", address::shown(&address));
                let origin = self.values.origin(&path);
                self.values.bad_value(path, value, reason, origin);
                None
            }
        }
    }

    fn database(&mut self, kind: &str) {
        for key in ["history", "instances"] {
            if kind == "postgres" && self.get(key).as_deref() == Some(MIGRATIONS) {
                let cited = self.cite(key);
                self.values.conflict(format!(
                    "{cited} is {MIGRATIONS}, a table that the sink keeps for itself: choose another name"
                ));
            }
        }
        let history = self.get("history").unwrap_or_default();
        if self.get("instances").as_ref() == Some(&history) && self.good(&["history", "instances"])
        {
            self.values.conflict(format!(
                "{} and {} are both {history}: give each its own name",
                self.cite("history"),
                self.cite("instances"),
            ));
        }
        self.secret("password");
    }

    fn webhook(&mut self) {
        self.secret("secret");
        let unset = !self.is_set("secret") && !self.is_set("secret_file");
        if unset && self.good(&["secret", "secret_file"]) {
            self.values.missing(
                self.path("secret"),
                "requests are signed: set it, or secret_file, to whsec_ and the base64 of 24 to 64 random bytes",
            );
        }
    }

    /// A secret is set as text or as the path of its file.
    fn secret(&mut self, key: &str) {
        let file_key = format!("{key}_file");
        if self.is_set(key) && self.is_set(&file_key) {
            let (text, file) = (self.cite(key), self.cite(&file_key));
            let both = format!("{text} and {file} are both set: remove one");
            self.values.conflict(both);
        }
    }
}
