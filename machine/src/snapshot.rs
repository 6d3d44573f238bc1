//! The state as a stream of records, and back.

use crate::state::State;

/// The version of the snapshot records written by this build.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot was written in a format this build does not know.
    #[error("snapshot format {found} is not supported; this build reads format {SNAPSHOT_FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
    /// A record does not decode or contradicts another one.
    #[error("snapshot record {record} is damaged: {reason}")]
    Record {
        /// The record's number, from 0.
        record: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The records end too early.
    #[error("the snapshot ends after {records} records, before its end mark")]
    Truncated {
        /// How many records there were.
        records: u64,
    },
}

/// Rebuilds a [`State`] from the records of [`State::records`].
#[derive(Debug)]
pub struct Restore {}

impl Restore {
    /// Starts from nothing.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Takes the next record in.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let _ = record;
        unimplemented!()
    }

    /// The state, once every record is in.
    pub fn finish(self) -> Result<State, RestoreError> {
        unimplemented!()
    }
}
