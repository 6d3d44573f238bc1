//! Tracks what a sink is doing. Its runner reports it; status calls and metrics read it.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{State, Timestamp};
use parking_lot::Mutex;

use super::status::{Phase, SinkStatus};
use super::{BackfillReason, Checkpoint};
use crate::clock::wall_clock;
use crate::config;
use crate::telemetry::Metrics;

/// One sink's progress.
pub(super) struct StatusTracker {
    name: String,
    kind: &'static str,
    address: String,
    follows: Vec<String>,
    metrics: Arc<Metrics>,
    progress: Mutex<Progress>,
}

struct Progress {
    phase: Phase,
    reason: Option<String>,
    since: Timestamp,
    checkpoint: Option<Checkpoint>,
    events: u64,
    errors: u64,
    written_at: Option<Timestamp>,
}

impl Progress {
    fn new() -> Self {
        Self {
            phase: Phase::Elsewhere,
            reason: None,
            since: wall_clock(),
            checkpoint: None,
            events: 0,
            errors: 0,
            written_at: None,
        }
    }

    /// Changes the phase. The one before, if it was another one or had another reason.
    fn enter(&mut self, phase: Phase, reason: Option<String>) -> Option<Phase> {
        let same = std::mem::discriminant(&self.phase) == std::mem::discriminant(&phase);
        let before = std::mem::replace(&mut self.phase, phase);
        if !same {
            self.since = wall_clock();
        }
        let same = same && self.reason == reason;
        self.reason = reason;
        (!same).then_some(before)
    }
}

impl StatusTracker {
    /// A sink that does not run on this node.
    pub(super) fn new(sink: &config::Sink, metrics: Arc<Metrics>) -> Self {
        Self {
            name: sink.name.clone(),
            kind: sink.kind.name(),
            address: sink.address(),
            follows: sink.follows.iter().map(ToString::to_string).collect(),
            metrics,
            progress: Mutex::new(Progress::new()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The sink entered a phase without an error.
    pub(super) fn doing(&self, phase: Phase) {
        let before = self.progress.lock().enter(phase, None);
        if phase == Phase::Following && before.is_some_and(has_error) {
            tracing::info!(sink = self.name, "the sink follows again");
        }
    }

    /// The sink cannot go on.
    pub(super) fn failed(&self, phase: Phase, kind: &'static str, reason: String) {
        if phase != Phase::Absent {
            self.progress.lock().errors += 1;
            self.count_error(kind);
        }
        let before = self.progress.lock().enter(phase, Some(reason.clone()));
        // Logged once per reason, so that a long outage does not fill the log.
        if before.is_none_or(|before| before == phase && phase == Phase::Retrying) {
            return;
        }
        if phase == Phase::Absent {
            tracing::info!(sink = self.name, reason, "the sink waits for its host");
        } else {
            let phase = phase.name();
            tracing::warn!(sink = self.name, phase, reason, "the sink does not follow");
        }
    }

    fn count_error(&self, kind: &'static str) {
        let labels = [self.name.as_str(), kind];
        let errors = &self.metrics.sink_errors_total;
        errors.with_label_values(&labels).inc();
    }

    /// The sink starts on this node.
    pub(super) fn start(&self) {
        *self.progress.lock() = Progress::new();
        self.doing(Phase::Opening);
    }

    /// Another node runs the sink from now on.
    pub(super) fn stop(&self) {
        *self.progress.lock() = Progress::new();
        self.remove_gauges();
    }

    /// Only the leader reports what only the leader knows.
    fn remove_gauges(&self) {
        let metrics = &self.metrics;
        for gauge in [
            &metrics.sink_active,
            &metrics.sink_lag_events,
            &metrics.sink_lag_seconds,
            &metrics.sink_dead_letters,
        ] {
            drop(gauge.remove_label_values(&[self.name.as_str()]));
        }
    }

    /// The destination is at this checkpoint.
    pub(super) fn checkpoint(&self, checkpoint: Checkpoint) {
        self.progress.lock().checkpoint = Some(checkpoint);
    }

    /// A batch was written.
    pub(super) fn wrote(&self, events: usize, took: Duration, checkpoint: Checkpoint) {
        let events = events as u64;
        let mut progress = self.progress.lock();
        progress.checkpoint = Some(checkpoint);
        progress.events += events;
        progress.written_at = Some(wall_clock());
        drop(progress);
        let label = [self.name.as_str()];
        let metrics = &self.metrics;
        let total = metrics.sink_events_total.with_label_values(&label);
        total.inc_by(events);
        let seconds = metrics.sink_write_seconds.with_label_values(&label);
        seconds.observe(took.as_secs_f64());
    }

    /// The destination rejected an event or a state.
    pub(super) fn rejected(&self) {
        self.progress.lock().errors += 1;
        self.count_error("refused");
    }

    /// A backfill starts.
    pub(super) fn backfill_started(&self, reason: BackfillReason) {
        let labels = [self.name.as_str(), reason.name()];
        let backfills = &self.metrics.sink_seeds_total;
        backfills.with_label_values(&labels).inc();
    }

    /// Updates the gauges that change with time.
    pub(super) fn measure(&self, state: &State) {
        let status = self.status(state);
        if status.phase == Phase::Elsewhere {
            // It may have stopped during the last measurement.
            return self.remove_gauges();
        }
        let set = |gauge: &prometheus::IntGaugeVec, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(&[self.name.as_str()]).set(value);
        };
        let metrics = &self.metrics;
        let active = u64::from(status.phase == Phase::Following);
        set(&metrics.sink_active, active);
        set(&metrics.sink_lag_events, status.lag_events);
        set(&metrics.sink_lag_seconds, status.lag.as_secs());
        set(&metrics.sink_dead_letters, status.dead_letters);
    }

    /// The sink's status, as of a state of the cluster.
    pub(super) fn status(&self, state: &State) -> SinkStatus {
        let dead_letters = state
            .sink(&self.name)
            .map_or(0, |record| record.letters().len() as u64);
        let progress = self.progress.lock();
        let cursor = progress.checkpoint.map(|it| it.cursor);
        // Without a checkpoint, every event is still to be delivered.
        let delivered = cursor.unwrap_or_default();
        let (mut lag_events, mut lag) = (0, Duration::ZERO);
        if progress.phase != Phase::Elsewhere {
            lag_events = state.events_behind(delivered);
            if let Some(oldest) = state.oldest_behind(delivered) {
                lag = Duration::from_millis(wall_clock().0.saturating_sub(oldest.at.0));
            }
        }
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind,
            address: self.address.clone(),
            follows: self.follows.clone(),
            phase: progress.phase,
            reason: progress.reason.clone(),
            since: progress.since,
            cursor,
            seeded: progress.checkpoint.map(|it| it.seeded),
            lag_events,
            lag,
            events: progress.events,
            errors: progress.errors,
            dead_letters,
            written_at: progress.written_at,
        }
    }
}

fn has_error(phase: Phase) -> bool {
    match phase {
        Phase::Absent | Phase::Retrying | Phase::Failing | Phase::Halted => true,
        Phase::Elsewhere | Phase::Opening | Phase::Following | Phase::Backfilling { .. } => false,
    }
}
