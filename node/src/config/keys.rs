//! The tables of settings: one for the node, one for each sink. Both have rows of one type.

use std::time::Duration;

use lockstep_machine::SinkName;

use super::shape::Shape::{self, *};

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

/// The table that holds one table for each sink.
pub(super) const SINKS: &str = "sink";
/// The kinds of sinks.
pub(super) const KINDS: &[&str] = &["postgres", "mongo", "webhook"];
/// The start of every environment variable.
pub(super) const ENV_PREFIX: &str = "LOCKSTEP_";

fn env_name(path: &str) -> String {
    format!(
        "{ENV_PREFIX}{}",
        path.replace(['.', '-'], "_").to_uppercase()
    )
}

/// A key, and the sink it belongs to if it is a sink's key.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) sink: Option<SinkName>,
    pub(super) key: &'static Key,
}

impl Slot {
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let key = KEYS.iter().find(|key| key.path == path)?;
        Some(Slot { sink: None, key })
    }

    pub(super) fn of_sink(sink: &SinkName, path: &str) -> Option<Self> {
        let key = SINK_KEYS.iter().find(|key| key.path == path)?;
        Some(Slot {
            sink: Some(sink.clone()),
            key,
        })
    }

    pub(super) fn of_env(variable: &str) -> Option<Self> {
        if let Some(key) = KEYS.iter().find(|key| key.env() == variable) {
            return Some(Slot { sink: None, key });
        }
        let rest = variable.strip_prefix(&env_name("sink."))?;
        let (sink, path) = rest.split_once('_')?;
        let sink = SinkName::new(sink.to_lowercase()).ok()?;
        let slot = Self::of_sink(&sink, &path.to_lowercase())?;
        // A variable in small letters is a mistake.
        (slot.key.env_in(Some(sink.as_str())) == variable).then_some(slot)
    }

    pub(super) fn path(&self) -> String {
        self.key.path_in(self.sink.as_ref().map(SinkName::as_str))
    }
}

/// The known path that looks most like `wrong`; `None` if none is near.
pub(super) fn nearest_path(wrong: &str) -> Option<String> {
    let sinks = format!("{SINKS}.");
    match wrong.strip_prefix(&sinks) {
        Some(rest) => {
            let sink = rest.split_once('.').map_or("<name>", |(sink, _)| sink);
            nearest(wrong, SINK_KEYS.iter().map(|key| key.path_in(Some(sink))))
        }
        None => nearest(wrong, KEYS.iter().map(|key| key.path.to_owned())),
    }
}

/// The known environment variable that looks most like `wrong`; `None` if none is near.
pub(super) fn nearest_env(wrong: &str) -> Option<String> {
    nearest_sink_env(wrong).or_else(|| nearest(wrong, KEYS.iter().map(Key::env)))
}

/// Where a sink's name ends is a guess, since both it and the key may contain `_`: the nearest key
/// of all ways to split wins.
fn nearest_sink_env(wrong: &str) -> Option<String> {
    let upper = wrong.to_uppercase();
    let rest = upper.strip_prefix(&env_name("sink."))?;
    let splits = rest.match_indices('_').filter_map(|(at, _)| {
        let sink = rest[..at].replace(['_', '-'], "").to_lowercase();
        SinkName::new(&sink).ok()?;
        let path = rest[at + 1..].to_lowercase();
        let (distance, key) = SINK_KEYS
            .iter()
            .map(|key| (strsim::damerau_levenshtein(&path, key.path), key))
            .filter(|(distance, key)| *distance <= 2.max(key.path.len() / 3))
            .min_by_key(|(distance, _)| *distance)?;
        Some((distance, key.env_in(Some(&sink))))
    });
    splits.min().map(|(_, variable)| variable)
}

fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> Option<String> {
    fn last(path: &str) -> &str {
        path.rsplit('.').next().unwrap_or_default()
    }
    known
        .map(|known| {
            let whole = strsim::damerau_levenshtein(wrong, &known);
            // `heartbeat` in the wrong section is closer to `raft.heartbeat` than its letters say.
            let end = 1 + strsim::damerau_levenshtein(last(wrong), last(&known));
            (whole.min(end), whole, known)
        })
        .filter(|(distance, _, known)| {
            *distance <= 2.max(last(known).trim_start_matches(ENV_PREFIX).len() / 3)
        })
        .min()
        .map(|(_, _, known)| known)
}

