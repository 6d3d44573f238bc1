//! Why a request got no answer, and when to retry it.

use std::time::Duration;

use lockstep_machine::GlobalRevision;
use lockstep_proto::ErrorCode;

/// Why a request got no answer from the state machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No leader was found in time. Nothing was executed.
    #[error("this node could not reach a leader within {} ms; nothing was executed; retry here or on another node", waited.as_millis())]
    Unavailable {
        /// How long the node tried.
        waited: Duration,
    },
    /// The deadline passed after the request may have been sent on.
    #[error("no answer within {} ms; the request may have been executed: repeat it with the same idempotency key to find out", waited.as_millis())]
    OutcomeUnknown {
        /// How long the node waited.
        waited: Duration,
    },
    /// Too many requests are waiting. Nothing was executed.
    #[error("too many requests are waiting to be proposed; nothing was executed; retry later")]
    Overloaded,
    /// The leader has too little disk space for writes. Nothing was executed.
    #[error(
        "the leader's disk is nearly full, so it rejects writes; nothing was executed; free disk space on the leader; reads still work"
    )]
    DiskFull,
    /// This node did not reach the requested revision in time.
    #[error("this node is at revision {reached} and did not reach {asked} within {} ms; retry here or on another node", waited.as_millis())]
    Behind {
        /// The requested revision.
        asked: GlobalRevision,
        /// The revision of this node.
        reached: GlobalRevision,
        /// How long the node waited.
        waited: Duration,
    },
    /// The requested revision does not exist yet: no write was answered with it.
    #[error("revision {asked} does not exist yet; the cluster is at {reached}")]
    RevisionAhead {
        /// The requested revision.
        asked: GlobalRevision,
        /// The revision of the cluster.
        reached: GlobalRevision,
    },
    /// The node is stopping, or has not yet re-applied its own log. Nothing was executed.
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

    /// When to retry, if there is a hint.
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
