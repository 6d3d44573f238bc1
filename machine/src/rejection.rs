//! Why a command changed nothing: every reason, with its stable code.

use minicbor::decode::Error as DecodeError;
use minicbor::{Decode, Decoder, Encode};

use crate::definition::DefinitionInvalid;
use crate::event::EventCursor;
use crate::ids::{EventName, InstanceId, MachineName, Revision, SinkName, StateName, Version};
use crate::limits::Quota;
use crate::settings::Setting;

/// How many names a message lists: a definition may have thousands.
const NAMED_MAX: usize = 16;

/// The number of [`Rejection::OperationFailed`] in the binary form.
const OPERATION_FAILED: u32 = 19;

/// The events that an instance's state allows, in order of name; unset until they are added.
pub type AllowedEvents = Option<Box<[EventName]>>;

/// Why a command changed nothing.
///
/// Each has a stable [`code`](Rejection::code) and a human-readable message (its `Display`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(flat)]
#[allow(
    missing_docs,
    reason = "the text of a variant says what its fields are"
)]
pub enum Rejection {
    /// No machine of that name is defined.
    #[error("there is no machine {machine:?}")]
    #[n(0)]
    UnknownMachine {
        #[n(0)]
        machine: MachineName,
    },
    /// The machine has no such instance.
    #[error("there is no instance {instance:?}")]
    #[n(1)]
    UnknownInstance {
        #[n(0)]
        instance: InstanceId,
    },
    /// The machine has no such state.
    #[error(
        "machine {machine:?} has no state {state:?}; its states are {}",
        list(known, "none")
    )]
    #[n(2)]
    UnknownState {
        #[n(0)]
        machine: MachineName,
        #[n(1)]
        state: StateName,
        #[n(2)]
        known: Vec<StateName>,
        #[n(3)]
        current: StateName,
        #[n(4)]
        revision: Revision,
    },
    /// No transition from the current state has this event.
    #[error(
        "{instance} is in state {current:?}, where event {event:?} is not allowed{}",
        after_unknown(events.as_deref())
    )]
    #[n(3)]
    UnknownEvent {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        event: EventName,
        #[n(2)]
        current: StateName,
        #[n(3)]
        revision: Revision,
        /// The events that are, in order of name. Not replicated: added by
        /// [`State::name_events`](crate::State::name_events) where the request entered.
        #[cbor(skip)]
        events: AllowedEvents,
    },
    /// The definition has no transition from here to there.
    #[error(
        "{instance} cannot go from {from:?} to {to:?}; allowed from {from:?}: {}{}",
        list(allowed, "none (the state is final)"),
        after_illegal(events.as_deref())
    )]
    #[n(4)]
    IllegalTransition {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        from: StateName,
        #[n(2)]
        to: StateName,
        #[n(3)]
        allowed: Vec<StateName>,
        #[n(4)]
        revision: Revision,
        /// As in [`Rejection::UnknownEvent`].
        #[cbor(skip)]
        events: AllowedEvents,
    },
    /// The instance is not in the state the caller expected.
    #[error("{instance} is in state {current:?} at revision {revision}, not in {expected:?}")]
    #[n(5)]
    StateMismatch {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        expected: StateName,
        #[n(2)]
        current: StateName,
        #[n(3)]
        revision: Revision,
    },
    /// The instance is not at the revision the caller expected.
    #[error(
        "{instance} is at revision {revision} in state {current:?}, not at revision {expected}"
    )]
    #[n(6)]
    RevisionMismatch {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        expected: Revision,
        #[n(2)]
        current: StateName,
        #[n(3)]
        revision: Revision,
    },
    /// The caller's key was used before, for a different request.
    #[error("the idempotency key was used before, for a different request")]
    #[n(7)]
    KeyReused,
    /// The request was already answered, or its session is forgotten: it must not be executed.
    #[error("a duplicate of this request arrived late and was not executed")]
    #[n(8)]
    RequestExpired,
    /// The definition has faults: every one of them.
    #[error(transparent)]
    #[n(9)]
    InvalidDefinition(#[n(0)] DefinitionInvalid),
    /// The machine has no such version.
    #[error("machine {machine:?} has no version {version}; the newest is {newest}")]
    #[n(10)]
    UnknownVersion {
        #[n(0)]
        machine: MachineName,
        #[n(1)]
        version: Version,
        #[n(2)]
        newest: Version,
    },
    /// Instances still use the definition.
    #[error("{instances} instance(s) still use version {version} of machine {machine:?}")]
    #[n(11)]
    DefinitionInUse {
        #[n(0)]
        machine: MachineName,
        /// The first version that is used.
        #[n(1)]
        version: Version,
        #[n(2)]
        instances: u64,
    },
    /// The machine, or the instance, is part of every cluster and cannot be changed in this way.
    #[error("{name} is built in: it cannot be redefined or deleted")]
    #[n(12)]
    BuiltIn {
        #[n(0)]
        name: String,
    },
    /// An instance with that id already exists.
    #[error("{instance} already exists, in state {current:?} at revision {revision}")]
    #[n(13)]
    InstanceExists {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        current: StateName,
        #[n(2)]
        revision: Revision,
    },
    /// The instance is pinned to that version already.
    #[error("{instance} is already at version {version}")]
    #[n(14)]
    AlreadyAtVersion {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        version: Version,
        #[n(2)]
        current: StateName,
        #[n(3)]
        revision: Revision,
    },
    /// The state that the instance would be in does not exist in the requested version.
    #[error(
        "{instance} is in state {current:?}; version {version} has no state {state:?}: map {current:?} to one of {}",
        list(known, "none")
    )]
    #[n(15)]
    UnmappedState {
        #[n(0)]
        instance: InstanceId,
        #[n(1)]
        version: Version,
        /// The state it would be in.
        #[n(2)]
        state: StateName,
        /// The states there are in that version.
        #[n(3)]
        known: Vec<StateName>,
        #[n(4)]
        current: StateName,
        #[n(5)]
        revision: Revision,
    },
    /// A limit of the cluster is reached.
    #[error("limit exceeded: {requested} {}, maximum {max}", quota.noun())]
    #[n(16)]
    QuotaExceeded {
        #[n(0)]
        quota: Quota,
        #[n(1)]
        requested: u64,
        #[n(2)]
        max: u64,
    },
    /// The transaction has no operations.
    #[error("the transaction has no operations")]
    #[n(17)]
    EmptyTransaction,
    /// Two operations of the transaction would change the same instance.
    #[error(
        "operations {first} and {second} both change {instance}; a transaction may change an instance only once"
    )]
    #[n(18)]
    InstanceTwice {
        #[n(0)]
        instance: InstanceId,
        /// The index of the first operation, from 0.
        #[n(1)]
        first: u32,
        /// The index of the second operation, from 0.
        #[n(2)]
        second: u32,
    },
    /// One operation of the transaction was rejected, so none of them happened.
    #[error("operation {position}: {reason}")]
    #[n(19)]
    OperationFailed {
        /// The operation's index, from 0.
        #[n(0)]
        position: u32,
        /// Why it was rejected; never another operation's failure.
        #[cbor(n(1), decode_with = "decode_reason")]
        reason: Box<Rejection>,
    },
    /// A leader of a later term has claimed the sink: the sender no longer leads.
    #[error("sink {sink:?} is claimed by the leader of term {term}")]
    #[n(20)]
    SinkFenced {
        #[n(0)]
        sink: SinkName,
        /// The latest term in which a leader claimed it.
        #[n(1)]
        term: u64,
    },
    /// The sink has no dead letter for that event.
    #[error("sink {sink} has no dead letter {cursor}")]
    #[n(21)]
    UnknownDeadLetter {
        #[n(0)]
        sink: SinkName,
        /// The event's cursor.
        #[n(1)]
        cursor: EventCursor,
    },
    /// The bytes do not decode as a request.
    #[error("the request could not be decoded; nothing was changed")]
    #[n(22)]
    MalformedRequest,
    /// There is no such cluster setting.
    #[error("there is no setting {name:?}; did you mean {nearest}?")]
    #[n(23)]
    UnknownSetting {
        #[n(0)]
        name: String,
        /// The setting with the most similar name.
        #[n(1)]
        nearest: Setting,
    },
    /// The setting cannot have this value.
    #[error("{setting} cannot be {value}; the range is {} to {}", setting.info().range.start(), setting.info().range.end())]
    #[n(24)]
    InvalidSetting {
        #[n(0)]
        setting: Setting,
        #[n(1)]
        value: u64,
    },
}

