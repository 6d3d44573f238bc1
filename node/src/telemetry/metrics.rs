//! Every metric of a node, in one table: its name is `lockstep_` and the field's name, its help text
//! is the field's documentation.
//!
//! The number of series stays bounded whatever clients send: a label's value comes from a fixed set
//! (routes, methods, codes, results), from the configuration, from the cluster's members, or from what
//! is defined in the state machine. Nothing a client made up may become a label.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::build;

/// Waits for a disk or a peer: 50 µs to 2.5 s.
const WAIT_SECONDS: &[f64] = &[
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5,
];
/// How late a timeout is: 1 ms to a minute, which an outage takes.
const LATE_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
/// A whole request: 100 µs to 10 s.
const REQUEST_SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Work in memory: 1 µs to 100 ms.
const COMPUTE_SECONDS: &[f64] = &[
    0.000001, 0.0000025, 0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001,
    0.01, 0.1,
];
/// Long work: 1 ms to 2 minutes.
const LONG_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0,
];
/// How many things were taken together.
const COUNT: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

/// How a kind of metric is made from its row in the table.
trait Make: Collector + Clone + 'static {
    fn make(
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Self, prometheus::Error>;
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("lockstep")
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace("lockstep")
        .buckets(buckets.to_vec())
}

impl Make for IntGauge {
    fn make(name: &str, help: &str, _: &[&str], _: &[f64]) -> Result<Self, prometheus::Error> {
        IntGauge::with_opts(opts(name, help))
    }
}

impl Make for IntCounter {
    fn make(name: &str, help: &str, _: &[&str], _: &[f64]) -> Result<Self, prometheus::Error> {
        IntCounter::with_opts(opts(name, help))
    }
}

impl Make for IntGaugeVec {
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> Result<Self, prometheus::Error> {
        IntGaugeVec::new(opts(name, help), labels)
    }
}

impl Make for IntCounterVec {
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> Result<Self, prometheus::Error> {
        IntCounterVec::new(opts(name, help), labels)
    }
}

impl Make for Histogram {
    fn make(
        name: &str,
        help: &str,
        _: &[&str],
        buckets: &[f64],
    ) -> Result<Self, prometheus::Error> {
        Histogram::with_opts(histogram_opts(name, help, buckets))
    }
}

