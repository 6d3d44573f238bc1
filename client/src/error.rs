//! Why a call failed, and what the caller may rely on.

use std::fmt;
use std::time::Duration;

use lockstep_machine::{
    EventCursor, GlobalRevision, IdempotencyKey, InvalidMetadata, InvalidName, Revision, StateName,
    Version,
};
use lockstep_proto::{Malformed, v1};
use serde::Serialize;

use crate::address::{Address, InvalidAddress};
use crate::discover::DiscoveryError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state machine rejected the request. Nothing changed; the same request is rejected again
    /// until the instance changes.
    #[error("{0}")]
    Rejected(Box<Rejected>),
    /// No node answered in time. Nothing was executed; the same request may succeed later.
    #[error("unavailable: no node could answer{}; tried {}", Within(*timeout), Causes(tried))]
    Unavailable {
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure, in the order of these.
        tried: Vec<Tried>,
    },
    /// The request was sent, and no answer came in time: it may or may not have been executed.
    /// Sending it again with the same key executes it at most once and returns its outcome.
    #[error(
        "outcome unknown: the request was sent, but no answer came{}; repeat it with idempotency key {key} \
         to get its outcome; tried {}", Within(*timeout), Causes(tried)
    )]
    OutcomeUnknown {
        /// The key the request carried: the caller's, or the one drawn for it.
        key: IdempotencyKey,
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure, in the order of these.
        tried: Vec<Tried>,
    },
    /// A change to a sink was sent, and no answer came in time: it may or may not have been made.
    /// It carries no key, since repeating it is safe.
    #[error(
        "outcome unknown: the request was sent, but no answer came{}; repeating it is safe; tried {}",
        Within(*timeout), Causes(tried)
    )]
    Unanswered {
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure.
        tried: Vec<Tried>,
    },
    /// The request is not valid, on any node.
    #[error("invalid: {0}")]
    Invalid(String),
    /// No node could be found.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// A watch cannot start, or continue, where it should: events after that cursor are compacted.
    /// Read the state, and watch from the revision after it.
    #[error(
        "compacted: events before revision {oldest} are no longer kept; \
         read the state, and watch from the revision after it"
    )]
    Compacted {
        /// The oldest revision whose events are all kept: a watch may start here.
        oldest: GlobalRevision,
    },
    /// A watch was read too slowly: events that were not read are compacted. Read the state, and
    /// watch from the revision after it.
    #[error(
        "lagged: the watch was read too slowly, and events before revision {oldest} are no longer \
         kept; read the state, and watch from the revision after it"
    )]
    Lagged {
        /// The oldest revision whose events are all kept: a watch may start here.
        oldest: GlobalRevision,
        /// The cursor of the last event or bookmark that was received.
        reached: Option<EventCursor>,
    },
    /// A node's response breaks the contract: most likely it runs an incompatible version.
    #[error("{endpoint} sent a response that cannot be understood: {reason}")]
    BadAnswer {
        /// Which node.
        endpoint: Address,
        /// What is wrong with the response.
        reason: String,
    },
}

impl Error {
    /// The stable code, snake case; of a rejection, the state machine's own.
    pub fn code(&self) -> &str {
        match self {
            Error::Rejected(rejected) => &rejected.code,
            Error::Unavailable { .. } => "unavailable",
            Error::OutcomeUnknown { .. } | Error::Unanswered { .. } => "outcome_unknown",
            Error::Invalid(_) => "invalid_argument",
            Error::Discovery(_) => "discovery_failed",
            Error::Compacted { .. } => "compacted",
            Error::Lagged { .. } => "lagged",
            Error::BadAnswer { .. } => "bad_answer",
        }
    }

    /// Whether the same request may succeed later. After [`Error::OutcomeUnknown`], only together
    /// with its key.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. }
            | Error::OutcomeUnknown { .. }
            | Error::Unanswered { .. }
            | Error::Discovery(_) => true,
            Error::Rejected(_)
            | Error::Invalid(_)
            | Error::Compacted { .. }
            | Error::Lagged { .. }
            | Error::BadAnswer { .. } => false,
        }
    }
}

