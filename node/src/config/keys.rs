//! The table of settings, and the draft they fill in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lockstep_machine::{Limits, METADATA_BYTES_CEILING};

use super::shape::{self, Raw};
use super::{Consul, Grpc, Http, Log, LogFormat, Raft, Sink, StaticPeer, Storage};

/// What holds when nobody sets a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDefault {
    /// This value.
    Is(&'static str),
    /// What follows from other settings, in words.
    Derived(&'static str),
    /// Nothing: it must be set.
    Required,
    /// Nothing: it may stay unset.
    Unset,
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its path in the TOML file, for example `http.listen`.
    pub path: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// What holds when nobody sets it.
    pub default: KeyDefault,
    /// The kind of value, in a word or two.
    pub expects: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Whether its value must not be shown.
    pub secret: bool,
    pub(super) read: fn(&mut Draft, &Raw) -> Result<(), String>,
    pub(super) show: fn(&Draft) -> Option<String>,
}

/// The ways to find peers, before it is known whether what they need is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Static,
    Consul,
}

/// A configuration while it is being put together: what may still be missing is an `Option`.
/// The `advertise` of `http` and `grpc` stays empty until the end.
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) http: Http,
    pub(super) http_advertise: Option<String>,
    pub(super) grpc: Grpc,
    pub(super) grpc_advertise: Option<String>,
    pub(super) watchers_max: usize,
    pub(super) kind: Kind,
    pub(super) expect: Option<usize>,
    pub(super) peers: Vec<StaticPeer>,
    pub(super) consul: Consul,
    pub(super) raft: Raft,
    pub(super) storage: Storage,
    pub(super) limits: Limits,
    pub(super) sinks: Vec<Sink>,
    pub(super) log: Log,
}

impl Default for Draft {
    /// Blank: the defaults that count are those of [`KEYS`], which are put in first.
    fn default() -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Draft {
            name: None,
            data_dir: None,
            http: Http {
                listen: nowhere,
                advertise: String::new(),
                body_bytes_max: 0,
                header_timeout: Duration::ZERO,
                request_timeout: Duration::ZERO,
                concurrency_max: 0,
                drain_timeout: Duration::ZERO,
            },
            http_advertise: None,
            grpc: Grpc {
                listen: nowhere,
                advertise: String::new(),
                message_bytes_max: 0,
                concurrency_max: 0,
            },
            grpc_advertise: None,
            watchers_max: 0,
            kind: Kind::Static,
            expect: None,
            peers: Vec::new(),
            consul: Consul {
                address: String::new(),
                token: None,
                service: String::new(),
                tags: Vec::new(),
                meta: Vec::new(),
                check_interval: Duration::ZERO,
                deregister_after: Duration::ZERO,
            },
            raft: Raft {
                heartbeat: Duration::ZERO,
                election_timeout_min: Duration::ZERO,
                election_timeout_max: Duration::ZERO,
                snapshot_entries: 0,
                log_keep_entries: 0,
                batch_requests_max: 0,
                batch_bytes_max: 0,
                proposals_in_flight_max: 0,
                queue_max: 0,
            },
            storage: Storage {
                cache_bytes: 0,
                log_cache_bytes: 0,
                reserve_bytes: 0,
                free_bytes_min: 0,
            },
            limits: Limits::default(),
            sinks: Vec::new(),
            log: Log {
                format: LogFormat::Text,
                filter: String::new(),
            },
        }
    }
}

