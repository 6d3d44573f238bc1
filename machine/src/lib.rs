//! The pure state machine of Lockstep.
//!
//! Everything the cluster agrees on is decided here: what a [`Definition`] allows, what a
//! [`Command`] does to an [`Instance`], which [`Outcome`] the caller gets, which [`Event`]s a
//! watcher sees, and what a repeated request gets back. Nothing here does IO, reads a clock, uses
//! random numbers or spawns anything: the same batches applied to the same [`State`] give the same
//! replies, the same events and the same [`State::hash`] on every node and in every build.
//!
//! Time comes from the leader's timestamp on each [`EncodedBatch`] and is made monotonic here.
//!
//! The layers, from top to bottom: [`State`] deduplicates requests and executes each command on the *world*
//! (definitions, instances, timers, events). *execute* has one file per command. The rest are the types that
//! these use, the *snapshot* format of the state, and the *backup* file that contains it.

// A rejection is an outcome like any other, created once per request; boxing it would cost the others.
#![allow(clippy::result_large_err)]

mod backup;
pub mod codec;
mod command;
mod definition;
mod duration;
mod event;
mod execute;
mod ids;
mod instance;
pub mod json;
mod level;
mod limits;
mod metadata;
mod name;
mod nearest;
mod outcome;
mod query;
mod rejection;
mod request;
mod requests;
#[macro_use]
mod schema;
mod settings;
mod sink;
mod snapshot;
mod state;
#[cfg(any(test, feature = "testing"))]
mod testing;
mod unit;
mod world;

pub use backup::{
    BACKUP_FORMAT, BackupDecoder, BackupError, BackupHeader, BackupPart, BackupTotals,
    backup_pieces,
};
pub use codec::CodecError;
pub use command::{
    Command, Create, Delete, DeleteDefinition, Expectation, Expiration, Migrate, Operation,
    Precondition, Transaction, Transition, Trigger,
};
pub use definition::{
    Definition, DefinitionFault, DefinitionInvalid, DocumentError, FaultCode, Faults, Move,
    MoveFrom, StateDefinition, TIMEOUT_MS_MAX, TIMEOUT_MS_MIN, TIMEOUT_RANGE, Timeout, check_text,
    triad,
};
pub use duration::{InvalidDuration, duration_in_words, parse_duration, show_duration};
pub use event::{Cause, Compacted, Event, EventCursor, EventFilter, EventKind, InvalidCursor};
pub use ids::{
    EventName, GlobalRevision, IdempotencyKey, InstanceId, InstanceName, MachineName, Revision,
    SinkName, StateName, Timestamp, Version,
};
pub use instance::Instance;
pub use level::{FeatureLevel, UnknownLevel};
pub use limits::Quota;
pub use metadata::{InvalidMetadata, METADATA_BYTES_CEILING, METADATA_KEY_LEN_MAX, Metadata};
pub use name::{IDEMPOTENCY_KEY_LEN_MAX, InvalidName, NAME_LEN_MAX, NameRule, SINK_NAME_LEN_MAX};
pub use nearest::nearest;
pub use outcome::{
    Created, Defined, DefinitionDeleted, Deleted, Expired, Migrated, OUTCOME_FORMAT,
    OperationResult, Outcome, Reply, Transitioned,
};
pub use query::{InstanceView, ListQuery, Page, Totals};
pub use rejection::Rejection;
pub use request::{
    BATCH_FORMAT, DecodedBatch, EncodedBatch, EncodedRequest, Origin, REQUEST_BYTES_MAX,
    REQUEST_FORMAT, RequestBody, SessionId,
};
pub use settings::{Limits, Setting, SettingInfo};
pub use sink::{
    DEAD_LETTER_REASON_BYTES_MAX, DeadLetter, SinkChange, SinkCheckpoint, SinkCommand, SinkRecord,
};
pub use snapshot::{Restore, RestoreError, SNAPSHOT_FORMAT};
pub use state::{State, StateHash};
#[cfg(any(test, feature = "testing"))]
pub use testing::{Batch, Request, library_words};
pub use unit::Unit;
