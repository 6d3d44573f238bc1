//! The type configuration: openraft's many types, named once.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use lockstep_machine::Reply;
use openraft::impls::leader_id_std;
use openraft::{AsyncRuntime, OptionalSend, RaftTypeConfig};

/// A node's id: random, drawn once per data directory.
pub type NodeId = u64;

/// The type configuration, over a runtime: tokio's in production, a simulated one in tests.
pub struct Types<RT>(PhantomData<fn() -> RT>);

/// A log entry's commands, encoded once by the leader and decoded only where they are applied.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

/// One reply per request of a [`Payload`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replies(pub Vec<Reply>);

/// A member as the log knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The operator's name for it.
    pub name: String,
    /// `host:port` of its gRPC interface.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface.
    pub http_address: String,
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

// Derives would ask the runtime for the same traits; a marker needs none of them.
macro_rules! marker_traits {
    ($($trait:ident { $($body:tt)* })*) => { $(impl<RT> $trait for Types<RT> { $($body)* })* };
}
use std::cmp::Ordering;
marker_traits! {
    Clone { fn clone(&self) -> Self { *self } }
    Copy {}
    Default { fn default() -> Self { Self(PhantomData) } }
    PartialEq { fn eq(&self, _: &Self) -> bool { true } }
    Eq {}
    PartialOrd { fn partial_cmp(&self, other: &Self) -> Option<Ordering> { Some(self.cmp(other)) } }
    Ord { fn cmp(&self, _: &Self) -> Ordering { Ordering::Equal } }
}
impl<RT> fmt::Debug for Types<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

/// What a runtime must bring: openraft's own, and that handles may be shared between threads.
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

/// A log position: term and index.
pub type LogId = openraft::LogId<
    <leader_id_std::LeaderId<u64, NodeId> as openraft::vote::RaftLeaderId>::Committed,
>;
/// A vote: term, candidate, and whether a quorum granted it.
pub type Vote = openraft::Vote<leader_id_std::LeaderId<u64, NodeId>>;
/// A log entry.
pub type Entry = openraft::Entry<
    <leader_id_std::LeaderId<u64, NodeId> as openraft::vote::RaftLeaderId>::Committed,
    openraft::EntryPayload<Payload, NodeId, Member>,
>;
/// The voters and everything known about the members.
pub type Membership = openraft::Membership<NodeId, Member>;
/// A membership and the log position that set it.
pub type StoredMembership = openraft::StoredMembership<
    <leader_id_std::LeaderId<u64, NodeId> as openraft::vote::RaftLeaderId>::Committed,
    NodeId,
    Member,
>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<
    <leader_id_std::LeaderId<u64, NodeId> as openraft::vote::RaftLeaderId>::Committed,
    NodeId,
    Member,
>;