impl Make for HistogramVec {
    fn make(
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Self, prometheus::Error> {
        HistogramVec::new(histogram_opts(name, help, buckets), labels)
    }
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
                    let $field = <$kind as Make>::make(stringify!($field), $help.trim(), labels, buckets)?;
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
    /// 1 while this node knows a leader.
    has_leader: IntGauge;
    /// 1 while this node leads; the sum over a healthy cluster is 1.
    is_leader: IntGauge;
    /// The current Raft term.
    term: IntGauge;
    /// The first log index still kept; 0 for none.
    log_first_index: IntGauge;
    /// The last log index; 0 for none.
    log_last_index: IntGauge;
    /// The last log index known to be committed; 0 for none.
    committed_index: IntGauge;
    /// The last log index applied to the state machine; 0 for none.
    applied_index: IntGauge;
    /// The last log index covered by the current snapshot; 0 for none.
    snapshot_index: IntGauge;
    /// Requests accepted and not yet answered by the state machine.
    proposals_pending: IntGauge;
    /// Nodes of this cluster that discovery reports as healthy, this one included.
    discovery_passing_nodes: IntGauge;
    /// Bytes the log's database takes on disk.
    log_disk_bytes: IntGauge;
    /// Bytes free on the disk that holds the data folder, the reserve not included.
    disk_free_bytes: IntGauge;
    /// 1 while those are too few: as leader, this node takes no writes.
    disk_full: IntGauge;
    /// Callers' idempotency keys whose outcome is remembered.
    keys_remembered: IntGauge;
    /// 1 while this node can serve linearizable reads.
    ready: IntGauge;
    /// Size of the current snapshot in bytes; 0 for none.
    snapshot_size_bytes: IntGauge;

    /// Watches open on this node.
    watchers: IntGauge;
    /// Timeouts that are pending.
    timers_pending: IntGauge;
    /// The oldest revision of which every event is still kept for watchers.
    events_oldest_revision: IntGauge;

    /// Members whose state differs from this node's at the same revision: always 0, or something is wrong.
    state_differing_members: IntGauge;

    /// Comparisons of this node's state with a member's at the same revision.
    state_comparisons_total: IntCounter;
    /// Timeouts that fired, as applied here.
    timers_fired_total: IntCounter;
    /// How often this node saw another leader take over.
    leader_changes_total: IntCounter;
    /// Requests that were committed and applied here.
    proposals_committed_total: IntCounter;
    /// Requests answered with the stored outcome of an earlier one with the same key.
    replays_total: IntCounter;
    /// Snapshots built here.
    snapshots_built_total: IntCounter;
    /// Snapshots received from a leader and installed here.
    snapshots_installed_total: IntCounter;
    /// Snapshots sent to a follower that lagged too far behind.
    snapshots_sent_total: IntCounter;
    /// Requests refused because too many were waiting.
    overload_total: IntCounter;

    /// Proposals that came to no answer, by the service's error code.
    proposals_failed_total: IntCounterVec["reason"];
    /// Transitions applied or rejected; result is ok or the rejection's code.
    transitions_total: IntCounterVec["machine", "from", "to", "result"];
    /// Requests sent on to the leader, by kind (propose, read) and result.
    forwarded_requests_total: IntCounterVec["kind", "result"];

    /// 1 for the state an instance is in, 0 for those it was in before.
    current_state: IntGaugeVec["machine", "instance", "state"];
    /// How much of a limit is used, by what it limits: of a limit on one definition, by the largest stored; of one on a request or an instance's history, by the largest since the node started.
    quota_used: IntGaugeVec["quota"];
    /// The limit itself, by what it limits.
    quota_limit: IntGaugeVec["quota"];
    /// Log entries that a follower is known to be behind; only a leader reports it.
    replication_lag_entries: IntGaugeVec["peer"];
    /// 1 while a sink follows, 0 while it cannot; only the node that runs it, the leader, reports it.
    sink_active: IntGaugeVec["sink"];
    /// Events that a sink has not written yet, wanted or not; only the leader reports it.
    sink_lag_events: IntGaugeVec["sink"];
    /// Age of the oldest event that a sink has not written yet, in seconds; only the leader reports it.
    sink_lag_seconds: IntGaugeVec["sink"];
    /// Events that a sink's far side refused and that are put aside; only the leader reports it.
    sink_dead_letters: IntGaugeVec["sink"];
    /// Always 1; the labels say what is running.
    build_info: IntGaugeVec["version", "build_date"];

    /// Time one flush of the log to disk took.
    fsync_seconds: Histogram in WAIT_SECONDS;
    /// Appends and votes made durable by one flush.
    flush_batch_operations: Histogram in COUNT;
    /// Time it took to build a snapshot.
    snapshot_build_seconds: Histogram in LONG_SECONDS;
    /// How late each timeout that was applied here fired, in cluster time.
    timer_lateness_seconds: Histogram in LATE_SECONDS;
    /// Requests carried by one log entry.
    batch_requests: Histogram in COUNT;
    /// Time it took to apply one log entry.
    apply_seconds: Histogram in COMPUTE_SECONDS;

    /// Time from sending an append to a peer to its answer.
    append_round_trip_seconds: HistogramVec["peer"] in WAIT_SECONDS;
    /// Events written to a sink's far side.
    sink_events_total: IntCounterVec["sink"];
    /// What went wrong with a sink's far side, by kind: absent, unavailable, misconfigured, refused, fenced, moved; full and cluster are this side's.
    sink_errors_total: IntCounterVec["sink", "kind"];
    /// How often a sink's current states were written as a whole, by reason: first, compacted, asked.
    sink_seeds_total: IntCounterVec["sink", "reason"];
    /// Time one batch took to be written to a sink's far side; their count is that of the batches.
    sink_write_seconds: HistogramVec["sink"] in LONG_SECONDS;
    /// HTTP requests answered, by route, method and status code.
    http_requests_total: IntCounterVec["route", "method", "code"];
    /// Time it took to answer an HTTP request.
    http_request_seconds: HistogramVec["route", "method"] in REQUEST_SECONDS;
    /// gRPC requests answered, by method and status code.
    grpc_requests_total: IntCounterVec["method", "code"];
    /// Time it took to answer a gRPC request.
    grpc_request_seconds: HistogramVec["method"] in REQUEST_SECONDS;
}

impl Metrics {
    /// Makes every metric, all at zero, and registers them with the process's own.
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

    /// Shows how much of a limit is used. `name` is one of a fixed set.
    pub fn quota(&self, name: &'static str, used: u64, limit: u64) {
        let signed = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.quota_used.with_label_values(&[name]).set(signed(used));
        self.quota_limit
            .with_label_values(&[name])
            .set(signed(limit));
    }

    /// Everything in Prometheus's text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_carries_the_prefix() {
        let metrics = Metrics::new().expect("no two metrics share a name");
        metrics
            .http_requests_total
            .with_label_values(&["/livez", "GET", "200"])
            .inc();
        let text = metrics.encode();
        assert!(text.contains("# HELP lockstep_has_leader 1 while this node knows a leader."));
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
    fn registries_are_independent() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.term.set(7);
        assert!(other.encode().contains("lockstep_term 0"));
    }
}
