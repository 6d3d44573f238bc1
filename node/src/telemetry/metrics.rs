//! Every metric of a node, in one table. The name of a metric is `lockstep_` and the name of its field;
//! its help text is the documentation of the field.
//!
//! The number of series is bounded, whatever clients send: the values of a label come from a fixed set
//! (routes, methods, codes, results), from the configuration, from the members of the cluster, or from
//! the definitions in the state machine. Input of a client never becomes a label.

use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::build;

/// For waits on a disk or a peer: 50 µs to 2.5 s.
const WAIT_SECONDS: &[f64] = &[
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5,
];
/// For the lateness of timeouts: 1 ms to a minute, as after an outage.
const LATE_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
/// For whole requests: 100 µs to 10 s.
const REQUEST_SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// For work in memory: 1 µs to 100 ms.
const COMPUTE_SECONDS: &[f64] = &[
    0.000001, 0.0000025, 0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001,
    0.01, 0.1,
];
/// For long work: 1 ms to 2 minutes.
const LONG_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0,
];
/// For the size of batches.
const COUNT: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("lockstep")
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec())
}

/// How a metric is created from its row in the table.
trait Create: Sized {
    fn create(name: &str, help: &str, labels: &[&str], buckets: &[f64])
    -> prometheus::Result<Self>;
}

macro_rules! create {
    ($($kind:ty = |$name:ident, $help:ident, $labels:ident, $buckets:ident| $create:expr;)+) => {$(
        impl Create for $kind {
            fn create(
                $name: &str,
                $help: &str,
                $labels: &[&str],
                $buckets: &[f64],
            ) -> prometheus::Result<Self> {
                $create
            }
        }
    )+};
}

create! {
    Gauge = |name, help, _labels, _buckets| Gauge::with_opts(opts(name, help));
    IntGauge = |name, help, _labels, _buckets| IntGauge::with_opts(opts(name, help));
    IntCounter = |name, help, _labels, _buckets| IntCounter::with_opts(opts(name, help));
    IntGaugeVec = |name, help, labels, _buckets| IntGaugeVec::new(opts(name, help), labels);
    IntCounterVec = |name, help, labels, _buckets| IntCounterVec::new(opts(name, help), labels);
    Histogram = |name, help, _labels, buckets| Histogram::with_opts(histogram_opts(name, help, buckets));
    HistogramVec = |name, help, labels, buckets| HistogramVec::new(histogram_opts(name, help, buckets), labels);
}

