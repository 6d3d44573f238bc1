//! One node's part in a replicated log.
//!
//! [`store`] keeps the log, the vote, the snapshots and the node's identity on disk. [`consensus`]
//! agrees with the other nodes on what the log holds, and applies it to the state machine. Neither
//! knows HTTP, gRPC services for clients, or configuration files.
//!
//! `consensus` takes the disk, the network, the clock and the runtime as parameters. The
//! deterministic simulation (`node/tests/simulation.rs`) passes simulated ones and runs the code
//! that ships.

pub mod consensus;
pub mod store;
mod time;

pub use time::{Backoff, Deadline};
