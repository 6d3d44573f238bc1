//! The commands: everything that can change the state, as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::Deserialize;

use crate::definition::Definition;
use crate::ids::{EventName, InstanceId, MachineName, Revision, StateName, Timestamp, Version};
use crate::json;
use crate::level::FeatureLevel;
use crate::metadata::Metadata;
use crate::schema;
use crate::settings::Setting;
use crate::sink::SinkCommand;

/// A command of the state machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(flat)]
pub enum Command {
    /// Move an instance along one transition.
    #[n(0)]
    Transition(#[n(0)] Transition),
    /// Store a definition: the machine's first version, or its next one.
    #[n(1)]
    Define(#[cbor(n(0), with = "crate::codec::shared")] Arc<Definition>),
    /// Delete a definition.
    #[n(2)]
    DeleteDefinition(#[n(0)] DeleteDefinition),
    /// Create an instance.
    #[n(3)]
    Create(#[n(0)] Create),
    /// Delete an instance.
    #[n(4)]
    Delete(#[n(0)] Delete),
    /// Move an instance to another version of its definition.
    #[n(5)]
    Migrate(#[n(0)] Migrate),
    /// Execute several operations atomically.
    #[n(6)]
    Transaction(#[n(0)] Transaction),
    /// Fire timeouts that are due: proposed by the leader, checked again when applied.
    #[n(7)]
    Expire(#[n(0)] Vec<Expiration>),
    /// Change the cluster settings that are named.
    #[n(8)]
    UpdateSettings(#[n(0)] BTreeMap<Setting, u64>),
    /// Change the record of a sink: proposed by the leader, which runs the sink, or by an operator.
    #[n(9)]
    Sink(#[n(0)] Box<SinkCommand>),
    /// Raise the feature level: proposed by the leader, once every member supports it.
    #[n(10)]
    RaiseLevel(#[n(0)] FeatureLevel),
}

impl Command {
    /// The number of kinds of commands in this build: in the binary form they are numbered from 0.
    pub(crate) const KINDS: u32 = 11;
    /// The number of [`Command::Transition`].
    pub(crate) const TRANSITION: u32 = 0;
    /// The numbers of those that hold values of several kinds: definitions, transactions, settings,
    /// sinks, levels.
    pub(crate) const NESTED_KINDS: [u32; 5] = [1, 6, 8, 9, 10];

    /// The command's name in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Command::Transition(_) => "transition",
            Command::Define(_) => "define",
            Command::DeleteDefinition(_) => "delete_definition",
            Command::Create(_) => "create",
            Command::Delete(_) => "delete",
            Command::Migrate(_) => "migrate",
            Command::Transaction(_) => "transaction",
            Command::Expire(_) => "expire",
            Command::UpdateSettings(_) => "update_settings",
            Command::Sink(_) => "sink",
            Command::RaiseLevel(_) => "raise_level",
        }
    }
}

/// Moves an instance along one transition, if its definition and the caller's expectations allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[serde(try_from = "TransitionFields")]
pub struct Transition {
    /// The instance to move.
    #[n(0)]
    pub instance: InstanceId,
    /// The target state or the event.
    #[n(1)]
    pub trigger: Trigger,
    /// Reject unless the instance is in this state.
    #[n(2)]
    pub expect_state: Option<StateName>,
    /// Reject unless the instance is at this revision.
    #[n(3)]
    pub expect_revision: Option<Revision>,
    /// Who and why: kept in the instance's history and in the event.
    #[n(4)]
    pub metadata: Metadata,
}

impl Transition {
    /// A transition without expectations or metadata.
    pub fn new(instance: InstanceId, trigger: Trigger) -> Self {
        Self {
            instance,
            trigger,
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }
    }
}

/// What names the transition to take.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(flat)]
pub enum Trigger {
    /// The state to go to.
    #[n(0)]
    To(#[n(0)] StateName),
    /// The event that triggers the transition.
    #[n(1)]
    Event(#[n(0)] EventName),
}

/// The fields of a [`Transition`] in JSON.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct TransitionFields {
    /// The instance to move: `machine/name`.
    id: InstanceId,
    /// The target state. Give either this or `event`.
    to: Option<StateName>,
    /// The event that triggers the transition. Give either this or `to`.
    event: Option<EventName>,
    /// Reject unless the instance is in this state.
    expect_state: Option<StateName>,
    /// Reject unless the instance is at this revision.
    expect_revision: Option<Revision>,
    /// Who and why: kept in the instance's history and in the event.
    #[serde(default)]
    metadata: Metadata,
}

schema::as_fields!(Transition, TransitionFields);

impl TryFrom<TransitionFields> for Transition {
    type Error = &'static str;

    fn try_from(it: TransitionFields) -> Result<Self, Self::Error> {
        let trigger = match (it.to, it.event) {
            (Some(to), None) => Trigger::To(to),
            (None, Some(event)) => Trigger::Event(event),
            (Some(_), Some(_)) => return Err("give either \"to\" or \"event\", not both"),
            (None, None) => return Err("one of \"to\" and \"event\" is missing"),
        };
        Ok(Self {
            instance: it.id,
            trigger,
            expect_state: it.expect_state,
            expect_revision: it.expect_revision,
            metadata: it.metadata,
        })
    }
}

/// Deletes a definition that no instance uses. Its version numbers are never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct DeleteDefinition {
    /// The machine.
    #[n(0)]
    pub machine: MachineName,
    /// One version of it, or all.
    #[n(1)]
    pub version: Option<Version>,
}

/// Creates an instance in its definition's initial state, at revision 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its id. The state machine generates no random ids; the caller must do that.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The version to pin it to, or the newest.
    #[n(1)]
    pub version: Option<Version>,
    /// Stored with the instance, so that lists can filter by it, and in the event.
    #[n(2)]
    #[serde(default)]
    pub metadata: Metadata,
}

/// Deletes an instance, with its history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The instance to delete.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// Reject unless the instance is in this state.
    #[n(1)]
    pub expect_state: Option<StateName>,
    /// Reject unless the instance is at this revision.
    #[n(2)]
    pub expect_revision: Option<Revision>,
    /// Who and why: kept in the event.
    #[n(3)]
    #[serde(default)]
    pub metadata: Metadata,
}

/// Pins an instance to another version of its definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The instance to migrate.
    #[n(0)]
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The version to pin it to, or the newest.
    #[n(1)]
    pub version: Option<Version>,
    /// Maps states of the old version to states of the new one. A state that is not listed keeps its name.
    #[n(2)]
    #[serde(default, deserialize_with = "json::mapping")]
    pub states: BTreeMap<StateName, StateName>,
    /// Reject unless the instance is in this state.
    #[n(3)]
    pub expect_state: Option<StateName>,
    /// Reject unless the instance is at this revision.
    #[n(4)]
    pub expect_revision: Option<Revision>,
    /// Who and why: kept in the instance's history and in the event.
    #[n(5)]
    #[serde(default)]
    pub metadata: Metadata,
}

/// Several operations that happen together or not at all, in one revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// The operations. At most one of them may change a given instance.
    #[n(0)]
    pub operations: Vec<Operation>,
}

/// One operation of a transaction; in JSON an object with one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cbor(flat)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Create an instance.
    #[n(0)]
    #[serde(deserialize_with = "json::object")]
    Create(#[n(0)] Create),
    /// Move an instance along one transition.
    #[n(1)]
    #[serde(deserialize_with = "json::object")]
    Transition(#[n(0)] Transition),
    /// Delete an instance.
    #[n(2)]
    #[serde(deserialize_with = "json::object")]
    Delete(#[n(0)] Delete),
    /// Change nothing, but fail the transaction unless a condition holds before it.
    #[n(3)]
    #[serde(deserialize_with = "json::object")]
    Check(#[n(0)] Precondition),
}

impl Operation {
    /// The instance it names.
    pub fn instance(&self) -> &InstanceId {
        match self {
            Operation::Create(it) => &it.instance,
            Operation::Transition(it) => &it.instance,
            Operation::Delete(it) => &it.instance,
            Operation::Check(it) => &it.instance,
        }
    }
}

/// A condition that must hold before a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Deserialize)]
#[serde(try_from = "PreconditionFields")]
pub struct Precondition {
    /// The instance it is about.
    #[n(0)]
    pub instance: InstanceId,
    /// What must hold.
    #[n(1)]
    pub expect: Expectation,
}

/// A condition on an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(flat)]
pub enum Expectation {
    /// It exists.
    #[n(0)]
    Exists,
    /// It does not exist.
    #[n(1)]
    Missing,
    /// It exists and is in this state.
    #[n(2)]
    InState(#[n(0)] StateName),
    /// It exists and is at this revision.
    #[n(3)]
    AtRevision(#[n(0)] Revision),
}

/// The fields of a [`Precondition`] in JSON: the id, and exactly one of the others.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
struct PreconditionFields {
    /// The instance it is about: `machine/name`.
    id: InstanceId,
    /// Whether it exists.
    exists: Option<bool>,
    /// The state it is in.
    state: Option<StateName>,
    /// The revision it is at.
    revision: Option<Revision>,
}

schema::as_fields!(Precondition, PreconditionFields);

impl TryFrom<PreconditionFields> for Precondition {
    type Error = &'static str;

    fn try_from(it: PreconditionFields) -> Result<Self, Self::Error> {
        let expect = match (it.exists, it.state, it.revision) {
            (Some(true), None, None) => Expectation::Exists,
            (Some(false), None, None) => Expectation::Missing,
            (None, Some(state), None) => Expectation::InState(state),
            (None, None, Some(revision)) => Expectation::AtRevision(revision),
            _ => return Err("a check has exactly one of \"exists\", \"state\" and \"revision\""),
        };
        Ok(Self {
            instance: it.id,
            expect,
        })
    }
}

/// A timeout that the leader found to be due.
///
/// Fires only if the instance is still at this revision with this deadline, and the deadline has
/// come in cluster time; otherwise it does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Expiration {
    /// The instance.
    #[n(0)]
    pub instance: InstanceId,
    /// The revision at which it entered the state.
    #[n(1)]
    pub revision: Revision,
    /// When the timeout is due, in cluster time.
    #[n(2)]
    pub deadline: Timestamp,
}
