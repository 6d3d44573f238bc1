//! What a client asks for, and how it travels through the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::definition::Definition;
use crate::ids::{
    EventName, InstanceId, InvalidName, MachineName, Revision, StateName, Timestamp, Version,
};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::sink::SinkCommand;

/// One log entry's worth of requests, under one leader's stamp.
///
/// The requests are applied in order, each with its own outcome: one that is rejected changes
/// nothing for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The proposing leader's clock. [`State::apply`](crate::State::apply) never lets time go back.
    pub stamp: Timestamp,
    /// The requests, oldest first.
    pub requests: Vec<Request>,
}

/// A command with what makes it safe to send twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which node took the request in, and as its how-manieth.
    pub origin: Origin,
    /// The caller's own key, when it gave one.
    pub key: Option<IdempotencyKey>,
    /// What to do.
    pub command: Command,
}

/// A run of a node process, as the source of a numbered sequence of requests.
///
/// Drawn at random when a node starts: a restarted node is a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Where a request entered the cluster: the request id of RIFL (Lee et al., SOSP 2015).
///
/// The state keeps one outcome per request that is still outstanding, not one per request of the
/// last minutes: everything below `answered_below` is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session of the node that took the request in.
    pub session: SessionId,
    /// The request's number in that session; the first is 1.
    pub sequence: u64,
    /// All requests of the session below this number are answered and will not be sent again.
    pub answered_below: u64,
}

/// What the state machine can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Move an instance along one transition.
    Transition(Transition),
    /// Store a definition: the machine's first version, or its next one.
    Define(Arc<Definition>),
    /// Forget a definition.
    DeleteDefinition(DeleteDefinition),
    /// Create an instance.
    Create(Create),
    /// Delete an instance.
    Delete(Delete),
    /// Move an instance to another version of its definition.
    Migrate(Migrate),
    /// Do several things, all or none.
    Transaction(Transaction),
    /// Fire timeouts that are due: proposed by the leader, checked again when applied.
    Expire(Vec<Expiration>),
    /// Replace the limits: proposed by the leader when its configured ones differ.
    Configure(Box<Limits>),
    /// Keep account of a sink: proposed by the leader, which runs it, and for operators.
    Sink(Box<SinkCommand>),
}

impl Command {
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
            Command::Configure(_) => "configure",
            Command::Sink(_) => "sink",
        }
    }
}

/// Moves an instance along one transition, if its definition and the caller's expectations allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transition {
    /// The instance to move.
    pub instance: InstanceId,
    /// Where to, or by what.
    pub trigger: Trigger,
    /// Refuse unless the instance is in this state.
    pub expect_state: Option<StateName>,
    /// Refuse unless the instance is at this revision.
    pub expect_revision: Option<Revision>,
    /// Who and why: kept in the instance's history and in the event.
    pub metadata: Metadata,
}

/// What names the transition to take.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The state to go to.
    To(StateName),
    /// The event that happened.
    Event(EventName),
}

/// Forgets a definition that no instance uses. Its version numbers are never given again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeleteDefinition {
    /// The machine.
    pub machine: MachineName,
    /// One version of it, or all.
    pub version: Option<Version>,
}

/// Creates an instance in its definition's initial state, at revision 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Create {
    /// Its id. The machine draws no random numbers: who wants one generated does it before.
    pub instance: InstanceId,
    /// The version to pin it to, or the newest.
    pub version: Option<Version>,
    /// Kept with the instance, where a list can ask for it, and in the event.
    pub metadata: Metadata,
}

/// Deletes an instance, with its history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delete {
    /// The instance to delete.
    pub instance: InstanceId,
    /// Refuse unless the instance is in this state.
    pub expect_state: Option<StateName>,
    /// Refuse unless the instance is at this revision.
    pub expect_revision: Option<Revision>,
    /// Who and why: kept in the event.
    pub metadata: Metadata,
}

/// Pins an instance to another version of its definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Migrate {
    /// The instance to migrate.
    pub instance: InstanceId,
    /// The version to pin it to, or the newest.
    pub version: Option<Version>,
    /// Where instances in a state of the old version go, by that state's name. A state that is not
    /// mentioned keeps its name.
    pub states: BTreeMap<StateName, StateName>,
    /// Refuse unless the instance is in this state.
    pub expect_state: Option<StateName>,
    /// Refuse unless the instance is at this revision.
    pub expect_revision: Option<Revision>,
    /// Who and why: kept in the instance's history and in the event.
    pub metadata: Metadata,
}

/// Several operations that happen together or not at all, in one revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transaction {
    /// The operations. Each instance may be changed by one of them only.
    pub operations: Vec<Operation>,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Operation {
    /// Create an instance.
    Create(Create),
    /// Move an instance along one transition.
    Transition(Transition),
    /// Delete an instance.
    Delete(Delete),
    /// Change nothing, but let the transaction fail unless something holds before it.
    Check(Precondition),
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

/// Something that must hold before a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Precondition {
    /// The instance it is about.
    pub instance: InstanceId,
    /// What must hold.
    pub expect: Expectation,
}

/// What must hold for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Expectation {
    /// It exists.
    Exists,
    /// It does not exist.
    Missing,
    /// It exists and is in this state.
    InState(StateName),
    /// It exists and is at this revision.
    AtRevision(Revision),
}

/// A timeout that a leader saw due.
///
/// Fires only if the instance is still at this revision with this deadline, and the deadline has
/// come in cluster time; otherwise it does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Expiration {
    /// The instance.
    pub instance: InstanceId,
    /// The revision at which it entered the state.
    pub revision: Revision,
    /// When the timeout is due, in cluster time.
    pub deadline: Timestamp,
}

/// A caller's own name for a request: the same key gets the first outcome again.
///
/// 1 to 128 printable ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key accepted, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Parses a key.
    pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
        let value = value.as_ref();
        let reason = if value.is_empty() {
            "it is empty"
        } else if value.len() > Self::LEN_MAX {
            "it is longer than 128 bytes"
        } else if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            "only printable ASCII characters are allowed"
        } else {
            return Ok(Self(value.into()));
        };
        Err(InvalidName {
            kind: "idempotency key",
            value: value.chars().take(80).collect(),
            reason,
        })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
