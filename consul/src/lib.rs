//! Lockstep's directory in Consul: register a node, find nodes, win a latch.
//!
//! Consul holds the addresses of nodes and, while a cluster forms, its bootstrap plan. It does not
//! hold membership: the Raft log does. A running cluster does not need Consul; only nodes that
//! start, and clients that look for nodes, ask it.
//!
//! - [`Directory`] is a Consul agent. [`services`](Directory::services) returns the nodes whose
//!   health check passes, [`register`](Directory::register) and
//!   [`deregister`](Directory::deregister) maintain this node's own entry, and
//!   [`read_key`](Directory::read_key) and [`create_key`](Directory::create_key) are the latch: of
//!   several nodes that create the same key, exactly one succeeds. [`delete_key`](Directory::delete_key) opens it.
//! - [`Registration`] is the entry of a node: its addresses, its metadata and the HTTP check that
//!   Consul runs against `/livez`.
//!
//! Every request ends within [`REQUEST_TIMEOUT`]. Errors name the agent, the request and the cause.
//! Nothing here retries, caches or runs in the background.

mod answer;
mod connection;
mod directory;
mod error;
mod registration;

pub use connection::{CONNECT_TIMEOUT, Directory, REQUEST_TIMEOUT};
pub use directory::{Registered, ServiceEntry, check_name};
pub use error::ConsulError;
pub use registration::{NODE_TAG, Registration, check_meta};
