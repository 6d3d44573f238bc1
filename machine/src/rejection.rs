//! Why a command changed nothing: every reason, with its stable code.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, Serialize};

use crate::definition::DefinitionInvalid;
use crate::event::EventCursor;
use crate::ids::{EventName, InstanceId, MachineName, Revision, SinkName, StateName, Version};
use crate::limits::Quota;

/// Why a command changed nothing.
///
/// Each has a stable [`code`](Rejection::code) and a text for people (its `Display`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No machine of that name is defined.
    #[error("there is no machine {machine:?}")]
    UnknownMachine {
        /// The name asked for.
        machine: MachineName,
    },
    /// The machine has no such instance.
    #[error("there is no instance {instance:?}")]
    UnknownInstance {
        /// The id asked for.
        instance: InstanceId,
    },
    /// The machine has no such state.
    #[error(
        "machine {machine:?} has no state {state:?}; its states are {}",
        list(known)
    )]
    UnknownState {
        /// The machine.
        machine: MachineName,
        /// The state asked for.
        state: StateName,
        /// The states there are.
        known: Vec<StateName>,
        /// The state the instance is in.
        current: StateName,
        /// The instance's revision.
        revision: Revision,
    },
    /// No transition of the current state has this event.
    #[error("event {event:?} does nothing in state {current:?} of {instance}")]
    UnknownEvent {
        /// The instance.
        instance: InstanceId,
        /// The event asked for.
        event: EventName,
        /// The state the instance is in.
        current: StateName,
        /// The instance's revision.
        revision: Revision,
    },
    /// The definition has no transition from here to there.
    #[error(
        "{instance} cannot go from {from:?} to {to:?}; allowed from {from:?}: {}",
        list(allowed)
    )]
    IllegalTransition {
        /// The instance.
        instance: InstanceId,
        /// The state it is in.
        from: StateName,
        /// The state asked for.
        to: StateName,
        /// Where it may go from here.
        allowed: Vec<StateName>,
        /// The instance's revision.
        revision: Revision,
    },
    /// The instance is not in the state the caller expected.
    #[error("{instance} is in state {current:?} at revision {revision}, not in {expected:?}")]
    StateMismatch {
        /// The instance.
        instance: InstanceId,
        /// What the caller expected.
        expected: StateName,
        /// The state it is in.
        current: StateName,
        /// The instance's revision.
        revision: Revision,
    },
    /// The instance is not at the revision the caller expected.
    #[error(
        "{instance} is at revision {revision} in state {current:?}, not at revision {expected}"
    )]
    RevisionMismatch {
        /// The instance.
        instance: InstanceId,
        /// What the caller expected.
        expected: Revision,
        /// The state it is in.
        current: StateName,
        /// The instance's revision.
        revision: Revision,
    },
    /// The caller's key was used before, for something else.
    #[error("the idempotency key was used before, for a different request")]
    KeyReused,
    /// The request's number was answered before, or its session is forgotten: it must not run.
    #[error(
        "the request was given up before it was executed; nothing was changed by this copy of it"
    )]
    RequestExpired,
    /// The definition has faults: every one of them.
    #[error(transparent)]
    InvalidDefinition(DefinitionInvalid),
    /// The machine has no such version.
    #[error("machine {machine:?} has no version {version}; its newest is {newest}")]
    UnknownVersion {
        /// The machine.
        machine: MachineName,
        /// The version asked for.
        version: Version,
        /// The newest there is.
        newest: Version,
    },
    /// Instances still use the definition.
    #[error("{instances} instance(s) still use version {version} of machine {machine:?}")]
    DefinitionInUse {
        /// The machine.
        machine: MachineName,
        /// The first version that is used.
        version: Version,
        /// How many instances use it.
        instances: u64,
    },
    /// The machine, or the instance, is part of every cluster and cannot be changed in this way.
    #[error("{name} is built in: it cannot be redefined or deleted")]
    BuiltIn {
        /// What is built in.
        name: String,
    },
    /// There is an instance of that id already.
    #[error("{instance} exists already, in state {current:?} at revision {revision}")]
    InstanceExists {
        /// The instance.
        instance: InstanceId,
        /// The state it is in.
        current: StateName,
        /// Its revision.
        revision: Revision,
    },
    /// The instance is pinned to that version already.
    #[error("{instance} is at version {version} already")]
    AlreadyAtVersion {
        /// The instance.
        instance: InstanceId,
        /// The version.
        version: Version,
        /// The state it is in.
        current: StateName,
        /// Its revision.
        revision: Revision,
    },
    /// The state that the instance would be in does not exist in the version asked for.
    #[error(
        "{instance} is in state {current:?}, which would become {state:?}; version {version} has no such state: map {current:?} to one of {}",
        list(known)
    )]
    UnmappedState {
        /// The instance.
        instance: InstanceId,
        /// The version asked for.
        version: Version,
        /// The state it would be in.
        state: StateName,
        /// The states there are in that version.
        known: Vec<StateName>,
        /// The state it is in.
        current: StateName,
        /// Its revision.
        revision: Revision,
    },
    /// A limit of the cluster is reached.
    #[error("there would be {asked} {}; at most {max} are allowed", quota.noun())]
    QuotaExceeded {
        /// Which limit.
        quota: Quota,
        /// How many there would be.
        asked: u64,
        /// How many there may be.
        max: u64,
    },
    /// The transaction has no operations.
    #[error("the transaction has no operations")]
    EmptyTransaction,
    /// Two operations of the transaction would change the same instance.
    #[error(
        "operations {first} and {second} both change {instance}; one transaction changes an instance once"
    )]
    InstanceTwice {
        /// The instance.
        instance: InstanceId,
        /// The place of the first operation, from 0.
        first: u32,
        /// The place of the second operation, from 0.
        second: u32,
    },
    /// One operation of the transaction was rejected, so none of them happened.
    #[error("operation {position}: {reason}")]
    OperationFailed {
        /// The operation's place, from 0.
        position: u32,
        /// Why it was rejected; never another operation's failure.
        #[serde(deserialize_with = "reason")]
        reason: Box<Rejection>,
    },
    /// A leader of a later term writes to the sink: who asked no longer leads.
    #[error("a leader of term {term} writes to sink {sink:?}")]
    SinkFenced {
        /// The sink.
        sink: SinkName,
        /// The latest term in which a leader claimed it.
        term: u64,
    },
    /// The sink has no dead letter for that event.
    #[error("sink {sink:?} has no dead letter {}-{}", cursor.revision, cursor.position)]
    UnknownDeadLetter {
        /// The sink.
        sink: SinkName,
        /// The event's place.
        cursor: EventCursor,
    },
}

