//! openraft's type configuration, and short names for its types.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use derive_where::derive_where;
use lockstep_machine::Reply;
use lockstep_proto::v1;
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::impls::leader_id_std;
use openraft::{AsyncRuntime, OptionalSend, RaftTypeConfig};
use openraft_rt_tokio::TokioRuntime;

pub use crate::store::Member;

/// A node's id: random, chosen once per data folder.
pub type NodeId = u64;

/// The type configuration, over a runtime: tokio's in production, a simulated one in tests.
#[derive_where(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types<RT>(PhantomData<fn() -> RT>);

/// A log entry's commands, encoded once by the leader and decoded only where they are applied.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

/// One reply per request of a [`Payload`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replies(pub Vec<Reply>);

/// A member of the cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its node id.
    pub id: NodeId,
    /// Its name and addresses.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// The highest log index known to match the leader's; only a leader knows it.
    pub matched_index: Option<u64>,
    /// How long ago it last answered the leader; only a leader knows it.
    pub contact: Option<Duration>,
}

impl From<MemberStatus> for v1::Member {
    fn from(status: MemberStatus) -> Self {
        let MemberStatus {
            id,
            member,
            voter,
            matched_index,
            contact,
        } = status;
        Self {
            id,
            name: member.name,
            grpc_address: member.grpc_address,
            http_address: member.http_address,
            voter,
            matched_index,
            learner: member.learner,
            contact_ms: contact.map(|ago| ago.as_millis() as u64),
            report: None,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Requirements on a runtime: openraft's, and that handles can be shared between threads.
pub trait Runtime: AsyncRuntime + Sync + Send {}
impl<RT: AsyncRuntime + Sync + Send> Runtime for RT {}

impl<RT: Runtime> RaftTypeConfig for Types<RT> {
    type D = Payload;
    type R = Replies;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    // Textbook Raft: at most one leader a term.
    type LeaderId = leader_id_std::LeaderId<u64, NodeId>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, NodeId, Member>;
    type Entry = openraft::Entry<openraft::alias::CommittedLeaderIdOf<Self>, Self::Payload>;
    type AsyncRuntime = RT;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

// The same types over every runtime.

/// A log position: term and index.
pub type LogId = LogIdOf<Types<TokioRuntime>>;
/// A vote: term, candidate, and whether a quorum granted it.
pub type Vote = VoteOf<Types<TokioRuntime>>;
/// A log entry.
pub type Entry = EntryOf<Types<TokioRuntime>>;
/// The voters and everything known about the members.
pub type Membership = openraft::Membership<NodeId, Member>;
/// A membership and the log position that set it.
pub type StoredMembership = StoredMembershipOf<Types<TokioRuntime>>;
/// What a snapshot covers.
pub type SnapshotMeta = SnapshotMetaOf<Types<TokioRuntime>>;
