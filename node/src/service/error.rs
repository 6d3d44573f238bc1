//! Why a request got no answer, and when to retry it.

use std::time::Duration;

use lockstep_machine::{FeatureLevel, GlobalRevision};
use lockstep_proto::ErrorCode;
use lockstep_raft::consensus::network::ENTRY_BYTES_MAX;

/// Why a node must not answer from its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what it is")]
pub enum Distrust {
    #[error(
        "the state of this node differs from that of most members, so the node answers no requests: to replace its state, stop it, run lockstepd rejoin, and start it again"
    )]
    Wrong,
    #[error(
        "the states of the members differ, and no state has a majority, so none of them answers requests: start more members, or compare them (lockstep status --hash), remove the wrong one and run lockstepd rejoin there"
    )]
    Open,
}

use crate::lifecycle::Lifecycle;

/// Why a request got no answer from the state machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what it is")]
pub enum ServiceError {
    #[error("this node could not reach a leader within {} ms; nothing was executed; retry here or on another node", waited.as_millis())]
    Unavailable { waited: Duration },
    #[error("no answer within {} ms; the request may have been executed: repeat it with the same idempotency key to find out", waited.as_millis())]
    OutcomeUnknown { waited: Duration },
    #[error("too many requests are waiting to be proposed; nothing was executed; retry later")]
    Overloaded,
    #[error(
        "the leader's disk is nearly full, so it refuses writes; nothing was executed; free disk space on the leader; reads still work"
    )]
    DiskFull,
    #[error(
        "the request has {bytes} bytes as a log entry; the maximum is {ENTRY_BYTES_MAX}; nothing was executed; send less"
    )]
    TooLarge { bytes: usize },
    #[error("this node is at revision {reached} and did not reach {asked} within {} ms; retry here or on another node", waited.as_millis())]
    Behind {
        asked: GlobalRevision,
        reached: GlobalRevision,
        waited: Duration,
    },
    #[error("revision {asked} does not exist yet; the cluster is at {reached}")]
    RevisionAhead {
        asked: GlobalRevision,
        reached: GlobalRevision,
    },
    #[error("this node is already sending a backup; retry later or ask another node")]
    BackupInProgress,
    #[error(
        "the request needs feature level {needed}, and the cluster is at level {level}: {waits_for}; nothing was executed"
    )]
    NotSupportedYet {
        needed: FeatureLevel,
        level: FeatureLevel,
        waits_for: String,
    },
    #[error("{distrust}; nothing was executed; use another node")]
    StateDiffers { distrust: Distrust },
    #[error("this node is not ready: {reason}")]
    NotReady { reason: String },
}

impl ServiceError {
    /// The node is in a phase in which it does not serve.
    pub fn not_ready(lifecycle: &Lifecycle) -> Self {
        ServiceError::NotReady {
            reason: lifecycle.to_string(),
        }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            ServiceError::Unavailable { .. } => ErrorCode::Unavailable,
            ServiceError::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
            ServiceError::Overloaded => ErrorCode::Overloaded,
            ServiceError::DiskFull => ErrorCode::DiskFull,
            ServiceError::TooLarge { .. } => ErrorCode::RequestTooLarge,
            ServiceError::Behind { .. } => ErrorCode::Behind,
            ServiceError::RevisionAhead { .. } => ErrorCode::RevisionAhead,
            ServiceError::BackupInProgress => ErrorCode::BackupInProgress,
            ServiceError::NotSupportedYet { .. } => ErrorCode::NotSupportedYet,
            ServiceError::StateDiffers { .. } => ErrorCode::StateDiffers,
            ServiceError::NotReady { .. } => ErrorCode::NotReady,
        }
    }

    /// When to retry, if there is a hint.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ServiceError::OutcomeUnknown { .. }
            | ServiceError::RevisionAhead { .. }
            | ServiceError::TooLarge { .. }
            | ServiceError::NotSupportedYet { .. } => None,
            ServiceError::Overloaded => Some(Duration::from_millis(100)),
            ServiceError::DiskFull => Some(Duration::from_secs(5)),
            ServiceError::Behind { .. } => Some(Duration::from_millis(100)),
            ServiceError::Unavailable { .. }
            | ServiceError::BackupInProgress
            | ServiceError::StateDiffers { .. }
            | ServiceError::NotReady { .. } => Some(Duration::from_secs(1)),
        }
    }
}
