//! Turns what consensus, the store and the service report into metrics and log lines.

mod largest;
mod lateness;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_machine::{
    Command, DecodedBatch, InstanceId, OperationResult, Outcome, Rejection, Reply, State,
    StateName, Transition, Trigger,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cluster::agreement::RecentHashes;
use crate::lifecycle::{Lifecycle, Phase};
use crate::service::ForwardObserver;
use crate::telemetry::Metrics;
use lockstep_raft::consensus::{DiskLevel, Observer, Role, Standing};
use lockstep_raft::store::{DiskSpace, StoreError, StoreObserver};

use largest::Largest;

/// The built-in instance, whose state is a metric.
const SHOWN: (&str, &str) = ("triad", "default");

/// Machines with labels of their own; later ones are "other".
const MACHINES_MAX: usize = 100;
/// Combinations of machine and states with labels of their own.
const PATHS_MAX: usize = 2000;
/// The label for the rest.
const OTHER: &str = "other";

/// Bounds the number of series, because users define machines and states.
#[derive(Default)]
struct BoundedLabels(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// The states entered, by machine and state left.
    machines: HashMap<String, HashMap<String, HashSet<String>>>,
    paths: usize,
}

impl BoundedLabels {
    /// The labels (machine, from, to), or [`OTHER`] in their place.
    fn of<'a>(&self, [machine, from, to]: [&'a str; 3]) -> [&'a str; 3] {
        let mut seen = self.0.lock();
        let known = seen.machines.get(machine);
        if known
            .and_then(|it| it.get(from))
            .is_some_and(|it| it.contains(to))
        {
            return [machine, from, to];
        }
        if known.is_none() && seen.machines.len() >= MACHINES_MAX {
            return [OTHER; 3];
        }
        let full = seen.paths >= PATHS_MAX;
        let states = seen.machines.entry(machine.to_owned()).or_default();
        if full {
            return [machine, OTHER, OTHER];
        }
        states
            .entry(from.to_owned())
            .or_default()
            .insert(to.to_owned());
        seen.paths += 1;
        [machine, from, to]
    }
}

/// Feeds the metrics, and passes on the failure of the store.
pub struct Observation {
    metrics: Arc<Metrics>,
    hashes: Arc<RecentHashes>,
    lifecycle: Arc<Lifecycle>,
    /// The log index after which the start applies entries again.
    reapplied_from: AtomicU64,
    store_failed: mpsc::UnboundedSender<String>,
    labels: BoundedLabels,
    largest: Largest,
    /// The revision of the instance whose state is a metric, when it was last shown.
    shown: AtomicU64,
}

