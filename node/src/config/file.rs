//! Reads a TOML file into raw values with the line of each.

use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin};
use super::keys::{KEYS, nearest};
use super::load::Slot;
use super::shape::Raw;
use super::sink::{self, SinkKey};

/// More than any configuration needs; keeps `--config /dev/zero` from filling memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The table of the sinks' tables.
const SINKS: &str = "sink";

/// A value found in the file.
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// All that a file says.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) found: Vec<Found>,
    /// The sinks that have a table, be it an empty one.
    pub(super) sinks: Vec<String>,
    pub(super) faults: Vec<Fault>,
}

/// Reads the whole file: what it sets, and all that is wrong with it.
pub(super) fn read(path: &Path) -> Contents {
    match text(path) {
        Ok(text) => parse(path, &text),
        Err(reason) => Contents {
            faults: vec![Fault::Unreadable {
                path: path.into(),
                reason,
            }],
            ..Contents::default()
        },
    }
}

fn text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("it is larger than 1 MiB".into());
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Contents {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        path,
        text,
        contents: Contents::default(),
    };
    for error in errors {
        let origin = walk.origin(error.span().map_or(0, |span| span.start));
        walk.contents.faults.push(Fault::Syntax {
            origin,
            reason: error.message().replace('\n', ", "),
        });
    }
    // What was recovered from a broken file is a guess: judge it only when the file is TOML.
    if walk.contents.faults.is_empty() {
        walk.table("", table.get_ref());
    }
    walk.contents
}

struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    contents: Contents,
}

impl Walk<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let line = 1 + self
            .text
            .bytes()
            .take(offset)
            .filter(|b| *b == b'\n')
            .count();
        Origin::File {
            path: self.path.into(),
            line,
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in in_file_order(table) {
            let path = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let origin = self.origin(name.span().start);
            let is_section = KEYS
                .iter()
                .any(|key| key.path.starts_with(&format!("{path}.")));
            match (KEYS.iter().find(|key| key.path == path), value.get_ref()) {
                (Some(key), value) => self.found(Slot::Key(key), value, origin),
                (None, DeValue::Table(sinks)) if path == SINKS => self.sinks(sinks),
                (None, DeValue::Table(inner)) if is_section => self.table(&path, inner),
                (None, DeValue::Table(inner)) if !inner.is_empty() && prefix.is_empty() => {
                    // A misspelt section: name each of its keys, so that each gets its hint.
                    self.unknown_section(&path, inner);
                }
                (None, _) => {
                    let nearest = nearest(&path, |key| key.path);
                    self.unknown(path, nearest, origin);
                }
            }
        }
    }

    fn found(&mut self, slot: Slot, value: &DeValue<'_>, origin: Origin) {
        self.contents.found.push(Found {
            slot,
            raw: raw(value),
            origin,
        });
    }

    fn unknown(&mut self, key: String, nearest: Option<String>, origin: Origin) {
        self.contents.faults.push(Fault::UnknownKey {
            origin,
            key,
            nearest,
        });
    }

    /// Every sink has a table under its name.
    fn sinks(&mut self, sinks: &DeTable<'_>) {
        for (name, value) in in_file_order(sinks) {
            let origin = self.origin(name.span().start);
            let name = name.get_ref().as_ref();
            let path = format!("{SINKS}.{name}");
            match (value.get_ref(), sink::check_name(name)) {
                (DeValue::Table(table), Ok(())) => self.sink(name, table),
                (DeValue::Table(_), Err(reason)) => {
                    self.contents.faults.push(Fault::BadValue {
                        origin,
                        key: path,
                        value: "a table".into(),
                        reason,
                    });
                }
                // `[sink]` with the keys of one sink right in it.
                _ => {
                    let nearest = sink::nearest(name).map(|key| key.path("<name>"));
                    self.unknown(path, nearest, origin);
                }
            }
        }
    }

    fn sink(&mut self, sink: &str, table: &DeTable<'_>) {
        self.contents.sinks.push(sink.into());
        for (name, value) in in_file_order(table) {
            let origin = self.origin(name.span().start);
            let name = name.get_ref().as_ref();
            match SinkKey::named(name) {
                Some(key) => self.found(Slot::Sink(sink.into(), key), value.get_ref(), origin),
                None => {
                    let nearest = sink::nearest(name).map(|key| key.path(sink));
                    self.unknown(format!("{SINKS}.{sink}.{name}"), nearest, origin);
                }
            }
        }
    }

    fn unknown_section(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, _) in in_file_order(table) {
            let key = format!("{prefix}.{}", name.get_ref());
            let origin = self.origin(name.span().start);
            let nearest = match strsim::damerau_levenshtein(prefix, SINKS) {
                0..=2 => Some(format!("{SINKS}.{}", name.get_ref())),
                _ => nearest(&key, |key| key.path),
            };
            self.unknown(key, nearest, origin);
        }
    }
}

type Entry<'t, 'i> = (
    &'t Spanned<toml::de::DeString<'i>>,
    &'t Spanned<DeValue<'i>>,
);

fn in_file_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<Entry<'t, 'i>> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Text(number.to_string()),
            Err(_) => Raw::Other("a number that is too large"),
        },
        DeValue::Float(_) => Raw::Other("a decimal number"),
        DeValue::Boolean(value) => Raw::Flag(*value),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|item| item.get_ref().as_str().map(String::from))
                .collect();
            texts.map_or(
                Raw::Other("an array with something else than text"),
                Raw::List,
            )
        }
        DeValue::Table(table) => {
            let pairs: Option<Vec<(String, String)>> = in_file_order(table)
                .into_iter()
                .map(|(name, value)| {
                    Some((
                        name.get_ref().to_string(),
                        value.get_ref().as_str()?.to_string(),
                    ))
                })
                .collect();
            pairs.map_or(
                Raw::Other("a table with something else than text"),
                Raw::Pairs,
            )
        }
    }
}
