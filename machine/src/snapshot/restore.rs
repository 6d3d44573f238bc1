//! Restores a state from records, one record at a time.

use super::filling::Filling;
use super::{FORMAT, Record};
use crate::codec::{self, CodecError};
use crate::state::State;

const WHAT: &str = "snapshot record";

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another build wrote the snapshot, in a form that this one does not know.
    #[error(transparent)]
    Newer(CodecError),
    /// A record does not decode or contradicts another one.
    #[error("snapshot record {record} is damaged: {reason}")]
    Record {
        /// The record's number, from 0.
        record: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The records end too early.
    #[error("the snapshot is truncated: it ends after {records} records, without an end record")]
    Truncated {
        /// How many records there were.
        records: u64,
    },
}

/// Rebuilds a [`State`] from the records of [`State::records`].
///
/// After an error it must be dropped: it accepts nothing more and never finishes.
#[derive(Debug, Default)]
pub struct Restore {
    records: u64,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Empty,
    Filling(Box<Filling>),
    Complete(Box<State>),
    Failed,
}

impl Restore {
    /// Starts from nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next record.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Newer`] if another build's format, [`RestoreError::Record`] with the
    /// record's number if it is damaged, out of place, or contradicts an earlier one.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        self.stage = stage.push(record).map_err(|fault| match fault {
            CodecError::Malformed { reason, .. } => RestoreError::Record {
                record: self.records,
                reason,
            },
            newer => RestoreError::Newer(newer),
        })?;
        self.records += 1;
        Ok(())
    }

    /// The state, once all records are read.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Truncated`] if the end mark is missing, or an earlier record was rejected.
    pub fn finish(self) -> Result<State, RestoreError> {
        match self.stage {
            Stage::Complete(state) => Ok(*state),
            _ => Err(RestoreError::Truncated {
                records: self.records,
            }),
        }
    }
}

/// A record that contradicts the others.
pub(super) fn damaged(reason: impl ToString) -> CodecError {
    CodecError::malformed(WHAT, reason)
}

/// An error unless a condition holds.
pub(super) fn ensure(holds: bool, reason: &str) -> Result<(), CodecError> {
    if holds { Ok(()) } else { Err(damaged(reason)) }
}

impl Stage {
    fn push(self, record: &[u8]) -> Result<Self, CodecError> {
        match self {
            Stage::Empty => match FORMAT.decode(record)? {
                Record::Header(header) => Ok(Stage::Filling(Box::new(Filling::new(header)))),
                _ => Err(damaged("the first record must be the header")),
            },
            Stage::Filling(mut filling) => match codec::decode(WHAT, record)? {
                Record::End => Ok(Stage::Complete(Box::new(filling.complete()?))),
                record => filling.push(record).map(|()| Stage::Filling(filling)),
            },
            Stage::Complete(_) => Err(damaged("there are records after the end mark")),
            Stage::Failed => Err(damaged("an earlier record was invalid")),
        }
    }
}
