//! The tables of settings: one for the node, one for each sink. Both have rows of one type.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_machine::{SinkName, Unit};
use serde::Deserialize;

use super::shape::Shape::{self, *};
use super::sink::{Follow, Hidden, SinkKind, Start};

/// The value of a key that no source sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDefault {
    /// This value.
    Is(&'static str),
    /// A value that follows from other settings; described in words.
    Derived(&'static str),
    /// None: the key must be set.
    Required,
    /// None: the key may stay unset.
    Unset,
}

use KeyDefault::{Derived, Is, Required, Unset};

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// The path in the TOML file, for example `http.listen`. For a sink, the path within its table.
    pub path: &'static str,
    /// Which values are allowed.
    pub shape: Shape,
    /// The value that applies when no source sets the key.
    pub default: KeyDefault,
    /// What the setting does.
    pub doc: &'static str,
    /// The flag, without dashes. Only keys whose value differs from node to node have one. The
    /// environment variable has the same name.
    pub flag: Option<&'static str>,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// For a sink: the kinds that have this key. Empty for a key of the node.
    pub kinds: &'static [&'static str],
}

impl Key {
    /// The environment variable of a key of the node.
    pub fn env(&self) -> String {
        env_name(self.flag.unwrap_or(self.path))
    }

    /// The key's path where `sink` is its sink; a key of the node without one.
    pub(super) fn path_in(&self, sink: Option<&str>) -> String {
        match sink {
            Some(sink) => format!("{SINKS}.{sink}.{}", self.path),
            None => self.path.to_owned(),
        }
    }

    /// The environment variable where `sink` is the key's sink.
    pub(super) fn env_in(&self, sink: Option<&str>) -> String {
        match sink {
            Some(_) => env_name(&self.path_in(sink)),
            None => self.env(),
        }
    }

    /// The kinds of sinks that have this key, for a sentence.
    pub(super) fn kinds(&self) -> String {
        match self.kinds.len() == KINDS.len() {
            true => "all".into(),
            false => self.kinds.join(" or "),
        }
    }

    const fn flag(self, flag: &'static str) -> Self {
        Key {
            flag: Some(flag),
            ..self
        }
    }

    const fn secret(self) -> Self {
        Key {
            secret: true,
            ..self
        }
    }

    const fn of(self, kinds: &'static [&'static str]) -> Self {
        Key { kinds, ..self }
    }
}

const fn key(path: &'static str, shape: Shape, default: KeyDefault, doc: &'static str) -> Key {
    Key {
        path,
        shape,
        default,
        doc,
        flag: None,
        secret: false,
        kinds: &[],
    }
}

/// The TOML table that contains a table for each sink.
pub(super) const SINKS: &str = "sink";
pub(super) const KINDS: &[&str] = &["postgres", "mongo", "webhook"];
pub(super) const ENV_PREFIX: &str = "LOCKSTEP_";

