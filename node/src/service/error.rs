//! Why a request got no answer, and whether it may be tried again.

use std::time::Duration;

use lockstep_machine::GlobalRevision;
use lockstep_proto::ErrorCode;

/// Why a request got no answer from the state machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No leader was found in time. Nothing was executed.
    #[error("the cluster has no leader that this node can reach; nothing was executed; waited {} ms", waited.as_millis())]
    Unavailable {
        /// How long was tried.
        waited: Duration,
    },
    /// The deadline passed after the request may have been sent on.
    #[error("no answer within {} ms: the request may or may not have been executed; repeat it with the same idempotency key to find out", waited.as_millis())]
    OutcomeUnknown {
        /// How long was waited.
        waited: Duration,
    },
    /// Too many requests are waiting. Nothing was executed.
    #[error("too many requests are waiting; nothing was executed; try again in a moment")]
    Overloaded,
    /// The leader has too little disk space left to take writes. Nothing was executed.
    #[error(
        "the leader's disk is nearly full, so it takes no writes; nothing was executed; reads go on"
    )]
    DiskFull,
    /// This node did not get to the revision that the caller asked for in time.
    #[error("this node is at revision {reached}, not yet at {asked}; waited {} ms", waited.as_millis())]
    Behind {
        /// What the caller asked for.
        asked: GlobalRevision,
        /// Where this node is.
        reached: GlobalRevision,
        /// How long was waited.
        waited: Duration,
    },
    /// The cluster itself has not got to the revision that the caller asked for: no write of it was
    /// answered with that revision.
    #[error(
        "the cluster is at revision {reached}, and has not got to {asked}: no write was answered with that yet"
    )]
    RevisionAhead {
        /// What the caller asked for.
        asked: GlobalRevision,
        /// Where the cluster was.
        reached: GlobalRevision,
    },
    /// The node is stopping or has not caught up with its own past yet. Nothing was executed.
    #[error("this node is not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
}

impl ServiceError {
    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            ServiceError::Unavailable { .. } => ErrorCode::Unavailable,
            ServiceError::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
            ServiceError::Overloaded => ErrorCode::Overloaded,
            ServiceError::DiskFull => ErrorCode::DiskFull,
            ServiceError::Behind { .. } => ErrorCode::Behind,
            ServiceError::RevisionAhead { .. } => ErrorCode::RevisionAhead,
            ServiceError::NotReady { .. } => ErrorCode::NotReady,
        }
    }

    /// When to try again, where that makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ServiceError::OutcomeUnknown { .. } | ServiceError::RevisionAhead { .. } => None,
            ServiceError::Overloaded => Some(Duration::from_millis(100)),
            ServiceError::DiskFull => Some(Duration::from_secs(5)),
            ServiceError::Behind { .. } => Some(Duration::from_millis(100)),
            ServiceError::Unavailable { .. } | ServiceError::NotReady { .. } => {
                Some(Duration::from_secs(1))
            }
        }
    }
}
