//! The wire's own types, parsed into those that callers see.
//!
//! A field that breaks the rules of its name is named in the fault: a node that sends one runs an
//! incompatible version.

pub(crate) mod event;
pub(crate) mod outcome;
pub(crate) mod unary;

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use lockstep_machine::{Metadata, StateName};

/// What is wrong with a node's answer.
pub(crate) type Unreadable = String;

/// Parses a field.
pub(crate) fn parsed<T: FromStr>(field: &str, value: &str) -> Result<T, Unreadable>
where
    T::Err: Display,
{
    value.parse().map_err(|fault| format!("{field}: {fault}"))
}

/// Parses a field that may be missing.
pub(crate) fn parsed_if<T: FromStr>(
    field: &str,
    value: Option<&str>,
) -> Result<Option<T>, Unreadable>
where
    T::Err: Display,
{
    value.map(|value| parsed(field, value)).transpose()
}

/// Parses a list of states.
pub(crate) fn states(field: &str, values: &[String]) -> Result<Vec<StateName>, Unreadable> {
    values.iter().map(|value| parsed(field, value)).collect()
}

/// Parses metadata.
pub(crate) fn metadata(
    field: &str,
    entries: HashMap<String, String>,
) -> Result<Metadata, Unreadable> {
    Metadata::new(entries).map_err(|fault| format!("{field}: {fault}"))
}

/// Metadata as it travels.
pub(crate) fn entries(metadata: &Metadata) -> HashMap<String, String> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    metadata.iter().map(owned).collect()
}