impl Observation {
    /// Feeds `metrics`, `hashes` and, while the node starts, `lifecycle`; the failure of the store goes to
    /// `store_failed`.
    pub fn new(
        metrics: Arc<Metrics>,
        hashes: Arc<RecentHashes>,
        lifecycle: Arc<Lifecycle>,
        store_failed: mpsc::UnboundedSender<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            hashes,
            lifecycle,
            reapplied_from: AtomicU64::new(0),
            store_failed,
            labels: BoundedLabels::default(),
            largest: Largest::default(),
            shown: AtomicU64::new(u64::MAX),
        })
    }

    fn transition(&self, transition: &Transition, reply: &Reply, state: &State) {
        // A state or machine that is not defined comes from a client and must not become a label.
        let none = "";
        let (machine, from, to, result) = match &reply.outcome {
            Outcome::Transitioned(t) => (
                t.instance.machine.as_str(),
                t.from.as_str(),
                t.to.as_str(),
                "ok",
            ),
            Outcome::Rejected(rejection) => {
                let known = state.instance(&transition.instance).is_some();
                let machine = if known {
                    transition.instance.machine.as_str()
                } else {
                    none
                };
                let to = match (&transition.trigger, rejection) {
                    (Trigger::To(to), Rejection::IllegalTransition { .. }) => to.as_str(),
                    _ => none,
                };
                (
                    machine,
                    current(rejection).map_or(none, StateName::as_str),
                    to,
                    rejection.code(),
                )
            }
            _ => (none, none, none, "other"),
        };
        self.count_transition(machine, from, to, result);
    }

    fn count_transition(&self, machine: &str, from: &str, to: &str, result: &str) {
        let [machine, from, to] = self.labels.of([machine, from, to]);
        self.metrics
            .transitions_total
            .with_label_values(&[machine, from, to, result])
            .inc();
    }

    /// Counts the transitions of a transaction, and timeouts that fired.
    fn outcome(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Committed(results) => {
                for result in results {
                    if let OperationResult::Transitioned(t) = result {
                        let machine = t.instance.machine.as_str();
                        self.count_transition(machine, t.from.as_str(), t.to.as_str(), "ok");
                    }
                }
            }
            Outcome::Expired(expired) if expired.fired > 0 => {
                self.metrics.timers_fired_total.inc_by(expired.fired.into());
            }
            _ => {}
        }
    }

    /// Updates the use of each limit. Walks over all machines: too slow for every log entry.
    pub fn usage(&self, state: &State) {
        let m = &self.metrics;
        let (limits, largest) = (state.limits(), self.largest.usage());
        for (setting, used) in state.usage().into_iter().chain(largest) {
            let name = setting.info().name.trim_end_matches("_max");
            m.quota(name, used, limits.get(setting));
        }
        m.timers_pending.set(signed(state.pending_timers() as u64));
        m.events_oldest_revision.set(signed(state.oldest_event().0));
    }

    fn show_state(&self, state: &State) {
        let Ok(id) = InstanceId::new(SHOWN.0, SHOWN.1) else {
            return;
        };
        let Some(instance) = state.instance(&id) else {
            return;
        };
        // It has at least one change by then that was not shown.
        if self.shown.swap(instance.revision.0, Ordering::Relaxed) == instance.revision.0 {
            return;
        }
        let Some(definition) = state.definition(&id.machine, instance.version) else {
            return;
        };
        for name in definition.state_names() {
            let labels = [SHOWN.0, SHOWN.1, name.as_str()];
            let gauge = self.metrics.current_state.with_label_values(&labels);
            gauge.set(i64::from(*name == instance.state));
        }
    }

    /// Updates the metrics of consensus, and logs a change of leader. `last_leader` is the state of the
    /// caller between two calls.
    pub fn standing(&self, standing: &Standing, last_leader: &mut Option<u64>) {
        let m = &self.metrics;
        let leader = standing.leader.as_ref().map(|(id, _)| *id);
        m.is_leader.set(i64::from(standing.role == Role::Leader));
        m.term.set(signed(standing.term));
        m.log_first_index.set(signed(standing.log_first_index));
        m.log_last_index.set(signed(standing.log_last_index));
        m.committed_index.set(signed(standing.committed_index));
        m.applied_index.set(signed(standing.applied_index));
        m.snapshot_index.set(signed(standing.snapshot_index));
        m.replication_lag_entries.reset();
        for it in &standing.members {
            if let Some(matched) = it.matched_index.filter(|_| it.id != standing.node_id) {
                let lag = standing.log_last_index.saturating_sub(matched);
                m.replication_lag_entries
                    .with_label_values(&[&it.member.name])
                    .set(signed(lag));
            }
        }
        if leader.is_some() && leader != *last_leader {
            if last_leader.is_some() {
                m.leader_changes_total.inc();
            }
            let name = standing
                .leader
                .as_ref()
                .map(|(_, member)| member.name.as_str());
            tracing::info!(leader = name, term = standing.term, "leader changed");
            *last_leader = leader;
        }
    }
}

/// A value as a gauge takes it.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The state of the instance when the request was rejected: always a defined one.
fn current(rejection: &Rejection) -> Option<&StateName> {
    match rejection {
        Rejection::IllegalTransition { from, .. } => Some(from),
        Rejection::UnknownState { current, .. }
        | Rejection::UnknownEvent { current, .. }
        | Rejection::StateMismatch { current, .. }
        | Rejection::RevisionMismatch { current, .. } => Some(current),
        _ => None,
    }
}

impl Observer for Observation {
    fn reapplying(&self, from: u64, upto: u64) {
        self.reapplied_from.store(from, Ordering::Relaxed);
        let entries = upto.saturating_sub(from);
        self.lifecycle.begin(Phase::Reapplying, entries);
    }

    fn applied(
        &self,
        index: u64,
        batch: &DecodedBatch<'_>,
        replies: &[Reply],
        state: &State,
        took: Duration,
    ) {
        self.metrics.apply_seconds.observe(took.as_secs_f64());
        self.metrics
            .proposals_committed_total
            .inc_by(replies.len() as u64);
        for ((_, body), reply) in batch.requests().zip(replies) {
            let command = body.map(|body| &body.command);
            if let Some(command) = command
                && !matches!(reply.outcome, Outcome::Rejected(_))
            {
                self.largest.request(command);
            }
            if reply.replayed {
                self.metrics.replays_total.inc();
            } else if let Some(Command::Transition(transition)) = command {
                self.transition(transition, reply, state);
            } else {
                self.outcome(&reply.outcome);
                for late in lateness::of_each(reply, state) {
                    self.metrics
                        .timer_lateness_seconds
                        .observe(late.as_secs_f64());
                }
            }
        }
        // One instance per log entry is enough for a maximum over time, and cheaper than all.
        let changed = replies.iter().rev().find_map(|reply| match &reply.outcome {
            Outcome::Transitioned(it) => state.instance(&it.instance),
            _ => None,
        });
        if let Some(instance) = changed {
            self.largest.history(instance);
        }
        self.metrics
            .keys_remembered
            .set(signed(state.remembered().0 as u64));
        self.show_state(state);
        self.hashes.look(index, state);
        let from = self.reapplied_from.load(Ordering::Relaxed);
        self.lifecycle
            .advance(Phase::Reapplying, index.saturating_sub(from));
    }

