//! Reads a TOML file: its values, each with its line, and everything that is wrong with it.

use std::io::Read;
use std::path::Path;

use lockstep_machine::SinkName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{self, Origin};
use super::keys::{KEYS, SINKS};
use super::lookup::{Slot, nearest_path};
use super::shape::Raw;
use super::values::Values;

/// More than any configuration needs; keeps `--config /dev/zero` from filling memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file into `values`.
pub(super) fn read(path: &Path, values: &mut Values) {
    match text(path) {
        Ok(text) => parse(path, &text, values),
        Err(reason) => values
            .faults
            .push(format!("{}: cannot be read: {reason}", path.display())),
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

fn parse(path: &Path, text: &str, values: &mut Values) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { path, text, values };
    // What the parser recovers from an invalid file is unreliable, so it is not checked.
    if errors.is_empty() {
        walk.table("", table.get_ref());
    }
    for error in errors {
        let origin = walk.origin(error.span().map_or(0, |span| span.start));
        let reason = error.message().replace('\n', ", ");
        let fault = format!("{origin}: not valid TOML: {reason}");
        walk.values.faults.push(fault);
    }
}

struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    values: &'a mut Values,
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
            let path = match prefix {
                "" => name.get_ref().to_string(),
                _ => format!("{prefix}.{}", name.get_ref()),
            };
            let origin = self.origin(name.span().start);
            let section = format!("{path}.");
            let is_section = KEYS.iter().any(|key| key.path.starts_with(&section));
            match (Slot::of_path(&path), value.get_ref()) {
                (Some(slot), value) => self.values.set(&slot, &raw(value), origin),
                (None, DeValue::Table(sinks)) if path == SINKS => self.sinks(sinks),
                (None, DeValue::Table(inner)) if is_section => self.table(&path, inner),
                (None, DeValue::Table(inner)) if !inner.is_empty() && prefix.is_empty() => {
                    // A misspelt section: report each of its keys, so that each gets its hint.
                    for (name, _) in in_file_order(inner) {
                        let origin = self.origin(name.span().start);
                        self.unknown(format!("{path}.{}", name.get_ref()), origin);
                    }
                }
                (None, _) => self.unknown(path, origin),
            }
        }
    }

    fn unknown(&mut self, key: String, origin: Origin) {
        let fault = fault::unknown(&origin, &key, nearest_path(&key));
        self.values.faults.push(fault);
    }

    /// Each sink has a table under its name.
    fn sinks(&mut self, sinks: &DeTable<'_>) {
        for (name, value) in in_file_order(sinks) {
            let origin = self.origin(name.span().start);
            let path = format!("{SINKS}.{}", name.get_ref());
            match (value.get_ref(), SinkName::new(name.get_ref())) {
                (DeValue::Table(table), Ok(sink)) => self.sink(&sink, table),
                (DeValue::Table(_), Err(error)) => {
                    self.values
                        .bad_value(path, "a table".into(), error.reason, origin);
                }
                // `[sink]` with the keys of one sink directly in it.
                _ => self.unknown(path, origin),
            }
        }
    }

    fn sink(&mut self, sink: &SinkName, table: &DeTable<'_>) {
        self.values.sinks.insert(sink.clone());
        for (name, value) in in_file_order(table) {
            let origin = self.origin(name.span().start);
            match Slot::of_sink(sink, name.get_ref()) {
                Some(slot) => self.values.set(&slot, &raw(value.get_ref()), origin),
                None => self.unknown(format!("{SINKS}.{sink}.{}", name.get_ref()), origin),
            }
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
                Raw::Other("an array that contains more than text"),
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
                Raw::Other("a table that contains more than text"),
                Raw::Pairs,
            )
        }
    }
}