/// `field: Kind`, then `["label", ...]` for a vector, then `in BUCKETS` for a histogram.
macro_rules! metrics {
    ($( #[doc = $help:literal] $field:ident : $kind:ident $([$($label:literal),+])? $(in $buckets:ident)? ;)+) => {
        /// The metrics of a node, with a registry of their own.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $( #[doc = $help] pub $field: $kind, )+
        }

        impl Metrics {
            fn register(registry: Registry) -> Result<Self, prometheus::Error> {
                $(
                    let labels: &[&str] = &[$($($label),+)?];
                    let buckets: &[f64] = metrics!(@buckets $($buckets)?);
                    let $field = <$kind as Create>::create(stringify!($field), $help.trim(), labels, buckets)?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, $($field),+ })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics! {
    /// 1 while this node has heard from a leader within the election timeout.
    has_leader: IntGauge;
    /// Seconds by which cluster time is ahead of this node's clock: timeouts wait until the clock catches up.
    cluster_time_ahead_seconds: Gauge;
    /// Seconds by which this node's clock is ahead of the median of the clocks it knows, negative if it is behind: those of all members on the leader, its own and the leader's on a follower. Of two clocks, the earlier counts.
    clock_skew_seconds: Gauge;
    /// 1 while this node leads; the sum over a healthy cluster is 1.
    is_leader: IntGauge;
    /// The current Raft term.
    term: IntGauge;
    /// The first log index on disk; 0 for none.
    log_first_index: IntGauge;
    /// The last log index; 0 for none.
    log_last_index: IntGauge;
    /// The last log index known to be committed; 0 for none.
    committed_index: IntGauge;
    /// The last log index applied to the state machine; 0 for none.
    applied_index: IntGauge;
    /// The last log index covered by the current snapshot; 0 for none.
    snapshot_index: IntGauge;
    /// Requests that were proposed and are not yet applied.
    proposals_pending: IntGauge;
    /// Nodes of this cluster that discovery reports as healthy, this one included.
    discovery_passing_nodes: IntGauge;
    /// Size of the log's database on disk in bytes.
    log_disk_bytes: IntGauge;
    /// Median time to flush 4 KiB to the data folder's disk, measured before the node started to use it.
    flush_probe_seconds: Gauge;
    /// Free bytes on the data folder's disk, not counting the reserve file.
    disk_free_bytes: IntGauge;
    /// 1 while lockstep_disk_free_bytes is below storage.free_bytes_warn: the log is kept short.
    disk_low: IntGauge;
    /// 1 while lockstep_disk_free_bytes is below storage.free_bytes_min; as leader, this node then refuses writes.
    disk_full: IntGauge;
    /// Stored idempotency keys.
    keys_remembered: IntGauge;
    /// The feature level of the cluster, as applied on this node.
    feature_level: IntGauge;
    /// The highest feature level that this node's release supports.
    feature_level_max: IntGauge;
    /// 1 while this node can serve linearizable reads.
    ready: IntGauge;
    /// Size of the current snapshot in bytes; 0 for none.
    snapshot_size_bytes: IntGauge;

    /// Watches open on this node.
    watchers: IntGauge;
    /// Pending timeouts of instances.
    timers_pending: IntGauge;
    /// The oldest revision whose events are all still kept.
    events_oldest_revision: IntGauge;

    /// Members whose state differs from this node's at the same log index; should always be 0.
    state_differing_members: IntGauge;
    /// 1 while this node answers no requests, because its state may be wrong.
    state_distrusted: IntGauge;
    /// Members that run a release with another hash format, so that their states cannot be compared with this node's.
    state_incomparable_members: IntGauge;

    /// Times that this node's clock was found to be off by more than raft.clock_skew_max.
    clock_skews_total: IntCounter;
    /// Comparisons of this node's state with a member's at the same log index.
    state_comparisons_total: IntCounter;
    /// Timeouts that fired, counted when applied on this node.
    timers_fired_total: IntCounter;
    /// Changes of leader seen by this node.
    leader_changes_total: IntCounter;
    /// Requests committed and applied on this node.
    proposals_committed_total: IntCounter;
    /// Requests answered with the stored outcome of an earlier one with the same key.
    replays_total: IntCounter;
    /// Snapshots built on this node.
    snapshots_built_total: IntCounter;
    /// Snapshots received from a leader and installed on this node.
    snapshots_installed_total: IntCounter;
    /// Snapshots sent to followers that lagged too far behind.
    snapshots_sent_total: IntCounter;
    /// Requests refused because too many were waiting or being served.
    overload_total: IntCounter;
    /// Log lines that could not be written to standard error.
    log_lines_lost_total: IntCounter;

    /// Requests that failed without an outcome, by error code.
    proposals_failed_total: IntCounterVec["reason"];
    /// Transitions applied or rejected; result is ok or the code of the rejection.
    transitions_total: IntCounterVec["machine", "from", "to", "result"];
    /// Requests forwarded to the leader, by kind (propose, read) and result.
    forwarded_requests_total: IntCounterVec["kind", "result"];

    /// 1 for the current state of an instance, 0 for its other states.
    current_state: IntGaugeVec["machine", "instance", "state"];
    /// Current use of each limit. For limits on a definition: that of the largest stored definition. For limits on a request or on an instance's history: the maximum since the node started.
    quota_used: IntGaugeVec["quota"];
    /// The value of each limit.
    quota_limit: IntGaugeVec["quota"];
    /// Log entries by which a peer lags behind; reported by the leader.
    replication_lag_entries: IntGaugeVec["peer"];
    /// When this node last completed a scheduled backup, in seconds since 1970; 0 for never.
    backup_last_success_timestamp_seconds: IntGauge;
    /// Size of that backup in bytes.
    backup_last_size_bytes: IntGauge;
    /// Scheduled backups that this node could not write.
    backup_failures_total: IntCounter;
    /// 1 while a sink delivers events, 0 while it cannot; reported by the leader, which runs the sinks.
    sink_active: IntGaugeVec["sink"];
    /// Events after a sink's checkpoint, including those that its filter skips; reported by the leader.
    sink_lag_events: IntGaugeVec["sink"];
    /// Age in seconds of the oldest event after a sink's checkpoint; reported by the leader.
    sink_lag_seconds: IntGaugeVec["sink"];
    /// Dead letters of a sink: events that its destination rejected; reported by the leader.
    sink_dead_letters: IntGaugeVec["sink"];
    /// Always 1; the labels are the version and the build date.
    build_info: IntGaugeVec["version", "build_date"];

    /// Duration of one flush of the log to disk.
    fsync_seconds: Histogram in WAIT_SECONDS;
    /// Log appends and votes written per flush.
    flush_batch_operations: Histogram in COUNT;
    /// Duration of building a snapshot.
    snapshot_build_seconds: Histogram in LONG_SECONDS;
    /// Lateness of each timeout that fired, in cluster time.
    timer_lateness_seconds: Histogram in LATE_SECONDS;
    /// Requests per log entry.
    batch_requests: Histogram in COUNT;
    /// Duration of applying one log entry.
    apply_seconds: Histogram in COMPUTE_SECONDS;

    /// Time from sending an append to a peer until its answer.
    append_round_trip_seconds: HistogramVec["peer"] in WAIT_SECONDS;
    /// Events that a destination acknowledged.
    sink_events_total: IntCounterVec["sink"];
    /// Errors of a sink, by kind. Of the destination: absent, unavailable, misconfigured, rejected (permanently), fenced, moved. Of this cluster: full (no room for dead letters), cluster (no leader).
    sink_errors_total: IntCounterVec["sink", "kind"];
    /// Completed backfills of a sink, by reason: first, compacted, asked (requested).
    sink_seeds_total: IntCounterVec["sink", "reason"];
    /// Duration of writing one batch to a destination.
    sink_write_seconds: HistogramVec["sink"] in LONG_SECONDS;
    /// HTTP requests answered, by route, method and status code.
    http_requests_total: IntCounterVec["route", "method", "code"];
    /// Duration of HTTP requests.
    http_request_seconds: HistogramVec["route", "method"] in REQUEST_SECONDS;
    /// gRPC requests answered, by method and status code.
    grpc_requests_total: IntCounterVec["method", "code"];
    /// Duration of gRPC requests.
    grpc_request_seconds: HistogramVec["method"] in REQUEST_SECONDS;
}

impl Metrics {
    /// Creates and registers every metric, and those of the process.
    ///
    /// Fails only when two metrics share a name, which a test rules out.
    pub fn new() -> Result<Arc<Metrics>, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let metrics = Self::register(registry)?;
        metrics
            .build_info
            .with_label_values(&[build::version(), build::build_date()])
            .set(1);
        Ok(Arc::new(metrics))
    }

    /// Sets the use of a limit. `name` comes from a fixed set.
    pub fn quota(&self, name: &'static str, used: u64, limit: u64) {
        let signed = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.quota_used.with_label_values(&[name]).set(signed(used));
        self.quota_limit
            .with_label_values(&[name])
            .set(signed(limit));
    }

    /// Every metric in the text format of Prometheus.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "cannot encode metrics");
        }
        text
    }

    /// Every metric in the text format of OpenMetrics 1.0: there a counter's `HELP` and `TYPE` name it
    /// without `_total`, and the text says where it ends.
    pub fn encode_open_metrics(&self) -> String {
        let mut text = String::new();
        for line in self.encode().lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["#", kind, name, ref rest @ ..] => {
                    let name = name.strip_suffix("_total").unwrap_or(name);
                    text += &format!("# {kind} {name} {}\n", rest.join(" "));
                }
                _ => text += &format!("{line}\n"),
            }
        }
        text + "# EOF\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_has_the_prefix() {
        let metrics = Metrics::new().expect("no two metrics share a name");
        metrics
            .http_requests_total
            .with_label_values(&["/livez", "GET", "200"])
            .inc();
        let text = metrics.encode();
        assert!(
            text.contains("# HELP lockstep_has_leader 1 while this node has heard from a leader")
        );
        assert!(text.contains(
            "lockstep_http_requests_total{code=\"200\",method=\"GET\",route=\"/livez\"} 1"
        ));
        assert!(text.contains("lockstep_build_info{"));
        assert!(text.contains("process_resident_memory_bytes"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(
                line.starts_with("lockstep_") || line.starts_with("process_"),
                "{line}"
            );
        }
    }

    #[test]
    fn open_metrics_names_counters_without_total_and_ends() {
        let metrics = Metrics::new().unwrap();
        metrics.overload_total.inc();
        let text = metrics.encode_open_metrics();
        assert!(text.contains("\n# TYPE lockstep_overload counter\nlockstep_overload_total 1\n"));
        assert!(
            text.contains("# HELP lockstep_has_leader 1 while this node has heard from a leader")
        );
        assert!(text.ends_with("\n# EOF\n"));
        // A quote would have to be escaped there, and not in the other format.
        let help = text.lines().filter(|line| line.starts_with("# HELP"));
        assert!(help.clone().count() > 40 && !help.collect::<String>().contains('"'));
    }

    #[test]
    fn registries_are_independent() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.term.set(7);
        assert!(other.encode().contains("lockstep_term 0"));
    }
}