    fn disk(&self, space: &DiskSpace, level: DiskLevel) {
        self.metrics.disk_free_bytes.set(signed(space.free));
        self.metrics.log_disk_bytes.set(signed(space.log_used));
        self.metrics
            .disk_low
            .set(i64::from(level >= DiskLevel::Low));
        self.metrics
            .disk_full
            .set(i64::from(level >= DiskLevel::Full));
    }

    fn snapshot_built(&self, bytes: u64, took: Duration) {
        self.metrics.snapshots_built_total.inc();
        self.metrics.snapshot_size_bytes.set(signed(bytes));
        self.metrics
            .snapshot_build_seconds
            .observe(took.as_secs_f64());
        tracing::info!(bytes, took_ms = took.as_millis() as u64, "snapshot built");
    }

    fn snapshot_installed(&self, bytes: u64) {
        self.metrics.snapshots_installed_total.inc();
        tracing::info!(bytes, "snapshot from the leader installed");
    }

    fn snapshot_sent(&self, bytes: u64) {
        self.metrics.snapshots_sent_total.inc();
        tracing::info!(bytes, "snapshot sent");
    }

    fn pending(&self, change: i64) {
        self.metrics.proposals_pending.add(change);
    }

    fn proposed(&self, requests: usize) {
        self.metrics.batch_requests.observe(requests as f64);
    }

    fn proposal_failed(&self, reason: &'static str) {
        self.metrics
            .proposals_failed_total
            .with_label_values(&[reason])
            .inc();
    }

    fn append_round_trip(&self, peer: &str, took: Duration) {
        self.metrics
            .append_round_trip_seconds
            .with_label_values(&[peer])
            .observe(took.as_secs_f64());
    }
}

impl StoreObserver for Observation {
    fn restoring(&self, bytes: u64, of: u64) {
        if self.lifecycle.phase() == Phase::OpeningLog {
            self.lifecycle.begin(Phase::RestoringSnapshot, of);
        }
        self.lifecycle.advance(Phase::RestoringSnapshot, bytes);
    }

    fn flushed(&self, took: Duration, operations: usize) {
        self.metrics.fsync_seconds.observe(took.as_secs_f64());
        self.metrics
            .flush_batch_operations
            .observe(operations as f64);
    }

    fn failed(&self, error: &StoreError) {
        // The receiver is gone only when the node has ended.
        drop(self.store_failed.send(error.to_string()));
    }
}

impl ForwardObserver for Observation {
    fn forwarded(&self, kind: &'static str, result: &'static str) {
        self.metrics
            .forwarded_requests_total
            .with_label_values(&[kind, result])
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::Expired;

    #[test]
    fn labels_are_bounded_whatever_users_define() {
        let bounded = BoundedLabels::default();
        assert_eq!(bounded.of(["m", "a", "b"]), ["m", "a", "b"]);
        for n in 0..2 * PATHS_MAX {
            bounded.of(["m", "a", &n.to_string()]);
        }
        assert_eq!(bounded.of(["m", "a", "b"]), ["m", "a", "b"]);
        assert_eq!(bounded.of(["m", "a", "new"]), ["m", OTHER, OTHER]);
        for n in 0..2 * MACHINES_MAX {
            bounded.of([&format!("m{n}"), "a", "b"]);
        }
        assert_eq!(bounded.of(["m0", "a", "b"]), ["m0", OTHER, OTHER]);
        assert_eq!(bounded.of(["new", "a", "b"]), [OTHER; 3]);
    }

    #[test]
    fn timers_and_usage_are_shown() {
        let metrics = Metrics::new().unwrap();
        let observation = Observation::new(
            metrics.clone(),
            Arc::default(),
            Arc::default(),
            mpsc::unbounded_channel().0,
        );
        observation.usage(&State::default());
        let fired = |fired, late_ms_max| {
            observation.outcome(&Outcome::Expired(Expired { fired, late_ms_max }));
        };
        fired(3, 20);
        fired(0, 0);
        let text = metrics.encode();
        for line in [
            "lockstep_quota_used{quota=\"instances\"} 1",
            "lockstep_quota_limit{quota=\"definitions\"} 1000",
            "lockstep_quota_used{quota=\"states\"} 3",
            "lockstep_quota_limit{quota=\"operations\"} 128",
            "lockstep_quota_limit{quota=\"history_bytes\"} 16384",
            "lockstep_timers_pending 0",
            "lockstep_events_oldest_revision 1",
            "lockstep_timers_fired_total 3",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
