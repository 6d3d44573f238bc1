//! The pure state machine of Lockstep.
//!
//! Everything the cluster agrees on is decided here: what a [`Definition`] allows, what a
//! [`Command`] does to an [`Instance`], which [`Outcome`] the caller gets, and what a repeated
//! request gets back. Nothing here does IO, reads a clock, draws a random number or spawns
//! anything: the same batches applied to the same [`State`] give the same replies and the same
//! [`State::hash`] on every node, for ever.
//!
//! Time enters as the leader's stamp on each [`Batch`] and is kept monotonic here.

mod command;
mod definition;
mod ids;
mod instance;
mod outcome;
mod requests;
mod snapshot;
mod state;
mod transition;

pub use command::{
    Batch, Command, IdempotencyKey, Origin, Request, SessionId, Transition, Trigger,
};
pub use definition::{Definition, DefinitionFault, DefinitionInvalid, Move};
pub use ids::{
    EventName, InstanceId, InvalidName, MachineName, Revision, StateName, Timestamp, Version,
};
pub use instance::Instance;
pub use outcome::{Outcome, Rejection, Reply, Transitioned};
pub use snapshot::{Restore, RestoreError, SNAPSHOT_FORMAT};
pub use state::{Limits, State, StateHash};
