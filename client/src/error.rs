//! Why a call failed, and what the caller may rely on.

use std::fmt;
use std::time::Duration;

use lockstep_machine::{
    EventCursor, GlobalRevision, IdempotencyKey, InvalidMetadata, InvalidName, Revision, StateName,
    Version,
};

use crate::address::{Address, InvalidAddress};
use crate::discover::DiscoveryError;
use crate::fault::Fault;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state machine refused. Nothing changed; the same request will be refused again until
    /// the instance moves.
    #[error("{0}")]
    Rejected(Box<Rejected>),
    /// No node answered in time. Nothing was executed: try again later.
    #[error("unavailable: no node could answer{}; tried {}", Within(*timeout), Causes(tried))]
    Unavailable {
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure; the last one tried comes last.
        tried: Vec<Tried>,
    },
    /// The request was sent, and no answer came in time: it may or may not have been executed.
    /// Sending it again with the same key executes it at most once and returns what came of it.
    #[error(
        "outcome unknown: the request was sent, but no answer came{}; repeat it with idempotency key {key} \
         to learn what came of it; tried {}", Within(*timeout), Causes(tried)
    )]
    OutcomeUnknown {
        /// The key the request carried: the caller's, or the one drawn for it.
        key: IdempotencyKey,
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure; the last one tried comes last.
        tried: Vec<Tried>,
    },
    /// A change was asked for, and no answer came in time: it may or may not have been made. It is one
    /// of those that carry no key, since making it again does no harm.
    #[error(
        "outcome unknown: the request was sent, but no answer came{}; asking again does no harm; \
         tried {}", Within(*timeout), Causes(tried)
    )]
    Unanswered {
        /// How long the call was given.
        timeout: Duration,
        /// Every endpoint that was tried, with its last failure.
        tried: Vec<Tried>,
    },
    /// The request breaks the rules, and would on any node.
    #[error("invalid: {0}")]
    Invalid(String),
    /// No endpoint could be found.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// A watch cannot begin, or go on, where it should: events from there on are no longer kept.
    /// Read the state, and watch from behind its revision.
    #[error(
        "compacted: events before revision {oldest} are no longer kept; \
         read the state, and watch from behind its revision"
    )]
    Compacted {
        /// The oldest revision of which every event is kept: from here on a watch is possible.
        oldest: GlobalRevision,
    },
    /// A watch was read too slowly: events that were not read are no longer kept. Read the state,
    /// and watch from behind its revision.
    #[error(
        "lagged: the watch was read too slowly, and events before revision {oldest} are no longer \
         kept; read the state, and watch from behind its revision"
    )]
    Lagged {
        /// The oldest revision of which every event is kept: from here on a watch is possible.
        oldest: GlobalRevision,
        /// The place of the last event or bookmark that was received.
        reached: Option<EventCursor>,
    },
    /// A node's answer does not follow the contract: most likely it runs an incompatible version.
    #[error("{endpoint} gave an answer that cannot be understood: {reason}")]
    BadAnswer {
        /// Which node.
        endpoint: Address,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Error {
    /// The stable code, snake case: the machine's own for a refusal.
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

impl From<InvalidName> for Error {
    fn from(fault: InvalidName) -> Self {
        Error::Invalid(fault.to_string())
    }
}

impl From<InvalidMetadata> for Error {
    fn from(fault: InvalidMetadata) -> Self {
        Error::Invalid(fault.to_string())
    }
}

impl From<InvalidAddress> for Error {
    fn from(fault: InvalidAddress) -> Self {
        Error::Invalid(fault.to_string())
    }
}

/// The state machine's refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Stable, snake case: `illegal_transition`, `unknown_state`, `state_mismatch`, ...
    pub code: String,
    /// For people.
    pub message: String,
    /// The state the instance is in, where there is one.
    pub current_state: Option<StateName>,
    /// The revision the instance is at, where there is one.
    pub current_revision: Option<Revision>,
    /// Where it may go from here.
    pub allowed: Vec<StateName>,
    /// What there is, where an unknown name was given.
    pub known: Vec<String>,
    /// The machine's newest version, where an unknown one was given.
    pub newest_version: Option<Version>,
    /// Every fault of a refused definition.
    pub faults: Vec<Fault>,
    /// The operation of a transaction that was refused, from 0.
    pub operation: Option<u32>,
    /// Why that operation was refused.
    pub reason: Option<Box<Rejected>>,
    /// How many there would be, where a limit is reached.
    pub asked: Option<u64>,
    /// How many there may be, where a limit is reached.
    pub max: Option<u64>,
    /// The first version that is still used, where one cannot be deleted.
    pub used_version: Option<Version>,
    /// How many instances use it.
    pub used_by: Option<u64>,
    /// The operations of a transaction that change the same instance, from 0.
    pub operations: Vec<u32>,
    /// Whether this is the stored outcome of an earlier request with the same key.
    pub replayed: bool,
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
