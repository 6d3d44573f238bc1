//! Consensus: openraft, wrapped in our own types. Of openraft, the server itself uses only the tokio runtime.
//!
//! [`Consensus`] is one node's Raft instance. It is assembled from these parts, which are generic over the
//! runtime, the disk ([`Storage`](crate::store::Storage)) and the network:
//!
//! - [`batcher`] batches requests: while a few batches are in flight, further requests queue up and become
//!   one log entry. Reads that wait at the same time share one confirmation by a quorum.
//! - [`log`] implements openraft's log. Recent entries stay in memory, so that replication and apply rarely
//!   read the disk; an entry is evicted from memory only after it is durable.
//! - [`state_machine`] applies committed entries to [`lockstep_machine::State`], and installs snapshots.
//!   Readers share the state through [`SharedState`].
//! - [`compaction`] writes snapshots, and keeps the log and the disk within bounds.
//! - [`network`] sends to peers over gRPC and [`server`] answers them. Every call names the cluster, the
//!   target node, the protocol version and the Raft group; a mismatch is refused.
//! - [`membership`] adds, promotes and removes members, one change at a time.
//! - [`addresses`] holds the current addresses of members that have moved since they were added.
//! - [`offline`] makes a new cluster of one node, from a backup or from the data of a stopped node.
//! - `hand_over` hands leadership to the fittest voter.
//! - `succession` elects a new leader at once when the process of the old one has ended.
//! - `standing` is a node's view of the cluster.
//! - `wire` converts between openraft's types and the protobuf messages that are stored and sent, so
//!   that a new openraft changes no format.
//!
//! # A write
//!
//! `Consensus::propose` queues a request on the leader. The batcher stamps a batch with the leader's
//! clock and hands it to openraft as one entry of opaque bytes. openraft appends it to the log and sends
//! it to the followers at the same time. When a quorum has flushed it, it is committed; each node decodes
//! and applies it, and on the leader each request gets its reply.
//!
//! # A read
//!
//! `Consensus::read_point` asks a quorum whether this node still leads, and returns the log index that
//! the read must have applied (the Raft dissertation's ReadIndex, section 6.4). No read relies
//! on a lease: no clock is trusted for correctness.
//!
//! # Guarantees
//!
//! - A reply is sent only once its entry is committed and applied. Every error except
//!   [`ProposeError::Unknown`] means that nothing was appended.
//! - The vote and the log are durable before any peer or client learns of them.
//! - Nothing here reads a clock, sleeps or spawns except through the runtime. The exceptions are [`network`], [`server`],
//!   `succession`, [`peer_members`] and [`Clocks`], which work over gRPC and use tokio and the system's clock directly.
//!
//! # Not guaranteed
//!
//! - `propose` may wait forever while there is no quorum: the caller must set a timeout.
//! - Requests are not forwarded, and not retried after a change of leader; the router in `node` does both.
//!
//! # Known defects of the pinned alpha
//!
//! Each is prevented where it could occur:
//!
//! - [`Settings::raft_config`]: leader restore off, snapshot timeout of a minute, pre-vote on;
//! - [`compaction`]: log kept for followers that lag, because installing a snapshot on a busy follower can
//!   panic;
//! - [`network`]: no snapshot is sent under a leadership older than what it holds;
//! - [`log`]: reads are limited in bytes.

pub mod addresses;
pub mod batcher;
mod clocks;
pub mod compaction;
mod hand_over;
pub mod log;
pub mod membership;
pub mod network;
pub mod node;
pub mod offline;
pub mod peer_members;
mod revocable;
mod room;
pub mod server;
mod standing;
pub mod state_machine;
mod succession;
pub mod types;
pub(crate) mod wire;

pub use addresses::Addresses;
pub use batcher::{BatchLimits, ProposeError, ProposeResult};
pub use clocks::Clocks;
pub use compaction::{CompactionSettings, DiskLevel};
pub use hand_over::Fitness;
pub use membership::{MemberChange, MemberError, QuorumChange};
pub use node::{Consensus, ConsensusError, Environment, ReadPoint, Settings};
pub use standing::{Role, Standing};
pub use state_machine::{Applied, Observer, SharedState};
pub use types::{Member, MemberStatus, NodeId, Runtime, Types};
