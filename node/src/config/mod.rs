//! The configuration of a node: what an operator can set, where values come from, what is checked.
//!
//! # How the parts work together
//!
//! ```text
//!   defaults < TOML file < LOCKSTEP_* environment < flags      sources.rs, file.rs
//!                          |
//!                 KEYS, SINK_KEYS                               keys.rs
//!        path, shape, default, doc of every setting
//!                          |
//!        Raw --- Shape::read ---> Value + Origin                shape.rs, values.rs
//!                          |
//!          checks across settings, derived values               check.rs, sink/check.rs
//!                          |
//!                serde ---> Config
//! ```
//!
//! Two tables name every setting once: [`KEYS`] those of the node, [`SINK_KEYS`] those that each sink
//! has below `sink.<name>`. A row states the path in the file, the shape of the value with its bounds,
//! the default and what the setting does. The environment variable follows from the path; so does the
//! flag, which only settings have that differ from node to node. Loading, `check-config --show`,
//! `lockstepd run --help` and docs/CONFIGURATION.md are made from the tables. Adding a setting means a
//! row and a field of the same name in the structs below.
//!
//! # What it guarantees
//!
//! [`load`] reads all sources before it decides, and reports every fault at once, each with its source,
//! key, value and what is allowed. An unknown key in the file is a fault that names the nearest known one;
//! an unknown variable, which another program may have set, is a warning. Secrets appear in no message
//! and no listing. A [`Config`] that exists is valid; later code does not check it again.
//!
//! # What it does not
//!
//! What must be equal on all nodes, such as the limits of the replicated state, is a cluster setting and
//! part of that state. The configuration is read once, at the start; only secrets in files are read again.

mod check;
mod docs;
mod fault;
mod file;
mod keys;
mod shape;
mod sink;
mod sources;
mod values;

#[cfg(test)]
mod tests;

pub use docs::{markdown, show};
pub use fault::{ConfigErrors, Fault, Origin, Warning};
pub use keys::{KEYS, Key, KeyDefault, SINK_KEYS, instead_of_flag};
pub use shape::Shape;
pub use sink::{
    DatabaseSink, Follow, Secret, Sink, SinkKind, Start, WebhookSink, is_local, postgres_config,
};
pub use sources::{ENV_CONFIG, Sources};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use values::Values;

/// A setting as it came out.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The path in the TOML file.
    pub path: String,
    /// Whether the value must not be shown.
    pub secret: bool,
    /// The value as TOML; `None` if it has none. Secrets are not hidden here.
    pub value: Option<String>,
    /// The source of the value.
    pub origin: Origin,
}

/// A configuration with the source of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// Every setting, in the order of [`KEYS`], then those of each sink.
    pub settings: Vec<Setting>,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// Every fault of every source at once, including those of values that a stronger source overrides.
pub fn load(sources: &Sources) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_explained(sources).map(|loaded| (loaded.config, loaded.warnings))
}

/// Like [`load`], with the source of each value.
///
/// # Errors
///
/// As [`load`].
pub fn load_explained(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut values = Values::default();
    sources.read(&mut values);
    values.set_defaults(None, KEYS.iter());
    let sinks = sink::check(&mut values);
    check::check(&mut values);
    let settings = settings(&values);
    let Values {
        mut faults,
        warnings,
        ..
    } = values.clone();
    if faults.is_empty() {
        match config(&values, sinks) {
            Ok(config) => {
                return Ok(Loaded {
                    config,
                    warnings,
                    settings,
                });
            }
            // The tables and the structs disagree, which a test rules out.
            Err(error) => faults.push(Fault::Conflict {
                what: error.to_string(),
            }),
        }
    }
    Err(ConfigErrors { faults })
}

fn config(values: &Values, sinks: Vec<Sink>) -> Result<Config, serde_json::Error> {
    let mut tree = values.tree();
    let consul = tree["consul"].take();
    let peers = tree["discovery"]["peers"].take();
    tree["discovery"]["kind"] = match tree["discovery"]["kind"].as_str() {
        Some("consul") => json!({ "consul": consul }),
        _ => json!({ "static": { "peers": peers } }),
    };
    for (section, key) in [("", "consul"), ("/discovery", "peers")] {
        if let Some(Json::Object(keys)) = tree.pointer_mut(section) {
            keys.remove(key);
        }
    }
    let mut config: Config = serde_json::from_value(tree)?;
    config.sinks = sinks;
    Ok(config)
}

