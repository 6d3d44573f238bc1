//! Why a delivery failed.

use std::time::Duration;

use lockstep_machine::EventCursor;

/// Why a destination did not accept a call. Each reason is written for the operator and contains no
/// secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinkError {
    /// Its host name does not resolve: `optional` sinks wait for that quietly.
    #[error("host {host} does not resolve to an address")]
    Absent { host: String },
    /// It is unreachable, too slow, full or otherwise unable to answer now.
    #[error("{reason}")]
    Unavailable {
        reason: String,
        /// The pause that the destination asked for, if any.
        retry_after: Option<Duration>,
    },
    /// It rejects everything from this sink: credentials, permissions, or tables of another cluster. An
    /// operator must fix it.
    #[error("{reason}")]
    Misconfigured { reason: String },
    /// It rejects an event or a state permanently.
    #[error("{reason}")]
    Rejected {
        /// Which event, if known.
        event: Option<EventCursor>,
        reason: String,
    },
    /// A leader of a later term has claimed the destination.
    #[error("a leader of term {term} has claimed the destination")]
    Fenced { term: u64 },
    /// Its checkpoint is not the one last written: it was changed or restored.
    #[error("the destination's checkpoint was changed by another writer or a restore")]
    Moved,
}

impl SinkError {
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after: None,
        }
    }

    pub(crate) fn misconfigured(reason: impl Into<String>) -> Self {
        Self::Misconfigured {
            reason: reason.into(),
        }
    }

    pub(crate) fn rejected(event: Option<EventCursor>, reason: impl Into<String>) -> Self {
        Self::Rejected {
            event,
            reason: reason.into(),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            SinkError::Unavailable { retry_after, .. } => *retry_after,
            SinkError::Absent { .. }
            | SinkError::Misconfigured { .. }
            | SinkError::Rejected { .. }
            | SinkError::Fenced { .. }
            | SinkError::Moved => None,
        }
    }

    /// The `kind` label in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            SinkError::Absent { .. } => "absent",
            SinkError::Unavailable { .. } => "unavailable",
            SinkError::Misconfigured { .. } => "misconfigured",
            SinkError::Rejected { .. } => "refused",
            SinkError::Fenced { .. } => "fenced",
            SinkError::Moved => "moved",
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Destination(#[from] SinkError),
    /// The cluster did not answer, or this node no longer leads.
    #[error("the cluster did not answer: {0}")]
    Cluster(String),
    /// The destination rejected an event, and the sink's dead letters are full.
    #[error(
        "the destination rejected an event, and the sink has reached dead_letters_max: {0}; replay or discard some"
    )]
    DeadLettersFull(String),
}
