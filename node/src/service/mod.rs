//! The use cases: propose, read, administer. The only thing the edges call.

use std::time::Duration;

pub use crate::consensus::Role;
use lockstep_machine::{IdempotencyKey, Instance, InstanceId, Reply, StateName, Transition};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// What this node has applied.
    Stale,
}

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
    /// The node is stopping or has not caught up with its own past yet. Nothing was executed.
    #[error("this node is not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
}

impl ServiceError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ServiceError::Unavailable { .. } => "unavailable",
            ServiceError::OutcomeUnknown { .. } => "outcome_unknown",
            ServiceError::Overloaded => "overloaded",
            ServiceError::NotReady { .. } => "not_ready",
        }
    }

    /// When to try again, where that makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ServiceError::OutcomeUnknown { .. } => None,
            ServiceError::Overloaded => Some(Duration::from_millis(100)),
            ServiceError::Unavailable { .. } | ServiceError::NotReady { .. } => Some(Duration::from_secs(1)),
        }
    }
}

/// An instance as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// The instance.
    pub instance: Instance,
    /// Where it may go from here.
    pub allowed: Vec<StateName>,
}

/// A read's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReply {
    /// The instance, if there is one.
    pub view: Option<InstanceView>,
    /// The last log index this node had applied.
    pub applied_index: u64,
}

/// A member of the cluster, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Node id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// `host:port`.
    pub grpc_address: String,
    /// `host:port`.
    pub http_address: String,
    /// Whether it votes.
    pub voter: bool,
    /// How far its log is known to match; only a leader knows.
    pub matched_index: Option<u64>,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Empty until the node belongs to a cluster.
    pub cluster_id: String,
    /// This node.
    pub node: MemberStatus,
    /// Its role.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// The leader it knows.
    pub leader_id: Option<u64>,
    /// Every member, in order of name.
    pub members: Vec<MemberStatus>,
    /// The first log index still kept; 0 for none.
    pub log_first_index: u64,
    /// The last log index; 0 for none.
    pub log_last_index: u64,
    /// Known to be committed; 0 for none.
    pub committed_index: u64,
    /// Applied here; 0 for none.
    pub applied_index: u64,
    /// Covered by the current snapshot; 0 for none.
    pub snapshot_index: u64,
}

/// What the edges call. One per node, shared.
pub struct Service {}

impl Service {
    /// Moves an instance, from whichever node this is: forwards to the leader, retries on a new one,
    /// executes at most once.
    pub async fn transition(
        &self,
        transition: Transition,
        key: Option<IdempotencyKey>,
        deadline: Duration,
    ) -> Result<Reply, ServiceError> {
        let _ = (transition, key, deadline);
        unimplemented!()
    }

    /// Reads an instance.
    pub async fn instance(
        &self,
        id: InstanceId,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<ReadReply, ServiceError> {
        let _ = (id, consistency, deadline);
        unimplemented!()
    }

    /// The cluster as this node sees it.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// The hash over the whole state, with the log index it was taken at. Off the runtime's threads.
    pub async fn state_hash(&self) -> (u64, String) {
        unimplemented!()
    }

    /// Whether this node can serve a linearizable read now and is not lagging.
    pub async fn ready(&self, deadline: Duration) -> Result<(), ServiceError> {
        let _ = deadline;
        unimplemented!()
    }
}
