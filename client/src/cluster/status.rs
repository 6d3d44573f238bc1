//! How a node sees its cluster.

use std::time::Duration;

use lockstep_proto::{Malformed, v1};

use crate::client::required;

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Decides the order of the log.
    Leader,
    /// Votes, and follows the leader.
    Follower,
    /// Asks to become the leader.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Something this client does not know.
    Unknown,
}

impl Role {
    /// In lower case: `leader`, `follower`, `candidate`, `learner`, `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Unknown => "unknown",
        }
    }
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Drawn once per data directory.
    pub id: u64,
    /// The operator's name for it.
    pub name: String,
    /// `host:port` of its gRPC interface, as its peers see it.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface, as its peers see it.
    pub http_address: String,
    /// Whether it votes.
    pub voter: bool,
    /// How far its log is known to match the leader's; only the leader knows.
    pub matched_index: Option<u64>,
}

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The cluster it belongs to; empty while it belongs to none.
    pub cluster_id: String,
    /// The node that answers.
    pub node: Member,
    /// The version it runs.
    pub version: String,
    /// When that was built.
    pub build_date: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// What it does in the cluster.
    pub role: Role,
    /// Its current term.
    pub term: u64,
    /// The leader it follows, or is.
    pub leader_id: Option<u64>,
    /// The members it knows, itself included.
    pub members: Vec<Member>,
    /// The oldest entry in its log.
    pub log_first_index: u64,
    /// The newest entry in its log.
    pub log_last_index: u64,
    /// How far the log is known to be committed.
    pub committed_index: u64,
    /// How far the log is applied.
    pub applied_index: u64,
    /// The entry its newest snapshot ends with; 0 when there is none.
    pub snapshot_index: u64,
    /// 32 hexadecimal digits over the state at `applied_index`, when asked for.
    pub state_hash: Option<String>,
}

/// Who leads the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The leading node.
    pub member: Member,
    /// The term it was elected for.
    pub term: u64,
}

impl From<v1::Member> for Member {
    fn from(wire: v1::Member) -> Self {
        let v1::Member {
            id,
            name,
            grpc_address,
            http_address,
            voter,
            matched_index,
        } = wire;
        Self {
            id,
            name,
            grpc_address,
            http_address,
            voter,
            matched_index,
        }
    }
}

impl TryFrom<v1::StatusResponse> for NodeStatus {
    type Error = Malformed;

    fn try_from(wire: v1::StatusResponse) -> Result<Self, Malformed> {
        let role = match wire.role() {
            v1::Role::Leader => Role::Leader,
            v1::Role::Follower => Role::Follower,
            v1::Role::Candidate => Role::Candidate,
            v1::Role::Learner => Role::Learner,
            v1::Role::Unspecified => Role::Unknown,
        };
        Ok(Self {
            cluster_id: wire.cluster_id,
            node: required("node", wire.node)?.into(),
            version: wire.version,
            build_date: wire.build_date,
            uptime: Duration::from_millis(wire.uptime_ms),
            role,
            term: wire.term,
            leader_id: wire.leader_id,
            members: wire.members.into_iter().map(Member::from).collect(),
            log_first_index: wire.log_first_index,
            log_last_index: wire.log_last_index,
            committed_index: wire.committed_index,
            applied_index: wire.applied_index,
            snapshot_index: wire.snapshot_index,
            state_hash: wire.state_hash,
        })
    }
}