pub(super) fn env_name(path: &str) -> String {
    format!(
        "{ENV_PREFIX}{}",
        path.replace(['.', '-'], "_").to_uppercase()
    )
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn time(min_ms: u64, max_minutes: u64) -> Shape {
    number(Unit::Milliseconds, min_ms, max_minutes * 60_000)
}

const fn count(min: u64, max: u64) -> Shape {
    number(Unit::Count, min, max)
}

const fn bytes(min: u64, max: u64) -> Shape {
    number(Unit::Bytes, min, max)
}

const fn number(unit: Unit, min: u64, max: u64) -> Shape {
    Number { unit, min, max }
}

/// Declares every setting of a node once: as a field of [`Config`] or of one of its sections, and as a
/// row of [`KEYS`]. A section is a table in the TOML file.
macro_rules! settings {
    (
        $($own:ident: $own_type:ty, $own_shape:expr, $own_default:expr, $own_doc:literal $(, $own_with:ident($($own_argument:literal)?))?;)*
        $(
            $(#[$about:meta])+
            $section:ident: $Section:ident {
                $($(#[$attribute:meta])* $field:ident: $type:ty, $shape:expr, $default:expr, $doc:literal $(, $with:ident($($argument:literal)?))?;)*
            }
        )*
    ) => {
        /// The whole configuration of a node, checked.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $(#[doc = $own_doc] pub $own: $own_type,)*
            $($(#[$about])+ pub $section: $Section,)*
            /// The destinations that follow the cluster, ordered by name.
            #[serde(skip)]
            pub sinks: Vec<Sink>,
        }

        $(
            $(#[$about])+
            #[derive(Debug, Clone, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $Section {
                $(#[doc = $doc] $(#[$attribute])* pub $field: $type,)*
            }
        )*

        /// Every setting of a node.
        pub static KEYS: &[Key] = &[
            $(key(stringify!($own), $own_shape, $own_default, $own_doc)$(.$own_with($($own_argument)?))?,)*
            $($(
                key(concat!(stringify!($section), ".", stringify!($field)), $shape, $default, $doc)$(.$with($($argument)?))?,
            )*)*
        ];
    };
}

settings! {
    name: String, Name, Required, "Name of the node, unique in the cluster.", flag("name");
    data_dir: PathBuf, Path, Derived("`lockstep-data/<name>`"), "Data folder: log, snapshots and identity.", flag("data-dir");
    watchers_max: usize, count(1, 1_000_000), Is("10000"), "Maximum number of open watches, over HTTP and gRPC; more get 429 or RESOURCE_EXHAUSTED.";

    /// The public HTTP interface.
    http: Http {
        listen: SocketAddr, Address, Is("127.0.0.1:3333"), "Address that the HTTP interface listens on.", flag("http-listen");
        advertise: String, HostPort, Derived("`http.listen`"), "Address that others use to reach the HTTP interface.", flag("http-advertise");
        body_bytes_max: usize, bytes(KIB, 64 * MIB), Is("64KiB"), "Maximum size of a request body.";
        header_timeout: Duration, time(10, 5), Is("30s"), "Maximum time to receive the head of a request.";
        request_timeout: Duration, time(10, 5), Is("5s"), "Maximum time to answer a request, including the read or write that it requests.";
        concurrency_max: usize, count(1, 1_000_000), Is("4096"), "Maximum number of requests served at once; more get 503.";
        drain_timeout: Duration, time(0, 10), Is("5s"), "Maximum time for open requests to finish when the node stops.";
        cors_origins: Vec<String>, Origins, Is(""), "Origins whose pages may call the HTTP interface from a browser, such as `https://app.example`; `*` for all.";
    }

    /// The gRPC interface, for clients and peers.
    grpc: Grpc {
        listen: SocketAddr, Address, Is("127.0.0.1:4333"), "Address that the gRPC interface listens on, for clients and peers.", flag("grpc-listen");
        advertise: String, HostPort, Derived("own address in `discovery.peers`, else `grpc.listen`"), "Address that others use to reach the gRPC interface.", flag("grpc-advertise");
        message_bytes_max: usize, bytes(KIB, 256 * MIB), Is("4MiB"), "Maximum size of a message from a client.";
        concurrency_max: usize, count(1, 1_000_000), Is("1024"), "Maximum number of requests served at once on one connection.";
    }

    /// How the nodes find each other.
    discovery: Discovery {
        kind: DiscoveryKind, OneOf(&["static", "consul", "dns"]), Is("static"), "How nodes find each other.", flag("discovery");
        expect: usize, count(1, 99), Derived("number of `discovery.peers`; 3 with Consul and DNS"), "Number of nodes that form the first cluster.", flag("expect");
        #[serde(default)]
        peers: Vec<StaticPeer>, Peers, Derived("this node alone"), "All nodes, this one included, with their gRPC addresses. For `static`.", flag("peers");
        dns: Option<String>, HostPort, Unset, "Host name that resolves to the addresses of all nodes, and the port of their gRPC interface. For `dns`.";
        bootstrap_node: Option<String>, Name, Unset, "Name of the only node that may bootstrap the cluster, the same on all nodes. For `dns`.";
    }

    /// A Consul agent, and what to register there.
    consul: Consul {
        address: String, Url, Is("http://127.0.0.1:8500"), "Address of the Consul agent.", flag("consul-address");
        token: Option<String>, Text, Unset, "ACL token for Consul.", secret();
        service: String, Name, Is("lockstep"), "Service name under which nodes register and find each other. Use a different name for each cluster.";
        tags: Vec<String>, List, Is(""), "Tags to register.";
        meta: Vec<(String, String)>, Meta, Is(""), "Additional metadata to register.";
        check_interval: Duration, time(100, 10), Is("2s"), "Interval between Consul's health checks.";
        deregister_after: Duration, time(60_000, 60 * 24 * 30), Is("10m"), "Time that a node may fail Consul's health check before Consul removes it.";
    }

    /// This node's place in the membership.
    cluster: Membership {
        bootstrap: bool, Flag, Is("true"), "Whether this node may form a new cluster with its peers; if not, it joins one, or waits to be added to one.";
        learner: bool, Flag, Is("false"), "Whether this node stays a learner: it receives the log, serves reads, and does not vote.";
        auto_replace: bool, Flag, Is("true"), "While this node leads: whether a node that joins takes the place of a member of its name that does not answer.";
    }

    /// Timings and sizes of consensus.
    raft: Raft {
        heartbeat: Duration, time(5, 1), Is("100ms"), "Interval between heartbeats of a leader.";
        election_timeout_min: Duration, time(10, 5), Is("200ms"), "Minimum time without a heartbeat before a follower starts an election; at least two heartbeats.";
        election_timeout_max: Duration, time(10, 5), Is("400ms"), "Maximum time without a heartbeat before a follower starts an election.";
        clock_skew_max: Duration, time(100, 60 * 24), Is("10s"), "Maximum difference between this node's clock and the median of the members' clocks. A leader whose clock differs by more hands over leadership, and a leader never moves cluster time further ahead of the median than this.";
        snapshot_entries: u64, count(1, 1_000_000_000), Is("50000"), "Number of log entries after which a snapshot is written, if `raft.log_bytes_max` does not require one earlier. Each node adds up to a quarter, derived from its id, so that nodes do not write snapshots at the same time.";
        log_keep_entries: u64, count(1, 1_000_000_000), Is("200000"), "Number of log entries kept after a snapshot covers them, for followers that lag; fewer within `raft.log_bytes_max`.";
        log_bytes_max: u64, bytes(16 * MIB, 1024 * GIB), Is("1GiB"), "Maximum size of the log on disk, in bytes of its entries; lower on a small disk. A snapshot is written after half of it.";
        batch_requests_max: usize, count(1, 65_536), Is("256"), "Maximum number of requests in one log entry.";
        batch_bytes_max: usize, bytes(KIB, 64 * MIB), Is("512KiB"), "Maximum size of the requests in one log entry.";
        proposals_in_flight_max: usize, count(1, 1024), Is("4"), "Maximum number of log entries proposed and not yet applied.";
        queue_max: usize, count(1, 10_000_000), Is("16384"), "Maximum number of requests waiting to be proposed; more are refused.";
    }

    /// Disk.
    storage: Storage {
        cache_bytes: u64, bytes(MIB, 1024 * GIB), Is("32MiB"), "Size of sled's cache.";
        log_cache_bytes: usize, bytes(MIB, 1024 * GIB), Is("32MiB"), "Size of the log entries kept in memory for replication.";
        reserve_bytes: u64, bytes(MIB, 1024 * GIB), Is("16MiB"), "Size of the reserve file, which is deleted when the disk is full.";
        free_bytes_warn: u64, bytes(0, 1024 * GIB), Derived("twice `storage.free_bytes_min`"), "Free disk space below which a node logs a warning and shortens its log.";
        free_bytes_min: u64, bytes(0, 1024 * GIB), Is("128MiB"), "Minimum free disk space. With less, a leader hands over leadership or refuses writes; 0 turns this off.";
    }

    /// Scheduled backups.
    backup: Backup {
        folder: Option<PathBuf>, Path, Unset, "Folder into which this node writes backups; if not set, it writes none.";
        interval: Duration, time(1000, 60 * 24 * 30), Is("1h"), "Time between two backups.";
        keep: usize, count(1, 100_000), Is("24"), "Number of backups of this node and cluster that are kept; older ones are deleted.";
    }

    /// Logs.
    log: Log {
        format: LogFormat, OneOf(&["text", "json"]), Is("text"), "Format of log lines.", flag("log-format");
        filter: String, Filter, Is("info,openraft=error,consulrs=off,rustify=off"), "Which log lines to write, for example `info,lockstep_node=debug`.", flag("log-filter");
    }
}

/// The ways to find peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoveryKind {
    /// A fixed list of all nodes, including this one.
    Static,
    /// A Consul agent.
    Consul,
    /// One host name that resolves to all nodes.
    Dns,
}

/// One node of a fixed list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StaticPeer {
    pub name: String,
    /// Its gRPC address, `host:port`.
    pub grpc: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

const DATABASES: &[&str] = &["postgres", "mongo"];
const POSTGRES: &[&str] = &["postgres"];
const MONGO: &[&str] = &["mongo"];
const WEBHOOK: &[&str] = &["webhook"];

/// Names that the databases reserve, and names of the sinks' internal tables.
const SCHEMAS_TAKEN: &[&str] = &["information_schema", "pg_catalog", "pg_toast"];
const DATABASES_TAKEN: &[&str] = &["admin", "config", "local"];
const TABLES_TAKEN: &[&str] = &["sinks", "seeds"];

/// Declares every setting of a sink once: as a field of [`Sink`], and as a row of [`SINK_KEYS`] with the kinds
/// of sinks that have it.
macro_rules! sink_settings {
    ($($field:ident: $type:ty, $kinds:expr, $shape:expr, $default:expr, $doc:literal $(, $with:ident())?;)*) => {
        /// The configuration of a sink, checked. What its kind does not have is at its default.
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Sink {
            /// Its name.
            pub name: SinkName,
            $(#[doc = $doc] pub $field: $type,)*
        }

        /// Every setting of a sink.
        pub static SINK_KEYS: &[Key] = &[
            $(key(stringify!($field), $shape, $default, $doc).of($kinds)$(.$with())?,)*
        ];
    };
}

sink_settings! {
    kind: SinkKind, KINDS, OneOf(KINDS), Required, "Kind of the destination.";
    address: String, KINDS, Location, Required, "Address of the destination: `postgres://user@host/database`, `mongodb://user@host` or `https://host/path`.";
    machines: Vec<Follow>, KINDS, Follows, Is(""), "Which events the sink copies: those of a `machine`, or `machine/prefix` for the instances whose names start with the prefix. Empty means all.";
    batch_events_max: usize, KINDS, count(1, 10_000), Is("500"), "Maximum number of events in one write.";
    timeout: Duration, KINDS, time(100, 5), Is("10s"), "Maximum time for one connect, write or request.";
    retry_max: Duration, KINDS, time(100, 60), Is("30s"), "Maximum pause between two attempts.";
    optional: bool, KINDS, Flag, Is("false"), "Whether the host may be missing from DNS. If it is, the sink waits and reports no error.";
    ca_file: Option<PathBuf>, KINDS, Path, Unset, "Additional certificate authorities to trust, PEM.";
    password: Option<Hidden>, DATABASES, Text, Unset, "The password. Prefer `password_file`.", secret();
    password_file: Option<PathBuf>, DATABASES, Path, Unset, "File that contains the password, read at each connect.";
    schema: String, POSTGRES, Identifier(SCHEMAS_TAKEN), Is("lockstep"), "Schema of the tables.";
    database: String, MONGO, Identifier(DATABASES_TAKEN), Is("lockstep"), "Database of the collections.";
    history: String, DATABASES, Identifier(TABLES_TAKEN), Is("history"), "Table or collection of all events.";
    instances: String, DATABASES, Identifier(TABLES_TAKEN), Is("instances"), "Table or collection of current states.";
    secret: Option<Hidden>, WEBHOOK, Signing, Unset, "Signing secrets, separated by spaces, each `whsec_` and base64 of 24 to 64 bytes. This or `secret_file` is required.", secret();
    secret_file: Option<PathBuf>, WEBHOOK, Path, Unset, "File that contains the signing secrets.";
    concurrency_max: usize, WEBHOOK, count(1, 256), Is("16"), "Maximum number of concurrent requests, each for a different instance.";
    attempts_max: u32, WEBHOOK, count(1, 1000), Is("10"), "Number of attempts to deliver an event that is answered with 5xx while others are accepted; then it becomes a dead letter.";
    allow_local: bool, WEBHOOK, Flag, Is("false"), "Whether loopback and link-local addresses may be called.";
    start: Start, WEBHOOK, OneOf(&["now", "everything"]), Is("now"), "Where a new sink starts: with the next event, or with a backfill of the current states.";
}