/// Decodes the reason of a [`Rejection::OperationFailed`]. A nested `OperationFailed` is an error: without
/// that check, malicious bytes could nest deeply enough to overflow the stack.
fn decode_reason<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Box<Rejection>, DecodeError> {
    let mut ahead = d.probe();
    ahead.array()?;
    if ahead.u32()? == OPERATION_FAILED {
        return Err(DecodeError::message(
            "a failed operation within a failed operation",
        ));
    }
    Rejection::decode(d, ctx).map(Box::new)
}

/// Names in a message; how many more there are than it has room for.
fn list<N: ToString>(names: &[N], none: &str) -> String {
    let named: Vec<_> = names.iter().take(NAMED_MAX).map(N::to_string).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 if named.is_empty() => none.to_owned(),
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn after_unknown(events: Option<&[EventName]>) -> String {
    match events {
        None => String::new(),
        Some([]) => "; no event is allowed in this state".to_owned(),
        Some(events) => format!("; allowed events: {}", list(events, "")),
    }
}

/// Machines without events have no use for a sentence about them.
fn after_illegal(events: Option<&[EventName]>) -> String {
    match events {
        None | Some([]) => String::new(),
        Some(events) => format!("; allowed events: {}", list(events, "")),
    }
}

macro_rules! codes {
    ($($rejection:ident = $code:literal,)+) => {
        impl Rejection {
            /// Every code but those of [`Quota`].
            pub const CODES: &[&str] = &[$($code),+];

            /// The stable code: snake case, the same in HTTP problems, gRPC and the command line.
            pub fn code(&self) -> &'static str {
                match self {
                    Rejection::QuotaExceeded { quota, .. } => quota.code(),
                    $(Rejection::$rejection { .. } => $code,)+
                }
            }
        }
    };
}

