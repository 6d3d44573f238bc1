//! Why a call failed, and what the caller may rely on.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, IdempotencyKey, InvalidMetadata, InvalidName};
use lockstep_proto::errors::Retry;
use lockstep_proto::{ErrorCode, v1};
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
    #[error(
        "unavailable: no node could answer within {timeout:?}; tried {}",
        causes(tried)
    )]
    Unavailable {
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure, in the order of these.
        tried: Vec<Tried>,
    },
    /// The request was sent, and no answer came in time: it may or may not have been executed.
    /// Sending it again with the same key executes it at most once and returns its outcome.
    #[error(
        "outcome unknown: the request was sent, but not answered within {timeout:?}; {}; tried {}",
        repeat(key.as_ref()),
        causes(tried)
    )]
    OutcomeUnknown {
        /// The key the request carried: the caller's, or the one generated for it. None of a change to a
        /// sink, which is safe to repeat without one.
        key: Option<IdempotencyKey>,
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure, in the order of these.
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
        "lagged: the reader was too slow, and events before revision {oldest} are no longer \
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
            Error::Unavailable { .. } => ErrorCode::Unavailable.as_str(),
            Error::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown.as_str(),
            Error::Invalid(_) => ErrorCode::InvalidArgument.as_str(),
            Error::Compacted { .. } => ErrorCode::Compacted.as_str(),
            Error::Lagged { .. } => ErrorCode::Lagged.as_str(),
            // These two are the client's own.
            Error::Discovery(_) => "discovery_failed",
            Error::BadAnswer { .. } => "bad_answer",
        }
    }

    /// Whether the same request may succeed later. After [`Error::OutcomeUnknown`], only together
    /// with its key.
    pub fn is_retryable(&self) -> bool {
        match ErrorCode::find(self.code()) {
            Some(code) => code.entry().retry != Retry::Pointless,
            None => matches!(self, Error::Discovery(_)),
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

/// A rejection by the state machine: its stable code, its message and its details.
/// Its JSON has the fields of HTTP's problem document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rejected {
    /// What the cluster answered.
    #[serde(flatten)]
    pub answer: v1::Rejected,
    /// Whether this is the stored outcome of an earlier request with the same key.
    pub replayed: bool,
}

impl Deref for Rejected {
    type Target = v1::Rejected;

    fn deref(&self) -> &v1::Rejected {
        &self.answer
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.fmt(f)
    }
}

impl Error {
    /// A rejection that is not the stored outcome of an earlier request.
    pub(crate) fn rejected(answer: v1::Rejected) -> Self {
        let replayed = false;
        Error::Rejected(Box::new(Rejected { answer, replayed }))
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

fn repeat(key: Option<&IdempotencyKey>) -> String {
    match key {
        Some(key) => format!("repeat it with idempotency key {key} to get its outcome"),
        None => "repeating it is safe".to_owned(),
    }
}

fn causes(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "no endpoint".to_owned();
    }
    let causes = tried
        .iter()
        .map(|Tried { endpoint, cause }| format!("{endpoint} ({cause})"));
    causes.collect::<Vec<_>>().join(", ")
}
