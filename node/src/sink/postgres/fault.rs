//! What an error of the server or of the connection means for the sink.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::sink::SinkError;

/// What was being done when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Connecting: what is neither the network's nor the server's is the configuration's.
    Connecting,
    /// Making the tables and claiming them: the tables are there, so a wrong one is somebody else's.
    Opening,
    /// Writing: what the server says of the data, it will always say.
    Writing,
}

/// It cannot be used now.
pub(super) fn unavailable(reason: impl Into<String>) -> SinkError {
    SinkError::Unavailable {
        reason: reason.into(),
        retry_after: None,
    }
}

/// Somebody must mend it.
pub(super) fn misconfigured(reason: impl Into<String>) -> SinkError {
    SinkError::Misconfigured {
        reason: reason.into(),
    }
}

/// Sorts an error by what can be done about it.
pub(super) fn fault(doing: Doing, error: &Error) -> SinkError {
    if let Some(said) = error.as_db_error() {
        let reason = sentence(said);
        return match sort(doing, said.code().code()) {
            Sort::Unavailable => unavailable(reason),
            Sort::Misconfigured => misconfigured(reason),
            Sort::Refused => SinkError::Refused {
                event: None,
                reason,
            },
        };
    }
    let reason = chain(error);
    // Of TLS, authentication and what speaks another protocol: no try will end better.
    if doing == Doing::Connecting && !error.is_closed() && !is_io(error) {
        return misconfigured(reason);
    }
    unavailable(reason)
}

#[derive(Debug, PartialEq, Eq)]
enum Sort {
    Unavailable,
    Misconfigured,
    Refused,
}

/// The classes of what is not about the data: connections, features, transactions, statements, names,
/// resources, locks, operators, the system, snapshots, configuration files, internal errors.
const PASSING: [&str; 13] = [
    "08", "0A", "25", "26", "40", "42", "53", "55", "57", "58", "72", "F0", "XX",
];

/// By SQLSTATE (PostgreSQL's appendix A): its first two characters are the class.
fn sort(doing: Doing, state: &str) -> Sort {
    match (doing, state.get(..2).unwrap_or_default(), state) {
        // Authentication; no such database; no such schema; rights.
        (_, "28" | "3D" | "3F", _) | (_, _, "42501") => Sort::Misconfigured,
        // What is missing is made when it is opened again; what is there already, somebody else made
        // at the same time.
        (_, _, "42P01" | "42P06" | "42P07") => Sort::Unavailable,
        // Tables under our names that are not ours.
        (Doing::Connecting | Doing::Opening, "42" | "0A", _) => Sort::Misconfigured,
        // Data, constraints, limits, and what a user's own trigger raised, under whatever code.
        (Doing::Writing, class, _) if !class.is_empty() && !PASSING.contains(&class) => {
            Sort::Refused
        }
        _ => Sort::Unavailable,
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
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors say what their cause says.
        if !chain.ends_with(&said) {
            chain.push_str(": ");
            chain.push_str(&said);
        }
        cause = error.source();
    }
    chain
}

fn is_io(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_consequence() {
        let cases = [
            (Doing::Connecting, "28P01", Sort::Misconfigured),
            (Doing::Connecting, "3D000", Sort::Misconfigured),
            (Doing::Connecting, "57P03", Sort::Unavailable),
            (Doing::Connecting, "53300", Sort::Unavailable),
            (Doing::Opening, "42501", Sort::Misconfigured),
            (Doing::Opening, "42703", Sort::Misconfigured),
            (Doing::Opening, "42P07", Sort::Unavailable),
            (Doing::Opening, "23505", Sort::Unavailable),
            (Doing::Writing, "42501", Sort::Misconfigured),
            (Doing::Writing, "42703", Sort::Unavailable),
            (Doing::Writing, "42P01", Sort::Unavailable),
            (Doing::Writing, "22P05", Sort::Refused),
            (Doing::Writing, "23514", Sort::Refused),
            (Doing::Writing, "54000", Sort::Refused),
            (Doing::Writing, "P0001", Sort::Refused),
            (Doing::Writing, "44000", Sort::Refused),
            (Doing::Writing, "45000", Sort::Refused),
            (Doing::Writing, "XX000", Sort::Unavailable),
            (Doing::Writing, "53100", Sort::Unavailable),
            (Doing::Writing, "57P01", Sort::Unavailable),
            (Doing::Writing, "08006", Sort::Unavailable),
            (Doing::Writing, "40001", Sort::Unavailable),
            (Doing::Writing, "55P03", Sort::Unavailable),
            (Doing::Writing, "25006", Sort::Unavailable),
            (Doing::Writing, "", Sort::Unavailable),
        ];
        for (doing, state, expected) in cases {
            assert_eq!(sort(doing, state), expected, "{doing:?} {state}");
        }
    }
}