/// What to use instead of a flag that does not exist, if a setting has the name of that flag.
pub fn instead_of_flag(flag: &str) -> Option<String> {
    let plain = flag.trim_start_matches('-').split('=').next()?;
    let key = KEYS
        .iter()
        .find(|key| key.path.replace(['.', '_'], "-") == plain)?;
    Some(format!(
        "set {} in the configuration file, or {} in the environment",
        key.path,
        key.env()
    ))
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn time(min_ms: u64, max_minutes: u64) -> Shape {
    Time {
        min: Duration::from_millis(min_ms),
        max: Duration::from_secs(max_minutes * 60),
    }
}

const fn count(min: u64, max: u64) -> Shape {
    Count { min, max }
}

const fn bytes(min: u64, max: u64) -> Shape {
    Bytes { min, max }
}

/// Every setting of a node.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    key("name", Name, Required, "Name of the node, unique in the cluster.").flag("name"),
    key("data_dir", Path, Derived("`lockstep-data/<name>`"), "Data folder: log, snapshots and identity.").flag("data-dir"),
    key("watchers_max", count(1, 1_000_000), Is("10000"), "Maximum number of open watches, over HTTP and gRPC; more get 429 or RESOURCE_EXHAUSTED."),
    key("http.listen", Address, Is("127.0.0.1:3333"), "Address that the HTTP interface listens on.").flag("http-listen"),
    key("http.advertise", HostPort, Derived("`http.listen`"), "Address that others use to reach the HTTP interface.").flag("http-advertise"),
    key("http.body_bytes_max", bytes(KIB, 64 * MIB), Is("64KiB"), "Maximum size of a request body."),
    key("http.header_timeout", time(10, 5), Is("30s"), "Maximum time to receive the head of a request."),
    key("http.request_timeout", time(10, 5), Is("5s"), "Maximum time to answer a request, including the read or write that it requests."),
    key("http.concurrency_max", count(1, 1_000_000), Is("4096"), "Maximum number of requests served at once; more get 503."),
    key("http.drain_timeout", time(0, 10), Is("5s"), "Maximum time for open requests to finish when the node stops."),
    key("http.cors_origins", Origins, Is(""), "Origins whose pages may call the HTTP interface from a browser, such as `https://app.example`; `*` for all."),
    key("grpc.listen", Address, Is("127.0.0.1:4333"), "Address that the gRPC interface listens on, for clients and peers.").flag("grpc-listen"),
    key("grpc.advertise", HostPort, Derived("own address in `discovery.peers`, else `grpc.listen`"), "Address that others use to reach the gRPC interface.").flag("grpc-advertise"),
    key("grpc.message_bytes_max", bytes(KIB, 256 * MIB), Is("4MiB"), "Maximum size of a message from a client."),
    key("grpc.concurrency_max", count(1, 1_000_000), Is("1024"), "Maximum number of requests served at once on one connection."),
    key("discovery.kind", OneOf(&["static", "consul"]), Is("static"), "How nodes find each other.").flag("discovery"),
    key("discovery.expect", count(1, 99), Derived("number of `discovery.peers`; 3 with Consul"), "Number of nodes that form the first cluster.").flag("expect"),
    key("discovery.peers", Peers, Derived("this node alone"), "All nodes, this one included, with their gRPC addresses. For `static`.").flag("peers"),
    key("consul.address", Url, Is("http://127.0.0.1:8500"), "Address of the Consul agent.").flag("consul-address"),
    key("consul.token", Text, Unset, "ACL token for Consul.").secret(),
    key("consul.service", Name, Is("lockstep"), "Service name under which nodes register and find each other. Use a different name for each cluster."),
    key("consul.tags", List, Is(""), "Tags to register."),
    key("consul.meta", Meta, Is(""), "Additional metadata to register."),
    key("consul.check_interval", time(100, 10), Is("2s"), "Interval between Consul's health checks."),
    key("consul.deregister_after", time(60_000, 60 * 24 * 30), Is("10m"), "Time that a node may fail Consul's health check before Consul removes it."),
    key("raft.heartbeat", time(5, 1), Is("100ms"), "Interval between heartbeats of a leader."),
    key("raft.election_timeout_min", time(10, 5), Is("200ms"), "Minimum time without a heartbeat before a follower starts an election; at least two heartbeats."),
    key("raft.election_timeout_max", time(10, 5), Is("400ms"), "Maximum time without a heartbeat before a follower starts an election."),
    key("raft.snapshot_entries", count(1, 1_000_000_000), Is("50000"), "Number of log entries between snapshots. Each node adds up to a quarter, derived from its id, so that nodes do not write snapshots at the same time."),
    key("raft.log_keep_entries", count(1, 1_000_000_000), Is("200000"), "Number of log entries kept after a snapshot covers them, for followers that lag."),
    key("raft.batch_requests_max", count(1, 65_536), Is("256"), "Maximum number of requests in one log entry."),
    key("raft.batch_bytes_max", bytes(KIB, 64 * MIB), Is("512KiB"), "Maximum size of the requests in one log entry."),
    key("raft.proposals_in_flight_max", count(1, 1024), Is("4"), "Maximum number of log entries proposed and not yet applied."),
    key("raft.queue_max", count(1, 10_000_000), Is("16384"), "Maximum number of requests waiting to be proposed; more are refused."),
    key("storage.cache_bytes", bytes(MIB, 1024 * GIB), Is("32MiB"), "Size of sled's cache."),
    key("storage.log_cache_bytes", bytes(MIB, 1024 * GIB), Is("32MiB"), "Size of the log entries kept in memory for replication."),
    key("storage.reserve_bytes", bytes(MIB, 1024 * GIB), Is("16MiB"), "Size of the reserve file, which is deleted when the disk is full."),
    key("storage.free_bytes_min", bytes(0, 1024 * GIB), Is("128MiB"), "Minimum free disk space. With less, a leader hands over leadership or rejects writes; 0 turns this off."),
    key("log.format", OneOf(&["text", "json"]), Is("text"), "Format of log lines.").flag("log-format"),
    key("log.filter", Filter, Is("info,openraft=error,consulrs=off,rustify=off"), "Which log lines to write, for example `info,lockstep_node=debug`.").flag("log-filter"),
];