/// Reads a reason, which holds no reason of its own: bytes that say otherwise could nest without end,
/// and the reader's stack has one.
fn reason<'de, D: Deserializer<'de>>(d: D) -> Result<Box<Rejection>, D::Error> {
    thread_local! {
        static READING: Cell<bool> = const { Cell::new(false) };
    }
    if READING.replace(true) {
        return Err(serde::de::Error::custom("a reason within a reason"));
    }
    let read = Rejection::deserialize(d);
    READING.set(false);
    read.map(Box::new)
}

fn list(names: &[StateName]) -> String {
    if names.is_empty() {
        return "nothing (it is final)".to_owned();
    }
    names
        .iter()
        .map(StateName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

impl Rejection {
    /// The stable code: snake case, the same in HTTP problems, gRPC and the command line.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::UnknownMachine { .. } => "unknown_machine",
            Rejection::UnknownInstance { .. } => "unknown_instance",
            Rejection::UnknownState { .. } => "unknown_state",
            Rejection::UnknownEvent { .. } => "unknown_event",
            Rejection::IllegalTransition { .. } => "illegal_transition",
            Rejection::StateMismatch { .. } => "state_mismatch",
            Rejection::RevisionMismatch { .. } => "revision_mismatch",
            Rejection::KeyReused => "idempotency_key_reused",
            Rejection::RequestExpired => "request_expired",
            Rejection::InvalidDefinition(_) => "invalid_definition",
            Rejection::UnknownVersion { .. } => "unknown_version",
            Rejection::DefinitionInUse { .. } => "definition_in_use",
            Rejection::BuiltIn { .. } => "built_in",
            Rejection::InstanceExists { .. } => "instance_exists",
            Rejection::AlreadyAtVersion { .. } => "already_at_version",
            Rejection::UnmappedState { .. } => "unmapped_state",
            Rejection::QuotaExceeded { quota, .. } => quota.code(),
            Rejection::EmptyTransaction => "empty_transaction",
            Rejection::InstanceTwice { .. } => "instance_twice",
            Rejection::OperationFailed { .. } => "operation_failed",
            Rejection::SinkFenced { .. } => "sink_fenced",
            Rejection::UnknownDeadLetter { .. } => "unknown_dead_letter",
        }
    }

    /// The state the instance is in and its revision, where the reason tells.
    pub fn current(&self) -> Option<(&StateName, Revision)> {
        match self {
            Rejection::UnknownState {
                current, revision, ..
            }
            | Rejection::UnknownEvent {
                current, revision, ..
            }
            | Rejection::IllegalTransition {
                from: current,
                revision,
                ..
            }
            | Rejection::StateMismatch {
                current, revision, ..
            }
            | Rejection::RevisionMismatch {
                current, revision, ..
            }
            | Rejection::InstanceExists {
                current, revision, ..
            }
            | Rejection::AlreadyAtVersion {
                current, revision, ..
            }
            | Rejection::UnmappedState {
                current, revision, ..
            } => Some((current, *revision)),
            Rejection::OperationFailed { reason, .. } => reason.current(),
            _ => None,
        }
    }

    /// Where the instance may go from where it is, where the reason tells.
    pub fn allowed(&self) -> &[StateName] {
        match self {
            Rejection::IllegalTransition { allowed, .. } => allowed,
            Rejection::OperationFailed { reason, .. } => reason.allowed(),
            _ => &[],
        }
    }
}
