//! Outcomes: the result of each command, replicated like the state.

use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::codec::Format;
use crate::definition::DefinitionFault;
use crate::ids::{
    EventName, GlobalRevision, InstanceId, MachineName, Revision, StateName, Timestamp, Version,
};
use crate::level::FeatureLevel;
use crate::rejection::Rejection;
use crate::settings::Limits;

/// The form of an [`Outcome`] that a leader sends back to the node that forwarded the request.
pub const OUTCOME_FORMAT: Format = Format::new("outcome", 1);

/// The answer to one [`EncodedRequest`](crate::EncodedRequest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<O = Outcome> {
    /// The outcome.
    pub outcome: O,
    /// Whether this is the stored outcome of an earlier request with the same caller's key.
    pub replayed: bool,
    /// The cluster's revision after the request: a read at this revision or later sees its changes.
    pub revision: GlobalRevision,
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Outcome {
    /// The instance moved.
    #[n(0)]
    Transitioned(#[n(0)] Transitioned),
    /// Nothing changed, for this reason.
    #[n(1)]
    Rejected(#[n(0)] Rejection),
    /// The definition is stored.
    #[n(2)]
    Defined(#[n(0)] Defined),
    /// The definition was deleted.
    #[n(3)]
    DefinitionDeleted(#[n(0)] DefinitionDeleted),
    /// The instance is created.
    #[n(4)]
    Created(#[n(0)] Created),
    /// The instance is deleted.
    #[n(5)]
    Deleted(#[n(0)] Deleted),
    /// The instance is pinned to another version.
    #[n(6)]
    Migrated(#[n(0)] Migrated),
    /// The transaction was executed: one result per operation, in the same order.
    #[n(7)]
    Committed(#[n(0)] Vec<OperationResult>),
    /// The timeouts were checked.
    #[n(8)]
    Expired(#[n(0)] Expired),
    /// The cluster settings after the update.
    #[n(9)]
    SettingsUpdated(#[n(0)] Box<Limits>),
    /// The record of a sink was changed.
    #[n(10)]
    SinkChanged {
        /// The number of dead letters marked or discarded; for other changes, 1 if anything changed.
        #[n(0)]
        affected: u64,
    },
    /// The feature level is at least the one that was asked for.
    #[n(11)]
    LevelRaised {
        /// The level now.
        #[n(0)]
        level: FeatureLevel,
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
            Outcome::SettingsUpdated(_) => "settings_updated",
            Outcome::SinkChanged { .. } => "sink_changed",
            Outcome::LevelRaised { .. } => "level_raised",
        }
    }
}

/// The result of one operation of a transaction; in JSON an object with one field.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cbor(flat)]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// The instance is created.
    #[n(0)]
    Created(#[n(0)] Created),
    /// The instance moved.
    #[n(1)]
    Transitioned(#[n(0)] Transitioned),
    /// The instance is deleted.
    #[n(2)]
    Deleted(#[n(0)] Deleted),
    /// The precondition held; in JSON `true`.
    #[n(3)]
    #[serde(serialize_with = "held")]
    Checked,
}

fn held<S: Serializer>(s: S) -> Result<S::Ok, S::Error> {
    s.serialize_bool(true)
}

/// A transition that was made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transitioned {
    /// The instance that moved.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The definition's version it is pinned to.
    #[n(1)]
    pub version: Version,
    /// The state it left.
    #[n(2)]
    pub from: StateName,
    /// The state it is in now.
    #[n(3)]
    pub to: StateName,
    /// The event that named the transition, if one did.
    #[n(4)]
    pub event: Option<EventName>,
    /// Its revision now.
    #[n(5)]
    pub revision: Revision,
    /// When, in cluster time.
    #[n(6)]
    pub at: Timestamp,
}

/// A definition that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Defined {
    /// The machine.
    #[n(0)]
    pub machine: MachineName,
    /// The version that holds the definition.
    #[n(1)]
    pub version: Version,
    /// Whether the version is new; if not, the newest one was equal already.
    #[n(2)]
    pub created: bool,
    /// Warnings: what is suspicious but allowed.
    #[n(3)]
    pub warnings: Vec<DefinitionFault>,
}

/// A definition that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DefinitionDeleted {
    /// The machine.
    #[n(0)]
    pub machine: MachineName,
    /// The versions that were deleted.
    #[n(1)]
    pub versions: Vec<Version>,
}

/// An instance that was created.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Created {
    /// The instance.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The definition's version it is pinned to.
    #[n(1)]
    pub version: Version,
    /// The state it is in: the initial one.
    #[n(2)]
    pub state: StateName,
    /// When, in cluster time.
    #[n(3)]
    pub at: Timestamp,
}

/// An instance that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted {
    /// The instance.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The state it was in.
    #[n(1)]
    pub state: StateName,
    /// Its last revision.
    #[n(2)]
    pub revision: Revision,
    /// When, in cluster time.
    #[n(3)]
    pub at: Timestamp,
}

/// An instance that was pinned to another version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Migrated {
    /// The instance.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The version it was pinned to.
    #[n(1)]
    pub from_version: Version,
    /// The version it is pinned to now.
    #[n(2)]
    pub version: Version,
    /// The state it was in.
    #[n(3)]
    pub from: StateName,
    /// The state it is in now.
    #[n(4)]
    pub to: StateName,
    /// Its revision now.
    #[n(5)]
    pub revision: Revision,
    /// When, in cluster time.
    #[n(6)]
    pub at: Timestamp,
}

/// The result of an [`Expire`](crate::Command::Expire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Expired {
    /// The number that fired. The others were no longer, or not yet, due when the command was applied.
    #[n(0)]
    pub fired: u32,
    /// The maximum lateness among them, in milliseconds of cluster time.
    #[n(1)]
    pub late_ms_max: u64,
}
