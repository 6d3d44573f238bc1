//! What a command came to: every end is a value, replicated like any other.

use serde::{Deserialize, Serialize};

use crate::definition::DefinitionFault;
use crate::ids::{
    EventName, GlobalRevision, InstanceId, MachineName, Revision, StateName, Timestamp, Version,
};
use crate::rejection::Rejection;

/// The answer to one [`Request`](crate::Request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What came of it.
    pub outcome: Outcome,
    /// Whether this is the stored outcome of an earlier request with the same caller's key.
    pub replayed: bool,
    /// The cluster's revision right after it: a read at this one or later sees what it did.
    pub revision: GlobalRevision,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance moved.
    Transitioned(Transitioned),
    /// Nothing changed, for this reason.
    Rejected(Rejection),
    /// The definition is stored.
    Defined(Defined),
    /// The definition is forgotten.
    DefinitionDeleted(DefinitionDeleted),
    /// The instance is created.
    Created(Created),
    /// The instance is deleted.
    Deleted(Deleted),
    /// The instance is pinned to another version.
    Migrated(Migrated),
    /// The transaction happened as a whole: one result per operation, in the same order.
    Committed(Vec<OperationResult>),
    /// The timeouts were looked at.
    Expired(Expired),
    /// The limits are these now.
    Configured,
    /// The account of a sink is as asked.
    SinkChanged {
        /// Dead letters that were marked or discarded; for all else, 1 if anything changed.
        affected: u64,
    },
}

impl Outcome {
    /// The outcome's name in metrics and logs; a rejection's code.
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Transitioned(_) => "transitioned",
            Outcome::Rejected(rejection) => rejection.code(),
            Outcome::Defined(_) => "defined",
            Outcome::DefinitionDeleted(_) => "definition_deleted",
            Outcome::Created(_) => "created",
            Outcome::Deleted(_) => "deleted",
            Outcome::Migrated(_) => "migrated",
            Outcome::Committed(_) => "committed",
            Outcome::Expired(_) => "expired",
            Outcome::Configured => "configured",
            Outcome::SinkChanged { .. } => "sink_changed",
        }
    }
}

/// What one operation of a transaction that happened came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OperationResult {
    /// The instance is created.
    Created(Created),
    /// The instance moved.
    Transitioned(Transitioned),
    /// The instance is deleted.
    Deleted(Deleted),
    /// The precondition held.
    Checked,
}

/// A transition that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transitioned {
    /// The instance that moved.
    pub instance: InstanceId,
    /// The definition's version it is pinned to.
    pub version: Version,
    /// The state it left.
    pub from: StateName,
    /// The state it is in now.
    pub to: StateName,
    /// The event that named the transition, if one did.
    pub event: Option<EventName>,
    /// Its revision now.
    pub revision: Revision,
    /// When, in cluster time.
    pub at: Timestamp,
}

/// A definition that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defined {
    /// The machine.
    pub machine: MachineName,
    /// The version that holds the definition.
    pub version: Version,
    /// Whether the version is new; if not, the newest one was equal already.
    pub created: bool,
    /// What is odd about it, but allowed.
    pub warnings: Vec<DefinitionFault>,
}

/// A definition that was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionDeleted {
    /// The machine.
    pub machine: MachineName,
    /// The versions that were forgotten.
    pub versions: Vec<Version>,
}

/// An instance that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The instance.
    pub instance: InstanceId,
    /// The definition's version it is pinned to.
    pub version: Version,
    /// The state it is in: the initial one.
    pub state: StateName,
    /// When, in cluster time.
    pub at: Timestamp,
}

/// An instance that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The instance.
    pub instance: InstanceId,
    /// The state it was in.
    pub state: StateName,
    /// Its last revision.
    pub revision: Revision,
    /// When, in cluster time.
    pub at: Timestamp,
}

/// An instance that was pinned to another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// The instance.
    pub instance: InstanceId,
    /// The version it was pinned to.
    pub from_version: Version,
    /// The version it is pinned to now.
    pub version: Version,
    /// The state it was in.
    pub from: StateName,
    /// The state it is in now.
    pub to: StateName,
    /// Its revision now.
    pub revision: Revision,
    /// When, in cluster time.
    pub at: Timestamp,
}

/// What came of the timeouts that a leader saw due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// How many fired; the others were no longer, or not yet, what the leader took them for.
    pub fired: u32,
    /// How late the latest of them was, in milliseconds of cluster time.
    pub late_ms_max: u64,
}
