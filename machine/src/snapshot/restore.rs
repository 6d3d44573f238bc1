//! From records to a state, one record at a time.

use super::filling::Filling;
use super::{FORMAT, Header, Record};
use crate::codec::{self, CodecError};
use crate::state::State;

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
#[derive(Debug)]
pub struct Restore {
    records: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Empty,
    Filling(Box<Filling>),
    Complete(Box<State>),
    Failed,
}

impl Restore {
    /// Starts from nothing.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            records: 0,
            stage: Stage::Empty,
        }
    }

    /// Takes the next record in.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Newer`] if another build's format, [`RestoreError::Record`] with the
    /// record's number if it is damaged, out of place, or contradicts an earlier one.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        self.stage = stage.push(record).map_err(|fault| match fault {
            Fault::Newer(error) => RestoreError::Newer(error),
            Fault::Damaged(reason) => RestoreError::Record {
                record: self.records,
                reason,
            },
        })?;
        self.records += 1;
        Ok(())
    }

    /// The state, once every record is in.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Truncated`] if the end mark is missing, or an earlier record was refused.
    pub fn finish(self) -> Result<State, RestoreError> {
        match self.stage {
            Stage::Complete(state) => Ok(*state),
            _ => Err(RestoreError::Truncated {
                records: self.records,
            }),
        }
    }
}

pub(super) enum Fault {
    Newer(CodecError),
    Damaged(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Damaged(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Fault::Damaged(reason.to_owned())
    }
}

/// Refuses the record unless something holds.
pub(super) fn ensure(holds: bool, reason: &str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(reason.into()) }
}

/// A record that cannot be read is damaged, or a newer build's.
impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Malformed { reason, .. } => Fault::Damaged(reason),
            newer => Fault::Newer(newer),
        }
    }
}

fn decode_header(bytes: &[u8]) -> Result<Header, Fault> {
    match FORMAT.decode(bytes)? {
        Record::Header(header) => Ok(header),
        _ => Err("the first record must be the header".into()),
    }
}

impl Stage {
    fn push(self, record: &[u8]) -> Result<Self, Fault> {
        match self {
            Stage::Empty => Ok(Stage::Filling(Box::new(Filling::new(decode_header(
                record,
            )?)))),
            Stage::Filling(mut filling) => match codec::decode("snapshot record", record)? {
                Record::End => Ok(Stage::Complete(Box::new(filling.complete()?))),
                record => filling.push(record).map(|()| Stage::Filling(filling)),
            },
            Stage::Complete(_) => Err("there are records after the end mark".into()),
            Stage::Failed => Err("an earlier record was invalid".into()),
        }
    }
}