fn settings(values: &Values) -> Vec<Setting> {
    let setting = |key: &Key, sink: Option<&str>| {
        let path = key.path_in(sink);
        Setting {
            secret: key.secret,
            value: values.entry(&path).map(|entry| entry.value.toml()),
            origin: values.origin(&path),
            path,
        }
    };
    let node = KEYS.iter().map(|key| setting(key, None));
    let sinks = values.sinks.iter().flat_map(|sink| {
        let kind: String = values.get_or_default(&format!("sink.{sink}.kind"));
        let own = move |key: &&Key| key.kinds.contains(&kind.as_str());
        let name = sink.as_str();
        SINK_KEYS
            .iter()
            .filter(own)
            .map(move |key| setting(key, Some(name)))
    });
    node.chain(sinks).collect()
}

/// The whole configuration of a node, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name, unique in the cluster.
    pub name: String,
    /// The directory of everything durable.
    pub data_dir: PathBuf,
    /// The public HTTP interface.
    pub http: Http,
    /// The gRPC interface, for clients and peers.
    pub grpc: Grpc,
    /// Maximum number of open watches over both interfaces; more are refused.
    pub watchers_max: usize,
    /// How the nodes find each other.
    pub discovery: Discovery,
    /// Timings and sizes of consensus.
    pub raft: Raft,
    /// Disk.
    pub storage: Storage,
    /// The destinations that follow the cluster, ordered by name.
    #[serde(skip)]
    pub sinks: Vec<Sink>,
    /// Logs.
    pub log: Log,
}

/// The public HTTP interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that others use to reach it.
    pub advertise: String,
    /// Maximum size of a request body, bytes.
    pub body_bytes_max: usize,
    /// Maximum time to receive the head of a request.
    pub header_timeout: Duration,
    /// Maximum time for a request, including its read or write.
    pub request_timeout: Duration,
    /// Maximum number of requests served at once; more get 503.
    pub concurrency_max: usize,
    /// Maximum time for open requests to finish when the node stops.
    pub drain_timeout: Duration,
    /// Origins whose pages may call from a browser; `*` for all.
    pub cors_origins: Vec<String>,
}

/// The gRPC interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that others use to reach it.
    pub advertise: String,
    /// Maximum size of a message from a client, bytes.
    pub message_bytes_max: usize,
    /// Maximum number of requests served at once on one connection.
    pub concurrency_max: usize,
}

/// How the nodes find each other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Number of nodes that form the first cluster.
    pub expect: usize,
    /// The way to find peers.
    pub kind: DiscoveryKind,
}

/// The ways to find peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoveryKind {
    /// A fixed list of all nodes, including this one.
    Static {
        /// The nodes.
        peers: Vec<StaticPeer>,
    },
    /// A Consul agent.
    Consul(Consul),
}

/// One node of a fixed list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StaticPeer {
    /// Its name.
    pub name: String,
    /// Its gRPC address, `host:port`.
    pub grpc: String,
}

/// A Consul agent, and what to register there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consul {
    /// The agent's HTTP address, for example `http://127.0.0.1:8500`.
    pub address: String,
    /// ACL token, if the agent requires one.
    pub token: Option<String>,
    /// The service name to register and to look for; one for each cluster.
    pub service: String,
    /// Tags to register.
    pub tags: Vec<String>,
    /// Additional metadata to register.
    pub meta: Vec<(String, String)>,
    /// Interval between Consul's health checks.
    pub check_interval: Duration,
    /// Time after which Consul removes a node that stays critical; at least a minute.
    pub deregister_after: Duration,
}

/// Timings and sizes of consensus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raft {
    /// Interval between heartbeats of a leader.
    pub heartbeat: Duration,
    /// Minimum time without a heartbeat before a follower starts an election.
    pub election_timeout_min: Duration,
    /// Maximum time without a heartbeat before a follower starts an election; also the leader's lease.
    pub election_timeout_max: Duration,
    /// Number of log entries between snapshots.
    pub snapshot_entries: u64,
    /// Number of log entries kept behind a snapshot, for followers that lag.
    pub log_keep_entries: u64,
    /// Maximum number of requests in one log entry.
    pub batch_requests_max: usize,
    /// Maximum size of the requests in one log entry, bytes.
    pub batch_bytes_max: usize,
    /// Maximum number of log entries proposed and not yet applied.
    pub proposals_in_flight_max: usize,
    /// Maximum number of requests waiting to be proposed; more are refused.
    pub queue_max: usize,
}

/// Disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Size of sled's cache, bytes.
    pub cache_bytes: u64,
    /// Size of the log entries kept in memory for replication, bytes.
    pub log_cache_bytes: usize,
    /// Size of the reserve file, which is deleted when the disk is full, bytes.
    pub reserve_bytes: u64,
    /// With less free disk space, bytes, a leader hands over leadership or refuses writes; 0 turns this off.
    pub free_bytes_min: u64,
}

/// Logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// A `tracing` filter, for example `info,lockstep_node=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}
