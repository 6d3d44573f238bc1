//! What an error of the server or of the connection means for the sink.

use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::sink::SinkError;
use crate::sink::connect::causes;

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Connecting: an error of neither the network nor the server is one of the configuration.
    Connecting,
    /// Creating and claiming the tables: one that does not fit belongs to something else.
    Opening,
    /// Writing: an error about the data is permanent.
    Writing,
}

/// Classifies an error by what can be done about it.
pub(super) fn classify(operation: Operation, error: &Error) -> SinkError {
    if let Some(said) = error.as_db_error() {
        let reason = sentence(said);
        return match class(operation, said.code().code()) {
            ErrorClass::Unavailable => SinkError::unavailable(reason),
            ErrorClass::Misconfigured => SinkError::misconfigured(reason),
            ErrorClass::Rejected => SinkError::rejected(None, reason),
        };
    }
    let reason = chain(error);
    // TLS, authentication, or another protocol: a retry does not help.
    if operation == Operation::Connecting
        && !error.is_closed()
        && !causes(error).any(|it| it.is::<io::Error>())
    {
        return SinkError::misconfigured(reason);
    }
    SinkError::unavailable(reason)
}

#[derive(Debug, PartialEq, Eq)]
enum ErrorClass {
    Unavailable,
    Misconfigured,
    Rejected,
}

/// The classes of errors that are not about the data: connections, features, transactions, statements, names,
/// resources, locks, operators, the system, snapshots, configuration files, internal errors.
const TEMPORARY: [&str; 13] = [
    "08", "0A", "25", "26", "40", "42", "53", "55", "57", "58", "72", "F0", "XX",
];

/// By SQLSTATE (PostgreSQL's appendix A): its first two characters are the class.
fn class(operation: Operation, state: &str) -> ErrorClass {
    match (operation, state.get(..2).unwrap_or_default(), state) {
        // Authentication; no such database; no such schema; permissions.
        (_, "28" | "3D" | "3F", _) | (_, _, "42501") => ErrorClass::Misconfigured,
        // A missing object is created when the sink opens again; an existing one was created by another
        // node at the same time.
        (_, _, "42P01" | "42P06" | "42P07") => ErrorClass::Unavailable,
        // Tables with our names that are not ours.
        (Operation::Connecting | Operation::Opening, "42" | "0A", _) => ErrorClass::Misconfigured,
        // Data, constraints, limits, and whatever a user's own trigger raises.
        (Operation::Writing, known, _) if !known.is_empty() && !TEMPORARY.contains(&known) => {
            ErrorClass::Rejected
        }
        _ => ErrorClass::Unavailable,
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
            (Operation::Connecting, "28P01", ErrorClass::Misconfigured),
            (Operation::Connecting, "3D000", ErrorClass::Misconfigured),
            (Operation::Connecting, "57P03", ErrorClass::Unavailable),
            (Operation::Connecting, "53300", ErrorClass::Unavailable),
            (Operation::Opening, "42501", ErrorClass::Misconfigured),
            (Operation::Opening, "42703", ErrorClass::Misconfigured),
            (Operation::Opening, "42P07", ErrorClass::Unavailable),
            (Operation::Opening, "23505", ErrorClass::Unavailable),
            (Operation::Writing, "42501", ErrorClass::Misconfigured),
            (Operation::Writing, "42703", ErrorClass::Unavailable),
            (Operation::Writing, "42P01", ErrorClass::Unavailable),
            (Operation::Writing, "22P05", ErrorClass::Rejected),
            (Operation::Writing, "23514", ErrorClass::Rejected),
            (Operation::Writing, "54000", ErrorClass::Rejected),
            (Operation::Writing, "P0001", ErrorClass::Rejected),
            (Operation::Writing, "44000", ErrorClass::Rejected),
            (Operation::Writing, "45000", ErrorClass::Rejected),
            (Operation::Writing, "XX000", ErrorClass::Unavailable),
            (Operation::Writing, "53100", ErrorClass::Unavailable),
            (Operation::Writing, "57P01", ErrorClass::Unavailable),
            (Operation::Writing, "08006", ErrorClass::Unavailable),
            (Operation::Writing, "40001", ErrorClass::Unavailable),
            (Operation::Writing, "55P03", ErrorClass::Unavailable),
            (Operation::Writing, "25006", ErrorClass::Unavailable),
            (Operation::Writing, "", ErrorClass::Unavailable),
        ];
        for (operation, state, expected) in cases {
            assert_eq!(class(operation, state), expected, "{operation:?} {state}");
        }
    }
}
