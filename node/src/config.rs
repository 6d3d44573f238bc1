//! What an operator can set: defaults < TOML file < `LOCKSTEP_*` environment < flags.
//!
//! One table, [`KEYS`], names every setting once: its path in the file, its environment variable,
//! its flag, its default, what it expects. Loading, `check-config --show`, the README's table and
//! the command line's help all follow from it.
//!
//! [`load`] reads every source before it judges, and returns every fault at once, each with the
//! place it came from. A [`Config`] that exists has passed: later code need not check it again.
//!
//! Sinks may be any number, each with a name of its own, so they have a table of their own, in
//! `sink/keys.rs`: it names the settings of one sink. They have no flags.

mod fault;
mod file;
mod keys;
mod load;
mod sense;
mod shape;
mod show;
mod sink;

#[cfg(test)]
mod tests;

pub use fault::{ConfigErrors, Fault, Origin, Warning};
pub use keys::{KEYS, Key, KeyDefault};
pub use load::{ENV_CONFIG, Loaded, Setting, Sources, load, load_explained};
pub use show::{markdown, show, sink_markdown};
pub use sink::{
    Follow, MongoSink, PostgresSink, Secret, Sink, SinkKind, Start, WebhookSink, is_local,
};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration of a node, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The operator's name for this node, unique in the cluster.
    pub name: String,
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// The public HTTP interface.
    pub http: Http,
    /// The gRPC interface, for clients and peers.
    pub grpc: Grpc,
    /// How many watches are open at once, over both interfaces; more are refused.
    pub watchers_max: usize,
    /// How the nodes find each other.
    pub discovery: Discovery,
    /// Consensus timings and sizes.
    pub raft: Raft,
    /// Disk.
    pub storage: Storage,
    /// The bounds of the replicated state: those of the leader hold.
    pub limits: lockstep_machine::Limits,
    /// The systems that follow the cluster, in order of name.
    pub sinks: Vec<Sink>,
    /// Logs.
    pub log: Log,
}

/// The public HTTP interface.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that others reach it by.
    pub advertise: String,
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// How long a client may take to send its request's head.
    pub header_timeout: Duration,
    /// How long a request may take in all; also the deadline of a write or read.
    pub request_timeout: Duration,
    /// How many requests are served at once; more get 503.
    pub concurrency_max: usize,
    /// How long open requests may finish after a stop was asked for.
    pub drain_timeout: Duration,
}

/// The gRPC interface.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that others reach it by.
    pub advertise: String,
    /// Largest message from a client, bytes.
    pub message_bytes_max: usize,
    /// How many requests are served at once on one connection.
    pub concurrency_max: usize,
}

/// How the nodes find each other.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// How many nodes make the first cluster.
    pub expect: usize,
    /// Which way.
    pub kind: DiscoveryKind,
}

/// The ways to find peers.
#[derive(Debug, Clone)]
pub enum DiscoveryKind {
    /// A fixed list of every node, this one included.
    Static {
        /// The peers, by name.
        peers: Vec<StaticPeer>,
    },
    /// A Consul agent.
    Consul(Consul),
}

/// One node of a fixed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticPeer {
    /// Its name.
    pub name: String,
    /// Its gRPC address, `host:port`.
    pub grpc: String,
}

/// A Consul agent and what to say to it.
#[derive(Debug, Clone)]
pub struct Consul {
    /// The agent's HTTP address, for example `http://127.0.0.1:8500`.
    pub address: String,
    /// ACL token, if the agent wants one.
    pub token: Option<String>,
    /// The service name to register under and to look for: one cluster, one name.
    pub service: String,
    /// Tags to register with.
    pub tags: Vec<String>,
    /// Further metadata to register with.
    pub meta: Vec<(String, String)>,
    /// How often Consul checks the node's health.
    pub check_interval: Duration,
    /// When Consul forgets a node that stays critical; at least a minute.
    pub deregister_after: Duration,
}

/// Consensus timings and sizes.
#[derive(Debug, Clone)]
pub struct Raft {
    /// Between a leader's heartbeats.
    pub heartbeat: Duration,
    /// Shortest wait before a follower stands for election.
    pub election_timeout_min: Duration,
    /// Longest wait before a follower stands for election; also the leader's lease.
    pub election_timeout_max: Duration,
    /// Snapshot after this many log entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, for followers that lag.
    pub log_keep_entries: u64,
    /// Requests put into one log entry at most.
    pub batch_requests_max: usize,
    /// Bytes of requests put into one log entry at most.
    pub batch_bytes_max: usize,
    /// Log entries proposed and not yet applied at most.
    pub proposals_in_flight_max: usize,
    /// Requests waiting to be proposed at most; more are refused.
    pub queue_max: usize,
}

/// Disk.
#[derive(Debug, Clone)]
pub struct Storage {
    /// sled's cache, bytes.
    pub cache_bytes: u64,
    /// Log entries kept in memory for replication, bytes.
    pub log_cache_bytes: usize,
    /// A file held back, to be given up when the disk is full, bytes.
    pub reserve_bytes: u64,
    /// With less free than this, bytes, a leader takes no writes; 0 for no such bound.
    pub free_bytes_min: u64,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct Log {
    /// Human-readable lines or JSON.
    pub format: LogFormat,
    /// A `tracing` filter, for example `info,lockstep_node=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
