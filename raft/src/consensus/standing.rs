//! A node's view of the cluster, from openraft's metrics.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};

use super::node::Consensus;
use super::types::{LogId, Member, MemberStatus, NodeId, Runtime, Types};
use crate::store::Storage;

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Receives the log without a vote, or does not belong to a cluster yet.
    #[default]
    Learner,
}

impl Role {
    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
    }
}

/// A node's view of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// This node.
    pub node_id: NodeId,
    /// The current term.
    pub term: u64,
    /// Whether it leads, follows, stands for election, or only learns.
    pub role: Role,
    /// The leader it knows, and how to reach it.
    pub leader: Option<(NodeId, Member)>,
    /// How long ago it last heard from that leader; as leader, how long ago a quorum last answered it.
    pub leader_contact: Option<Duration>,
    /// Every member, in order of name.
    pub members: Vec<MemberStatus>,
    /// The first log index kept; 0 for none.
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

impl<RT: Runtime, S: Storage> Consensus<RT, S> {
    /// Where this node stands now.
    pub fn standing(&self) -> Standing {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let matched = |id: &NodeId| {
            metrics
                .replication
                .as_ref()
                .and_then(|peers| peers.get(id))
                .map(|matched| index(*matched))
        };
        let contact = |id: &NodeId| match &metrics.heartbeat {
            Some(_) if *id == metrics.id => Some(Duration::ZERO),
            answered => {
                let at = answered.as_ref()?.get(id)?.as_ref()?;
                Some(at.elapsed())
            }
        };
        let mut members: Vec<MemberStatus> = membership
            .nodes()
            .map(|(id, member)| MemberStatus {
                id: *id,
                member: self.environment.addresses.of(*id, member),
                voter: voters.contains(id),
                matched_index: matched(id),
                contact: contact(id),
            })
            .collect();
        members.sort_by(|a, b| (&a.member.name, a.id).cmp(&(&b.member.name, b.id)));
        let (log_first_index, log_last_index) = self.log.extent();
        Standing {
            node_id: metrics.id,
            term: metrics.current_term,
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Learner | ServerState::Shutdown => Role::Learner,
            },
            leader: self.leader_in(&metrics),
            leader_contact: self.contact(&metrics),
            members,
            log_first_index,
            log_last_index,
            committed_index: index(metrics.local_committed),
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
        }
    }

    /// The leader as this node knows it: cheaper than [`standing`](Self::standing).
    pub fn leader(&self) -> Option<(NodeId, Member)> {
        self.leader_in(&self.raft.metrics().borrow_watched())
    }

    /// [`Standing::leader_contact`]: cheaper than [`standing`](Self::standing).
    pub fn leader_contact(&self) -> Option<Duration> {
        self.contact(&self.raft.metrics().borrow_watched())
    }

    pub(super) fn leader_in(&self, metrics: &RaftMetrics<Types<RT>>) -> Option<(NodeId, Member)> {
        let id = metrics.current_leader?;
        let membership = metrics.membership_config.membership();
        let member = membership.get_node(&id)?;
        Some((id, self.environment.addresses.of(id, member)))
    }

    fn contact(&self, metrics: &RaftMetrics<Types<RT>>) -> Option<Duration> {
        let voters = metrics.membership_config.membership().voter_ids();
        match metrics.state {
            // Without peers, it is a quorum by itself.
            ServerState::Leader if voters.count() == 1 => Some(Duration::ZERO),
            ServerState::Leader => metrics.last_quorum_acked.map(|at| at.elapsed()),
            _ => metrics
                .current_leader
                .and(*self.heard.lock())
                .map(|at| at.elapsed()),
        }
    }
}