/// What the caller gave is not valid.
macro_rules! invalid {
    ($($fault:ty),*) => {
        $(impl From<$fault> for Error {
            fn from(fault: $fault) -> Self {
                Error::Invalid(fault.to_string())
            }
        })*
    };
}

invalid!(InvalidName, InvalidMetadata, InvalidAddress);

/// A fault of a definition, or a warning about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where in the document, for example `transitions[3].to`; empty for the whole of it.
    pub path: String,
    /// Which kind of fault: stable, snake case.
    pub code: String,
    /// For people: what is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl From<v1::Fault> for Fault {
    fn from(it: v1::Fault) -> Self {
        Self {
            path: it.path,
            code: it.code,
            message: it.message,
        }
    }
}

/// A rejection by the state machine. Its JSON has the fields of HTTP's problem document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Stable, snake case: `illegal_transition`, `unknown_state`, `state_mismatch`, ...
    pub code: String,
    /// For people.
    #[serde(rename = "detail")]
    pub message: String,
    /// The state the instance is in, where there is one.
    pub current_state: Option<StateName>,
    /// The revision the instance is at, where there is one.
    pub current_revision: Option<Revision>,
    /// The states it may go to.
    pub allowed: Vec<StateName>,
    /// The names that exist, where an unknown one was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// The machine's newest version, where an unknown one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_version: Option<Version>,
    /// Every fault of a rejected definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// The operation of a transaction that was rejected, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<u32>,
    /// Why that operation was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<Rejected>>,
    /// The size or number asked for, where a limit is exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
    /// The least value that a cluster setting may have, where it was given another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// The limit that is exceeded, or the greatest value that a cluster setting may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// The first version that is in use, where one cannot be deleted.
    #[serde(rename = "version", skip_serializing_if = "Option::is_none")]
    pub used_version: Option<Version>,
    /// The number of instances that use it.
    #[serde(rename = "instances", skip_serializing_if = "Option::is_none")]
    pub used_by: Option<u64>,
    /// The operations of a transaction that change the same instance, from 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<u32>,
    /// Whether this is the stored outcome of an earlier request with the same key.
    #[serde(skip)]
    pub replayed: bool,
}

impl Rejected {
    pub(crate) fn parse(wire: v1::Rejected, replayed: bool) -> Result<Self, Malformed> {
        let state = |field, text: &String| {
            StateName::new(text).map_err(|fault| Malformed::new(field, fault))
        };
        let current = wire.current_state.as_ref();
        let allowed = wire.allowed.iter().map(|text| state("allowed", text));
        let reason = wire.reason.map(|reason| Self::parse(*reason, replayed));
        Ok(Self {
            code: wire.code,
            message: wire.message,
            current_state: current
                .map(|text| state("current_state", text))
                .transpose()?,
            current_revision: wire.current_revision.map(Revision),
            allowed: allowed.collect::<Result<_, _>>()?,
            known: wire.known,
            newest_version: wire.newest_version.map(Version),
            faults: wire.faults.into_iter().map(Fault::from).collect(),
            operation: wire.operation,
            reason: reason.transpose()?.map(Box::new),
            asked: wire.asked,
            min: wire.min,
            max: wire.max,
            used_version: wire.used_version.map(Version),
            used_by: wire.used_by,
            operations: wire.operations,
            replayed,
        })
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An endpoint that was tried, and how it failed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The endpoint.
    pub endpoint: Address,
    /// What went wrong.
    pub cause: String,
}

struct Within(Duration);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " within {:?}", self.0)
    }
}

struct Causes<'a>(&'a [Tried]);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no endpoint");
        }
        for (i, Tried { endpoint, cause }) in self.0.iter().enumerate() {
            let separator = if i > 0 { ", " } else { "" };
            write!(f, "{separator}{endpoint} ({cause})")?;
        }
        Ok(())
    }
}