codes! {
    UnknownMachine = "unknown_machine",
    UnknownInstance = "unknown_instance",
    UnknownState = "unknown_state",
    UnknownEvent = "unknown_event",
    IllegalTransition = "illegal_transition",
    StateMismatch = "state_mismatch",
    RevisionMismatch = "revision_mismatch",
    KeyReused = "idempotency_key_reused",
    RequestExpired = "request_expired",
    InvalidDefinition = "invalid_definition",
    UnknownVersion = "unknown_version",
    DefinitionInUse = "definition_in_use",
    BuiltIn = "built_in",
    InstanceExists = "instance_exists",
    AlreadyAtVersion = "already_at_version",
    UnmappedState = "unmapped_state",
    EmptyTransaction = "empty_transaction",
    InstanceTwice = "instance_twice",
    OperationFailed = "operation_failed",
    SinkFenced = "sink_fenced",
    UnknownDeadLetter = "unknown_dead_letter",
    MalformedRequest = "malformed_request",
    UnknownSetting = "unknown_setting",
    InvalidSetting = "invalid_setting",
}

impl Rejection {
    /// The instance's current state and revision, if the rejection has them.
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

    /// The states that the instance may go to, if the rejection lists them.
    pub fn allowed(&self) -> &[StateName] {
        match self {
            Rejection::IllegalTransition { allowed, .. } => allowed,
            Rejection::OperationFailed { reason, .. } => reason.allowed(),
            _ => &[],
        }
    }

    /// The events that the instance's state allows, in order of name, where they were added.
    pub fn events(&self) -> Option<&[EventName]> {
        match self {
            Rejection::UnknownEvent { events, .. }
            | Rejection::IllegalTransition { events, .. } => events.as_deref(),
            Rejection::OperationFailed { reason, .. } => reason.events(),
            _ => None,
        }
    }

    /// The instance, its state, and where the allowed events belong.
    pub(crate) fn events_mut(&mut self) -> Option<(&InstanceId, &StateName, &mut AllowedEvents)> {
        match self {
            Rejection::UnknownEvent {
                instance,
                current,
                events,
                ..
            }
            | Rejection::IllegalTransition {
                instance,
                from: current,
                events,
                ..
            } => Some((&*instance, &*current, events)),
            Rejection::OperationFailed { reason, .. } => reason.events_mut(),
            _ => None,
        }
    }
}
