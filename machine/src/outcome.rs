//! What a command came to: every end is a value, replicated like any other.

use serde::{Deserialize, Serialize};

use crate::ids::{EventName, InstanceId, MachineName, Revision, StateName, Timestamp, Version};

/// The answer to one [`Request`](crate::Request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What came of it.
    pub outcome: Outcome,
    /// Whether this is the stored outcome of an earlier request with the same caller's key.
    pub replayed: bool,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance moved.
    Transitioned(Transitioned),
    /// Nothing changed, for this reason.
    Rejected(Rejection),
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
            } => Some((current, *revision)),
            Rejection::UnknownMachine { .. }
            | Rejection::UnknownInstance { .. }
            | Rejection::KeyReused
            | Rejection::RequestExpired => None,
        }
    }

    /// Where the instance may go from where it is, where the reason tells.
    pub fn allowed(&self) -> &[StateName] {
        match self {
            Rejection::IllegalTransition { allowed, .. } => allowed,
            Rejection::UnknownMachine { .. }
            | Rejection::UnknownInstance { .. }
            | Rejection::UnknownState { .. }
            | Rejection::UnknownEvent { .. }
            | Rejection::StateMismatch { .. }
            | Rejection::RevisionMismatch { .. }
            | Rejection::KeyReused
            | Rejection::RequestExpired => &[],
        }
    }
}
