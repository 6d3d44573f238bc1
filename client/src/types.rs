//! What is asked and what is answered, parsed out of the wire's own types.

use std::time::Duration;

use lockstep_machine::{
    EventName, IdempotencyKey, InstanceId, Revision, StateName, Timestamp, Transitioned, Trigger,
    Version,
};
use lockstep_proto::v1;

use crate::error::Rejected;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// What the answering node has applied so far: works without a leader, and may be old.
    Stale,
}

/// An instance as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The definition's version it is pinned to.
    pub version: Version,
    /// The state it is in.
    pub state: StateName,
    /// How many transitions it has made.
    pub revision: Revision,
    /// When it was created, in cluster time; 0 for a built-in instance.
    pub created_at: Timestamp,
    /// When it last moved; equals `created_at` until it does.
    pub changed_at: Timestamp,
    /// Where it may go from here.
    pub allowed: Vec<StateName>,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// The instance.
    pub instance: Instance,
    /// The last log index applied by the node that answered.
    pub applied_index: u64,
}

/// A transition to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionCall {
    pub(crate) instance: InstanceId,
    pub(crate) trigger: Trigger,
    pub(crate) expect_state: Option<StateName>,
    pub(crate) expect_revision: Option<Revision>,
    pub(crate) key: Option<IdempotencyKey>,
}

impl TransitionCall {
    /// To a state.
    pub fn to(instance: &InstanceId, state: StateName) -> Self {
        Self::by(instance, Trigger::To(state))
    }

    /// By an event.
    pub fn event(instance: &InstanceId, event: EventName) -> Self {
        Self::by(instance, Trigger::Event(event))
    }

    /// By whatever names the transition.
    pub fn by(instance: &InstanceId, trigger: Trigger) -> Self {
        Self {
            instance: instance.clone(),
            trigger,
            expect_state: None,
            expect_revision: None,
            key: None,
        }
    }

    /// Refuse unless the instance is in this state.
    pub fn expect_state(mut self, state: StateName) -> Self {
        self.expect_state = Some(state);
        self
    }

    /// Refuse unless the instance is at this revision.
    pub fn expect_revision(mut self, revision: Revision) -> Self {
        self.expect_revision = Some(revision);
        self
    }

    /// The same key gets the first outcome again, also from another client. Without one, the
    /// client draws a key of its own, so that its own retries execute once.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn into_message(self, key: &IdempotencyKey) -> v1::TransitionRequest {
        use v1::transition_request::Trigger as Wire;
        v1::TransitionRequest {
            id: self.instance.to_string(),
            trigger: Some(match self.trigger {
                Trigger::To(state) => Wire::To(state.to_string()),
                Trigger::Event(event) => Wire::Event(event.to_string()),
            }),
            expect_state: self.expect_state.map(|state| state.to_string()),
            expect_revision: self.expect_revision.map(|revision| revision.0),
            idempotency_key: Some(key.to_string()),
            ..v1::TransitionRequest::default()
        }
    }
}

/// A transition that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// What happened.
    pub made: Transitioned,
    /// Whether this is the stored outcome of an earlier request with the same key; also after the
    /// client's own retry of a request that had been executed.
    pub replayed: bool,
}

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Leader {
    /// The leading node.
    pub member: Member,
    /// The term it was elected for.
    pub term: u64,
}

/// What is wrong with a node's answer.
pub(crate) type Unreadable = String;

fn parsed<T: std::str::FromStr>(field: &str, value: &str) -> Result<T, Unreadable>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|fault| format!("{field}: {fault}"))
}

fn states(field: &str, values: &[String]) -> Result<Vec<StateName>, Unreadable> {
    values.iter().map(|value| parsed(field, value)).collect()
}

impl TryFrom<v1::Instance> for Instance {
    type Error = Unreadable;

    fn try_from(wire: v1::Instance) -> Result<Self, Unreadable> {
        Ok(Self {
            id: parsed("instance.id", &wire.id)?,
            version: Version(wire.version),
            state: parsed("instance.state", &wire.state)?,
            revision: Revision(wire.revision),
            created_at: Timestamp(wire.created_at_ms),
            changed_at: Timestamp(wire.changed_at_ms),
            allowed: states("instance.allowed", &wire.allowed)?,
        })
    }
}

/// What a transition came to: made, or refused.
pub(crate) fn transition_outcome(
    wire: v1::TransitionResponse,
) -> Result<Result<Transition, Rejected>, Unreadable> {
    use v1::transition_response::Outcome;
    let replayed = wire.written.unwrap_or_default().replayed;
    match wire.outcome.ok_or("the answer has no outcome")? {
        Outcome::Transitioned(made) => Ok(Ok(Transition {
            made: transitioned(made)?,
            replayed,
        })),
        Outcome::Rejected(rejected) => Ok(Err(Rejected {
            code: rejected.code,
            message: rejected.message,
            current_state: rejected
                .current_state
                .map(|state| parsed("rejected.current_state", &state))
                .transpose()?,
            current_revision: rejected.current_revision.map(Revision),
            allowed: states("rejected.allowed", &rejected.allowed)?,
            replayed,
        })),
    }
}

fn transitioned(wire: v1::Transitioned) -> Result<Transitioned, Unreadable> {
    Ok(Transitioned {
        instance: parsed("transitioned.id", &wire.id)?,
        version: Version(wire.version),
        from: parsed("transitioned.from", &wire.from)?,
        to: parsed("transitioned.to", &wire.to)?,
        event: wire
            .event
            .map(|event| parsed("transitioned.event", &event))
            .transpose()?,
        revision: Revision(wire.revision),
        at: Timestamp(wire.at_ms),
    })
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
    type Error = Unreadable;

    fn try_from(wire: v1::StatusResponse) -> Result<Self, Unreadable> {
        let role = match wire.role() {
            v1::Role::Leader => Role::Leader,
            v1::Role::Follower => Role::Follower,
            v1::Role::Candidate => Role::Candidate,
            v1::Role::Learner => Role::Learner,
            v1::Role::Unspecified => Role::Unknown,
        };
        Ok(Self {
            cluster_id: wire.cluster_id,
            node: wire
                .node
                .ok_or("the answer does not say which node it is from")?
                .into(),
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