const DATABASES: &[&str] = &["postgres", "mongo"];
const POSTGRES: &[&str] = &["postgres"];
const MONGO: &[&str] = &["mongo"];
const WEBHOOK: &[&str] = &["webhook"];

/// Names that the databases reserve, and names of the tables that sinks keep for themselves.
const SCHEMAS_TAKEN: &[&str] = &["information_schema", "pg_catalog", "pg_toast"];
const DATABASES_TAKEN: &[&str] = &["admin", "config", "local"];
const TABLES_TAKEN: &[&str] = &["sinks", "seeds"];

/// Every setting of a sink.
#[rustfmt::skip]
pub static SINK_KEYS: &[Key] = &[
    key("kind", OneOf(KINDS), Required, "Kind of the destination.").of(KINDS),
    key("address", Location, Required, "Address of the destination: `postgres://user@host/database`, `mongodb://user@host` or `https://host/path`.").of(KINDS),
    key("machines", Follows, Is(""), "Which events the sink copies: those of a `machine`, or `machine/prefix` for the instances whose names start with the prefix. Empty means all.").of(KINDS),
    key("batch_events_max", count(1, 10_000), Is("500"), "Maximum number of events in one write.").of(KINDS),
    key("timeout", time(100, 5), Is("10s"), "Maximum time for one connect, write or request.").of(KINDS),
    key("retry_max", time(100, 60), Is("30s"), "Maximum pause between two attempts.").of(KINDS),
    key("optional", Flag, Is("false"), "Whether the host may be missing from DNS. If it is, the sink waits and reports no error.").of(KINDS),
    key("ca_file", Path, Unset, "Additional certificate authorities to trust, PEM.").of(KINDS),
    key("password", Text, Unset, "The password. Prefer `password_file`.").of(DATABASES).secret(),
    key("password_file", Path, Unset, "File that contains the password, read at each connect.").of(DATABASES),
    key("schema", Identifier(SCHEMAS_TAKEN), Is("lockstep"), "Schema of the tables.").of(POSTGRES),
    key("database", Identifier(DATABASES_TAKEN), Is("lockstep"), "Database of the collections.").of(MONGO),
    key("history", Identifier(TABLES_TAKEN), Is("history"), "Table or collection of all events.").of(DATABASES),
    key("instances", Identifier(TABLES_TAKEN), Is("instances"), "Table or collection of current states.").of(DATABASES),
    key("secret", Signing, Unset, "Signing secrets, separated by spaces, each `whsec_` and base64 of 24 to 64 bytes. This or `secret_file` is required.").of(WEBHOOK).secret(),
    key("secret_file", Path, Unset, "File that contains the signing secrets.").of(WEBHOOK),
    key("concurrency_max", count(1, 256), Is("16"), "Maximum number of concurrent requests, each for a different instance.").of(WEBHOOK),
    key("attempts_max", count(1, 1000), Is("10"), "Number of attempts to deliver an event that is answered with 5xx while others are accepted; then it becomes a dead letter.").of(WEBHOOK),
    key("allow_local", Flag, Is("false"), "Whether loopback and link-local addresses may be called.").of(WEBHOOK),
    key("start", OneOf(&["now", "everything"]), Is("now"), "Where a new sink starts: with the next event, or with a backfill of the current states.").of(WEBHOOK),
];
