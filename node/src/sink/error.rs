//! Why a delivery failed.

use std::time::Duration;

use lockstep_machine::EventCursor;

/// Why a destination did not accept a call, or why a session ended. Each reason is written for the operator
/// and contains no secrets.
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
        /// Whether it answered with a server error: it may fail on this event only.
        server_error: bool,
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
    #[error("a leader of term {term} has claimed the destination")]
    Fenced { term: u64 },
    #[error("the destination's checkpoint was changed by another writer or a restore")]
    Moved,
    /// The cluster did not answer, or this node no longer leads.
    #[error("delivery was interrupted in the cluster: {0}")]
    Cluster(String),
    #[error(
        "the destination rejected an event, and the sink has reached dead_letters_max: {0}; replay or discard some"
    )]
    DeadLettersFull(String),
}

impl SinkError {
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after: None,
            server_error: false,
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

    /// Whether the destination is there, and failed on what it was sent.
    pub(crate) fn is_server_error(&self) -> bool {
        matches!(
            self,
            SinkError::Unavailable {
                server_error: true,
                ..
            }
        )
    }

    /// The pause that the destination asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            SinkError::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The `kind` label in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            SinkError::Absent { .. } => "absent",
            SinkError::Unavailable { .. } => "unavailable",
            SinkError::Misconfigured { .. } => "misconfigured",
            SinkError::Rejected { .. } => "rejected",
            SinkError::Fenced { .. } => "fenced",
            SinkError::Moved => "moved",
            SinkError::Cluster(_) => "cluster",
            SinkError::DeadLettersFull(_) => "full",
        }
    }
}
