//! One node's part in a replicated log.
//!
//! A cluster is a few nodes that hold the same log. Clients' requests become log entries; an entry is
//! committed once a quorum of the voters has flushed it; every node applies the committed entries, in
//! the order of the log, to its copy of the state machine. Because applying is deterministic, all copies
//! pass through the same states. This is Raft (Ongaro and Ousterhout, 2014), as implemented by openraft.
//!
//! Two modules do the work:
//!
//! - [`store`] is the disk: the log in segment files, the vote and the catalogue of segments in sled, the
//!   snapshots in files, and the node's identity. It knows bytes and log indexes, and nothing about Raft's rules.
//! - [`consensus`] is the protocol: it elects a leader, replicates the log, applies what is committed,
//!   and confirms reads. It does not depend on a disk: it writes through the trait [`store::Storage`].
//!
//! [`Deadline`] and [`Backoff`] measure time on the runtime's clock.
//!
//! ```text
//! request ──> Consensus::propose ──> openraft ──┬──> LogStore ──> Storage (one thread writes and flushes)
//!                                               ├──> GrpcNetwork ──> the peers' PeerServer
//! reply <── StateMachine::apply <── committed ──┘
//! ```
//!
//! Guarantees:
//!
//! - A reply to a request means that its entry is flushed on a quorum: it survives the loss of power on
//!   every node, and the loss of any minority of the disks.
//! - At most one node leads in a term, and committed entries are never replaced.
//! - A read after [`Consensus::read_point`](consensus::Consensus::read_point) sees every write that was
//!   acknowledged before it began.
//! - Damage on disk is an error with its position, and an unknown format is an error with both
//!   versions. Nothing is repaired, dropped or guessed.
//!
//! Not guaranteed:
//!
//! - A request without a reply may or may not have been executed
//!   ([`ProposeError::Unknown`](consensus::ProposeError::Unknown)). Repeating it under the same session
//!   and sequence number is safe; that is the state machine's doing, not this crate's.
//! - Nothing here discovers peers or forwards a request to the leader: the caller does both.
//! - Peers are trusted: Raft tolerates nodes that stop, not nodes that lie.
//!
//! The disk, the network, the clock and the runtime are parameters, so that the deterministic simulation
//! (`node/tests/simulation.rs`) runs the production code with simulated ones.

pub mod consensus;
pub mod failpoints;
#[cfg(test)]
mod golden_tests;
pub mod store;
mod time;

pub use time::{Backoff, Deadline};
