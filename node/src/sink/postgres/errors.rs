//! What an error of the server or of the connection means for the sink.

use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::sink::SinkError;
use crate::sink::connect::causes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    /// Connecting to these hosts: an error of neither the network nor the server is one of the
    /// configuration.
    Connecting(&'a str),
    /// Creating and claiming the tables: one that does not fit belongs to something else.
    Opening,
    /// Writing: an error about the data is permanent.
    Writing,
}

pub(super) fn classify(operation: Operation<'_>, error: &Error) -> SinkError {
    let said = error.as_db_error();
    let reason = said.map_or_else(|| chain(error), sentence);
    let (connects, reason) = match operation {
        Operation::Connecting(hosts) => (true, format!("{hosts}: {reason}")),
        Operation::Opening | Operation::Writing => (false, reason),
    };
    if let Some(said) = said {
        return classify_state(operation, said.code().code(), reason);
    }
    // TLS, authentication, or another protocol: a retry does not help.
    match connects && !error.is_closed() && !causes(error).any(|it| it.is::<io::Error>()) {
        true => SinkError::misconfigured(reason),
        false => SinkError::unavailable(reason),
    }
}

/// The classes of errors that are not about the data: connections, features, transactions, statements, names,
/// resources, locks, operators, the system, snapshots, configuration files, internal errors.
const TEMPORARY: [&str; 13] = [
    "08", "0A", "25", "26", "40", "42", "53", "55", "57", "58", "72", "F0", "XX",
];

/// By SQLSTATE (PostgreSQL's appendix A): its first two characters are the class.
fn classify_state(operation: Operation<'_>, state: &str, reason: String) -> SinkError {
    match (operation, state.get(..2).unwrap_or_default(), state) {
        // Authentication; no such database; no such schema; permissions.
        (_, "28" | "3D" | "3F", _) | (_, _, "42501") => SinkError::misconfigured(reason),
        // A missing object is created when the sink opens again; an existing one was created by another
        // node at the same time.
        (_, _, "42P01" | "42P06" | "42P07") => SinkError::unavailable(reason),
        // Tables with our names that are not ours.
        (Operation::Connecting(_) | Operation::Opening, "42" | "0A", _) => {
            SinkError::misconfigured(reason)
        }
        // Data, constraints, limits, and whatever a user's own trigger raises.
        (Operation::Writing, known, _) if !known.is_empty() && !TEMPORARY.contains(&known) => {
            SinkError::rejected(None, reason)
        }
        _ => SinkError::unavailable(reason),
    }
}

/// The server's message with its detail and its code, in one line.
fn sentence(said: &DbError) -> String {
    let mut sentence = said.message().to_owned();
    if let Some(detail) = said.detail() {
        sentence.push_str(": ");
        sentence.push_str(detail);
    }
    format!("{sentence} (SQLSTATE {})", said.code().code())
}

/// An error with its causes. tokio-postgres keeps passwords out of them.
fn chain(error: &Error) -> String {
    let mut chain = String::new();
    for said in causes(error).map(ToString::to_string) {
        // Some errors repeat the text of their cause.
        if !chain.ends_with(&said) {
            let separator = if chain.is_empty() { "" } else { ": " };
            chain = format!("{chain}{separator}{said}");
        }
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sqlstate_has_its_class() {
        let cases = [
            (Operation::Connecting(""), "28P01", "misconfigured"),
            (Operation::Connecting(""), "3D000", "misconfigured"),
            (Operation::Connecting(""), "57P03", "unavailable"),
            (Operation::Connecting(""), "53300", "unavailable"),
            (Operation::Opening, "42501", "misconfigured"),
            (Operation::Opening, "42703", "misconfigured"),
            (Operation::Opening, "42P07", "unavailable"),
            (Operation::Opening, "23505", "unavailable"),
            (Operation::Writing, "42501", "misconfigured"),
            (Operation::Writing, "42703", "unavailable"),
            (Operation::Writing, "42P01", "unavailable"),
            (Operation::Writing, "22P05", "rejected"),
            (Operation::Writing, "23514", "rejected"),
            (Operation::Writing, "54000", "rejected"),
            (Operation::Writing, "P0001", "rejected"),
            (Operation::Writing, "44000", "rejected"),
            (Operation::Writing, "45000", "rejected"),
            (Operation::Writing, "XX000", "unavailable"),
            (Operation::Writing, "53100", "unavailable"),
            (Operation::Writing, "57P01", "unavailable"),
            (Operation::Writing, "08006", "unavailable"),
            (Operation::Writing, "40001", "unavailable"),
            (Operation::Writing, "55P03", "unavailable"),
            (Operation::Writing, "25006", "unavailable"),
            (Operation::Writing, "", "unavailable"),
        ];
        for (operation, state, expected) in cases {
            let found = classify_state(operation, state, String::new());
            assert_eq!(found.kind(), expected, "{operation:?} {state}");
        }
    }
}