/// The known key that looks most like `wrong`, in the notation `of` gives; `None` if nothing is near.
pub(super) fn nearest(wrong: &str, of: fn(&Key) -> &'static str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
    KEYS.iter()
        .map(|key| {
            let known = of(key);
            let whole = strsim::damerau_levenshtein(wrong, known);
            // `heartbeat` in the wrong section is nearer to `raft.heartbeat` than its letters tell.
            let end = 1 + strsim::damerau_levenshtein(&last(wrong), &last(known));
            (whole.min(end), whole, known)
        })
        .filter(|(distance, _, known)| {
            *distance <= 2.max(last(known).trim_start_matches("LOCKSTEP_").len() / 3)
        })
        .min()
        .map(|(_, _, known)| known.to_string())
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// One row: path, environment variable, flag, default, field of the draft and its shape, doc.
macro_rules! key {
    ($path:literal, $env:literal, $flag:literal, $default:expr, secret $($rest:tt)*) => {
        Key { secret: true, ..key!($path, $env, $flag, $default, $($rest)*) }
    };
    ($path:literal, $env:literal, $flag:literal, $default:expr,
     $($field:ident).+: optional $shape:ident($($bound:expr),*), $doc:literal) => {
        key!(@row $path, $env, $flag, $default, $shape, $doc,
            |draft, raw| {
                draft.$($field).+ = Some(shape::$shape::read(raw, $($bound),*)?);
                Ok(())
            },
            |draft| draft.$($field).+.as_ref().map(|value| shape::$shape::show(value)))
    };
    ($path:literal, $env:literal, $flag:literal, $default:expr,
     $($field:ident).+: $shape:ident($($bound:expr),*), $doc:literal) => {
        key!(@row $path, $env, $flag, $default, $shape, $doc,
            |draft, raw| {
                draft.$($field).+ = shape::$shape::read(raw, $($bound),*)?;
                Ok(())
            },
            |draft| Some(shape::$shape::show(&draft.$($field).+)))
    };
    (@row $path:literal, $env:literal, $flag:literal, $default:expr, $shape:ident, $doc:literal,
     $read:expr, $show:expr) => {
        Key {
            path: $path,
            env: $env,
            flag: $flag,
            default: $default,
            expects: shape::$shape::EXPECTS,
            doc: $doc,
            secret: false,
            read: $read,
            show: $show,
        }
    };
}

use KeyDefault::{Derived, Is, Required, Unset};

/// Every setting there is.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    key!(
        "name", "LOCKSTEP_NAME", "name", Required,
        name: optional name(),
        "The node's name, unique in the cluster."
    ),
    key!(
        "data_dir", "LOCKSTEP_DATA_DIR", "data-dir", Derived("`lockstep-data/<name>`"),
        data_dir: optional path(),
        "Where everything durable lives."
    ),
    key!(
        "watchers_max", "LOCKSTEP_WATCHERS_MAX", "watchers-max", Is("10000"),
        watchers_max: count(1, 1_000_000),
        "Watches open at once, over HTTP and gRPC; more get 429 or RESOURCE_EXHAUSTED."
    ),
    key!(
        "http.listen", "LOCKSTEP_HTTP_LISTEN", "http-listen", Is("127.0.0.1:3333"),
        http.listen: address(),
        "Address the HTTP interface listens on."
    ),
    key!(
        "http.advertise", "LOCKSTEP_HTTP_ADVERTISE", "http-advertise", Derived("`http.listen`"),
        http_advertise: optional host_port(),
        "Address others reach the HTTP interface by."
    ),
    key!(
        "http.body_bytes_max", "LOCKSTEP_HTTP_BODY_BYTES_MAX", "http-body-bytes-max", Is("64KiB"),
        http.body_bytes_max: bytes(KIB, 64 * MIB),
        "Largest request body."
    ),
    key!(
        "http.header_timeout", "LOCKSTEP_HTTP_HEADER_TIMEOUT", "http-header-timeout", Is("30s"),
        http.header_timeout: duration(ms(10), minutes(5)),
        "How long a client may take to send its request's head."
    ),
    key!(
        "http.request_timeout", "LOCKSTEP_HTTP_REQUEST_TIMEOUT", "http-request-timeout", Is("5s"),
        http.request_timeout: duration(ms(10), minutes(5)),
        "Deadline of a request, of its read or write included."
    ),
    key!(
        "http.concurrency_max", "LOCKSTEP_HTTP_CONCURRENCY_MAX", "http-concurrency-max", Is("4096"),
        http.concurrency_max: count(1, 1_000_000),
        "Requests served at once; more get 503."
    ),
    key!(
        "http.drain_timeout", "LOCKSTEP_HTTP_DRAIN_TIMEOUT", "http-drain-timeout", Is("5s"),
        http.drain_timeout: duration(ms(0), minutes(10)),
        "How long open requests may finish after a stop was asked for."
    ),
    key!(
        "grpc.listen", "LOCKSTEP_GRPC_LISTEN", "grpc-listen", Is("127.0.0.1:4333"),
        grpc.listen: address(),
        "Address the gRPC interface listens on, for clients and peers."
    ),
    key!(
        "grpc.advertise", "LOCKSTEP_GRPC_ADVERTISE", "grpc-advertise", Derived("own address in `discovery.peers`, else `grpc.listen`"),
        grpc_advertise: optional host_port(),
        "Address others reach the gRPC interface by."
    ),
    key!(
        "grpc.message_bytes_max", "LOCKSTEP_GRPC_MESSAGE_BYTES_MAX", "grpc-message-bytes-max", Is("4MiB"),
        grpc.message_bytes_max: bytes(KIB, 256 * MIB),
        "Largest message from a client."
    ),
    key!(
        "grpc.concurrency_max", "LOCKSTEP_GRPC_CONCURRENCY_MAX", "grpc-concurrency-max", Is("1024"),
        grpc.concurrency_max: count(1, 1_000_000),
        "Requests served at once on one connection."
    ),
    key!(
        "discovery.kind", "LOCKSTEP_DISCOVERY", "discovery", Is("static"),
        kind: kind(),
        "How nodes find each other."
    ),
    key!(
        "discovery.expect", "LOCKSTEP_EXPECT", "expect", Derived("number of `discovery.peers`; 3 with Consul"),
        expect: optional count(1, 99),
        "Nodes that make the first cluster."
    ),
    key!(
        "discovery.peers", "LOCKSTEP_PEERS", "peers", Derived("this node alone"),
        peers: peers(),
        "Every node, this one included, with its gRPC address. For `static`."
    ),
    key!(
        "consul.address", "LOCKSTEP_CONSUL_ADDRESS", "consul-address", Is("http://127.0.0.1:8500"),
        consul.address: url(),
        "The Consul agent."
    ),
    key!(
        "consul.token", "LOCKSTEP_CONSUL_TOKEN", "consul-token", Unset, secret
        consul.token: optional text(),
        "Its ACL token."
    ),
    key!(
        "consul.service", "LOCKSTEP_CONSUL_SERVICE", "consul-service", Is("lockstep"),
        consul.service: name(),
        "Service name to register under and look for: one cluster, one name."
    ),
    key!(
        "consul.tags", "LOCKSTEP_CONSUL_TAGS", "consul-tags", Is(""),
        consul.tags: list(),
        "Tags to register with."
    ),
    key!(
        "consul.meta", "LOCKSTEP_CONSUL_META", "consul-meta", Is(""),
        consul.meta: meta(),
        "Further metadata to register with."
    ),
    key!(
        "consul.check_interval", "LOCKSTEP_CONSUL_CHECK_INTERVAL", "consul-check-interval", Is("2s"),
        consul.check_interval: duration(ms(100), minutes(10)),
        "How often Consul checks the node's health."
    ),
    key!(
        "consul.deregister_after", "LOCKSTEP_CONSUL_DEREGISTER_AFTER", "consul-deregister-after", Is("10m"),
        consul.deregister_after: duration(minutes(1), minutes(60 * 24 * 30)),
        "When Consul forgets a node that stays critical; at least a minute."
    ),
    key!(
        "raft.heartbeat", "LOCKSTEP_RAFT_HEARTBEAT", "raft-heartbeat", Is("100ms"),
        raft.heartbeat: duration(ms(5), minutes(1)),
        "Between a leader's heartbeats."
    ),
    key!(
        "raft.election_timeout_min", "LOCKSTEP_RAFT_ELECTION_TIMEOUT_MIN", "raft-election-timeout-min", Is("200ms"),
        raft.election_timeout_min: duration(ms(10), minutes(5)),
        "Shortest wait before a follower stands for election; at least two heartbeats."
    ),
    key!(
        "raft.election_timeout_max", "LOCKSTEP_RAFT_ELECTION_TIMEOUT_MAX", "raft-election-timeout-max", Is("400ms"),
        raft.election_timeout_max: duration(ms(10), minutes(5)),
        "Longest wait before a follower stands for election."
    ),
    key!(
        "raft.snapshot_entries", "LOCKSTEP_RAFT_SNAPSHOT_ENTRIES", "raft-snapshot-entries", Is("50000"),
        raft.snapshot_entries: count(1, 1_000_000_000),
        "Snapshot after this many log entries, and up to a quarter more: nodes differ, so as not to do it at once."
    ),
    key!(
        "raft.log_keep_entries", "LOCKSTEP_RAFT_LOG_KEEP_ENTRIES", "raft-log-keep-entries", Is("200000"),
        raft.log_keep_entries: count(1, 1_000_000_000),
        "Entries kept behind a snapshot, for followers that lag."
    ),
    key!(
        "raft.batch_requests_max", "LOCKSTEP_RAFT_BATCH_REQUESTS_MAX", "raft-batch-requests-max", Is("256"),
        raft.batch_requests_max: count(1, 65_536),
        "Requests put into one log entry."
    ),
    key!(
        "raft.batch_bytes_max", "LOCKSTEP_RAFT_BATCH_BYTES_MAX", "raft-batch-bytes-max", Is("512KiB"),
        raft.batch_bytes_max: bytes(KIB, 64 * MIB),
        "Bytes of requests put into one log entry."
    ),
    key!(
        "raft.proposals_in_flight_max", "LOCKSTEP_RAFT_PROPOSALS_IN_FLIGHT_MAX", "raft-proposals-in-flight-max", Is("4"),
        raft.proposals_in_flight_max: count(1, 1024),
        "Log entries proposed and not yet applied."
    ),
    key!(
        "raft.queue_max", "LOCKSTEP_RAFT_QUEUE_MAX", "raft-queue-max", Is("16384"),
        raft.queue_max: count(1, 10_000_000),
        "Requests waiting to be proposed; more are refused."
    ),
    key!(
        "storage.cache_bytes", "LOCKSTEP_STORAGE_CACHE_BYTES", "storage-cache-bytes", Is("32MiB"),
        storage.cache_bytes: bytes(MIB, 1024 * GIB),
        "sled's cache."
    ),
    key!(
        "storage.log_cache_bytes", "LOCKSTEP_STORAGE_LOG_CACHE_BYTES", "storage-log-cache-bytes", Is("32MiB"),
        storage.log_cache_bytes: bytes(MIB, 1024 * GIB),
        "Log entries kept in memory for replication."
    ),
    key!(
        "storage.reserve_bytes", "LOCKSTEP_STORAGE_RESERVE_BYTES", "storage-reserve-bytes", Is("16MiB"),
        storage.reserve_bytes: bytes(MIB, 1024 * GIB),
        "A file held back, given up when the disk is full."
    ),
    key!(
        "storage.free_bytes_min", "LOCKSTEP_STORAGE_FREE_BYTES_MIN", "storage-free-bytes-min", Is("128MiB"),
        storage.free_bytes_min: bytes(0, 1024 * GIB),
        "With less free on its disk, a leader hands over, or takes no writes; 0 for no such bound."
    ),
    key!(
        "limits.definitions_max", "LOCKSTEP_LIMITS_DEFINITIONS_MAX", "limits-definitions-max", Is("1000"),
        limits.definitions_max: count(1, 1_000_000),
        "Machines that may be defined."
    ),
    key!(
        "limits.versions_max", "LOCKSTEP_LIMITS_VERSIONS_MAX", "limits-versions-max", Is("1000"),
        limits.versions_max: count(1, 1_000_000),
        "Versions one machine may have."
    ),
    key!(
        "limits.states_max", "LOCKSTEP_LIMITS_STATES_MAX", "limits-states-max", Is("256"),
        limits.states_max: count(1, 65_536),
        "States a definition may have."
    ),
    key!(
        "limits.transitions_max", "LOCKSTEP_LIMITS_TRANSITIONS_MAX", "limits-transitions-max", Is("4096"),
        limits.transitions_max: count(1, 1_000_000),
        "Transitions a definition may have."
    ),
    key!(
        "limits.document_bytes_max", "LOCKSTEP_LIMITS_DOCUMENT_BYTES_MAX", "limits-document-bytes-max", Is("256KiB"),
        limits.document_bytes_max: bytes(KIB, 4 * MIB),
        "Size of a stored definition."
    ),
    key!(
        "limits.instances_max", "LOCKSTEP_LIMITS_INSTANCES_MAX", "limits-instances-max", Is("10000000"),
        limits.instances_max: count(1, 1_000_000_000),
        "Instances there may be, of all machines."
    ),
    key!(
        "limits.metadata_entries_max", "LOCKSTEP_LIMITS_METADATA_ENTRIES_MAX", "limits-metadata-entries-max", Is("64"),
        limits.metadata_entries_max: count(0, 1024),
        "Metadata entries of one request or instance."
    ),
    key!(
        "limits.metadata_bytes_max", "LOCKSTEP_LIMITS_METADATA_BYTES_MAX", "limits-metadata-bytes-max", Is("4KiB"),
        limits.metadata_bytes_max: bytes(0, METADATA_BYTES_CEILING as u64),
        "Metadata bytes of one request or instance."
    ),
    key!(
        "limits.history_entries_max", "LOCKSTEP_LIMITS_HISTORY_ENTRIES_MAX", "limits-history-entries-max", Is("32"),
        limits.history_entries_max: count(0, 100_000),
        "Changes that an instance remembers."
    ),
    key!(
        "limits.history_bytes_max", "LOCKSTEP_LIMITS_HISTORY_BYTES_MAX", "limits-history-bytes-max", Is("16KiB"),
        limits.history_bytes_max: bytes(0, 64 * MIB),
        "Bytes that an instance's history may take."
    ),
    key!(
        "limits.operations_max", "LOCKSTEP_LIMITS_OPERATIONS_MAX", "limits-operations-max", Is("128"),
        limits.operations_max: count(1, 10_000),
        "Operations of one transaction."
    ),
    key!(
        "limits.events_max", "LOCKSTEP_LIMITS_EVENTS_MAX", "limits-events-max", Is("262144"),
        limits.events_max: count(1, 100_000_000),
        "Recent events kept for watchers."
    ),
    key!(
        "limits.event_bytes_max", "LOCKSTEP_LIMITS_EVENT_BYTES_MAX", "limits-event-bytes-max", Is("64MiB"),
        limits.event_bytes_max: bytes(KIB, 64 * GIB),
        "Bytes that the recent events may take."
    ),
    key!(
        "limits.sinks_max", "LOCKSTEP_LIMITS_SINKS_MAX", "limits-sinks-max", Is("64"),
        limits.sinks_max: count(1, 1024),
        "Sinks that are kept account of."
    ),
    key!(
        "limits.dead_letters_max", "LOCKSTEP_LIMITS_DEAD_LETTERS_MAX", "limits-dead-letters-max", Is("1000"),
        limits.dead_letters_max: count(0, 100_000),
        "Events that one sink may have put aside."
    ),
    key!(
        "limits.keys_max", "LOCKSTEP_LIMITS_KEYS_MAX", "limits-keys-max", Is("100000"),
        limits.keys_max: count(0, 100_000_000),
        "Callers' idempotency keys remembered."
    ),
    key!(
        "limits.key_bytes_max", "LOCKSTEP_LIMITS_KEY_BYTES_MAX", "limits-key-bytes-max", Is("64MiB"),
        limits.key_bytes_max: bytes(0, 64 * GIB),
        "Bytes that keys and their outcomes may take."
    ),
    key!(
        "limits.key_retention", "LOCKSTEP_LIMITS_KEY_RETENTION", "limits-key-retention", Is("1day"),
        limits.key_retention_ms: millis(ms(1000), minutes(60 * 24 * 365)),
        "How long a caller's idempotency key is remembered."
    ),
    key!(
        "limits.sessions_max", "LOCKSTEP_LIMITS_SESSIONS_MAX", "limits-sessions-max", Is("1024"),
        limits.sessions_max: count(1, 1_000_000),
        "Runs of node processes whose requests are told apart."
    ),
    key!(
        "log.format", "LOCKSTEP_LOG_FORMAT", "log-format", Is("text"),
        log.format: log_format(),
        "How log lines look."
    ),
    key!(
        "log.filter", "LOCKSTEP_LOG_FILTER", "log-filter", Is("info,openraft=error,consulrs=off,rustify=off"),
        log.filter: filter(),
        "What is logged, for example `info,lockstep_node=debug`."
    ),
];
