//! A sink that is configured on this node, and what it is doing: its runner reports it; status calls and
//! metrics read it.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{EventCursor, State};
use lockstep_proto::v1::SeedProgress;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{BackfillReason, Checkpoint, Phase, SinkError, SinkStatus};
use crate::clock::wall_clock;
use crate::config;
use crate::telemetry::Metrics;

/// A sink that is configured on this node.
pub(super) struct ConfiguredSink {
    pub(super) config: config::Sink,
    /// Ends a pause between two sessions.
    pub(super) wake: Notify,
    metrics: Arc<Metrics>,
    /// All of the status but what depends on the state of the cluster.
    status: Mutex<SinkStatus>,
}

impl ConfiguredSink {
    /// A sink that does not run on this node.
    pub(super) fn new(config: config::Sink, metrics: Arc<Metrics>) -> Self {
        Self {
            status: Mutex::new(begun(&config, Phase::Elsewhere)),
            wake: Notify::new(),
            metrics,
            config,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.config.name.as_str()
    }

    /// The sink entered a phase without an error.
    pub(super) fn doing(&self, phase: Phase) {
        let (_, reason) = self.enter(phase, None);
        if phase == Phase::Following && reason.is_some() {
            tracing::info!(sink = self.name(), "the sink has recovered");
        }
    }

    /// A backfill has written some of the instances.
    pub(super) fn backfilling(&self, done: u64, total: u64) {
        self.doing(Phase::Seeding);
        self.status.lock().seeding = Some(SeedProgress { done, total });
    }

    /// The sink cannot go on.
    pub(super) fn failed(&self, phase: Phase, error: &SinkError) {
        if phase != Phase::Absent {
            self.count_error(error.kind());
        }
        let reason = error.to_string();
        let (before, told) = self.enter(phase, Some(reason.clone()));
        // Logged once per reason, so that a long outage does not fill the log.
        if before == phase && (phase == Phase::Retrying || told.as_ref() == Some(&reason)) {
            return;
        }
        if phase == Phase::Absent {
            tracing::info!(
                sink = self.name(),
                reason,
                "waiting for the sink's host to appear in DNS"
            );
        } else {
            tracing::warn!(sink = self.name(), %phase, reason, "the sink is not delivering events");
        }
    }

    /// Enters a phase. The one before, and its reason.
    fn enter(&self, phase: Phase, reason: Option<String>) -> (Phase, Option<String>) {
        let mut status = self.status.lock();
        let before = status.phase();
        if before != phase {
            status.since_ms = wall_clock().0;
        }
        status.set_phase(phase);
        status.seeding = None;
        (before, std::mem::replace(&mut status.reason, reason))
    }

    pub(super) fn count_error(&self, kind: &'static str) {
        self.status.lock().errors += 1;
        let labels = [self.name(), kind];
        let errors = &self.metrics.sink_errors_total;
        errors.with_label_values(&labels).inc();
    }

    /// The sink starts on this node.
    pub(super) fn start(&self) {
        *self.status.lock() = begun(&self.config, Phase::Opening);
    }

    /// Another node runs the sink from now on.
    pub(super) fn stop(&self) {
        *self.status.lock() = begun(&self.config, Phase::Elsewhere);
        self.remove_gauges();
    }

    fn gauges(&self) -> [&prometheus::IntGaugeVec; 4] {
        let metrics = &self.metrics;
        [
            &metrics.sink_active,
            &metrics.sink_lag_events,
            &metrics.sink_lag_seconds,
            &metrics.sink_dead_letters,
        ]
    }

    /// Only the leader reports what only the leader knows.
    fn remove_gauges(&self) {
        for gauge in self.gauges() {
            drop(gauge.remove_label_values(&[self.name()]));
        }
    }

    /// The destination is at this checkpoint.
    pub(super) fn checkpoint(&self, checkpoint: Checkpoint) {
        let mut status = self.status.lock();
        status.cursor = Some(checkpoint.cursor.into());
        status.seeded_revision = Some(checkpoint.seeded.0);
    }

    /// A batch was written.
    pub(super) fn wrote(&self, events: usize, took: Duration, checkpoint: Checkpoint) {
        self.checkpoint(checkpoint);
        let events = events as u64;
        let mut status = self.status.lock();
        status.events += events;
        status.written_at_ms = Some(wall_clock().0);
        drop(status);
        let label = [self.name()];
        let metrics = &self.metrics;
        let total = metrics.sink_events_total.with_label_values(&label);
        total.inc_by(events);
        let seconds = metrics.sink_write_seconds.with_label_values(&label);
        seconds.observe(took.as_secs_f64());
    }

    pub(super) fn backfill_started(&self, reason: BackfillReason) {
        let labels = [self.name(), reason.name()];
        let backfills = &self.metrics.sink_seeds_total;
        backfills.with_label_values(&labels).inc();
    }

    /// Updates the gauges that change with time.
    pub(super) fn measure(&self, state: &State) {
        let status = self.status(state);
        if status.phase() == Phase::Elsewhere {
            // It may have stopped during the last measurement.
            return self.remove_gauges();
        }
        let values = [
            u64::from(status.phase() == Phase::Following),
            status.lag_events,
            status.lag_ms / 1000,
            status.dead_letters,
        ];
        for (gauge, value) in self.gauges().into_iter().zip(values) {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(&[self.name()]).set(value);
        }
    }

    /// The sink's status, as of a state of the cluster.
    pub(super) fn status(&self, state: &State) -> SinkStatus {
        let mut status = self.status.lock().clone();
        let record = state.sink(self.name());
        status.dead_letters = record.map_or(0, |record| record.letters().len() as u64);
        if status.phase() != Phase::Elsewhere {
            // Without a checkpoint, every event is still to be delivered.
            let delivered = status.cursor.map(EventCursor::from).unwrap_or_default();
            status.lag_events = state.events_behind(delivered);
            if let Some(oldest) = state.oldest_behind(delivered) {
                status.lag_ms = wall_clock().0.saturating_sub(oldest.at.0);
            }
        }
        status
    }
}

/// The status of a sink when a phase begins.
fn begun(sink: &config::Sink, phase: Phase) -> SinkStatus {
    SinkStatus {
        name: sink.name.to_string(),
        kind: sink.kind.name().to_owned(),
        address: sink.shown_address(),
        follows: sink.machines.iter().map(ToString::to_string).collect(),
        phase: phase.into(),
        since_ms: wall_clock().0,
        ..SinkStatus::default()
    }
}
