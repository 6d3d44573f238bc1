//! What a sink is doing: written down by its runner, read by people and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_machine::{State, Timestamp};

use super::status::{Phase, SinkStatus};
use super::{Checkpoint, SeedReason, SinkError};
use crate::clock::wall_clock;
use crate::config;
use crate::telemetry::Metrics;

/// One sink's notes.
pub(super) struct Board {
    name: String,
    kind: &'static str,
    address: String,
    follows: Vec<String>,
    metrics: Arc<Metrics>,
    notes: Mutex<Notes>,
}

struct Notes {
    phase: Phase,
    reason: Option<String>,
    since: Timestamp,
    place: Option<Checkpoint>,
    events: u64,
    errors: u64,
    written_at: Option<Timestamp>,
}

impl Notes {
    fn new() -> Self {
        Self {
            phase: Phase::Elsewhere,
            reason: None,
            since: wall_clock(),
            place: None,
            events: 0,
            errors: 0,
            written_at: None,
        }
    }
}

impl Board {
    /// Notes of a sink that runs elsewhere.
    pub(super) fn new(sink: &config::Sink, metrics: Arc<Metrics>) -> Self {
        Self {
            name: sink.name.clone(),
            kind: sink.kind.name(),
            address: sink.address(),
            follows: sink.follows.iter().map(ToString::to_string).collect(),
            metrics,
            notes: Mutex::new(Notes::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Each change is a whole one.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// It does this from now on, and all is well.
    pub(super) fn doing(&self, phase: Phase) {
        let before = self.turn(phase, None);
        if phase == Phase::Following && before.is_some_and(|(phase, _)| in_trouble(phase)) {
            tracing::info!(sink = self.name, "the sink follows again");
        }
    }

    /// It cannot go on, and why.
    pub(super) fn trouble(&self, phase: Phase, kind: &'static str, reason: String) {
        if phase != Phase::Absent {
            self.lock().errors += 1;
            self.count_error(kind);
        }
        // Once per reason: an outage of a day is not a day of lines.
        if let Some((before, _)) = self.turn(phase, Some(reason.clone()))
            && (before != phase || phase != Phase::Retrying)
        {
            let phase = phase.name();
            if phase == Phase::Absent.name() {
                tracing::info!(sink = self.name, reason, "the sink waits for its host");
            } else {
                tracing::warn!(sink = self.name, phase, reason, "the sink does not follow");
            }
        }
    }

    /// Changes what it does; what it was, if that was something else or for another reason.
    fn turn(&self, phase: Phase, reason: Option<String>) -> Option<(Phase, Option<String>)> {
        let mut notes = self.lock();
        let same = std::mem::discriminant(&notes.phase) == std::mem::discriminant(&phase);
        if same && notes.reason == reason {
            notes.phase = phase;
            return None;
        }
        if !same {
            notes.since = wall_clock();
        }
        let before = std::mem::replace(&mut notes.phase, phase);
        Some((before, std::mem::replace(&mut notes.reason, reason)))
    }

    fn count_error(&self, kind: &'static str) {
        self.metrics
            .sink_errors_total
            .with_label_values(&[self.name.as_str(), kind])
            .inc();
    }

    /// It begins to run here.
    pub(super) fn begin(&self) {
        *self.lock() = Notes::new();
        self.doing(Phase::Opening);
    }

    /// Another node runs it from now on.
    pub(super) fn leave(&self) {
        *self.lock() = Notes::new();
        self.report_nothing();
    }

    fn report_nothing(&self) {
        let label = [self.name.as_str()];
        // What only the leader knows is only the leader's to report.
        let metrics = &self.metrics;
        for gauge in [
            &metrics.sink_active,
            &metrics.sink_lag_events,
            &metrics.sink_lag_seconds,
            &metrics.sink_dead_letters,
        ] {
            drop(gauge.remove_label_values(&label));
        }
    }

    /// The far side is here.
    pub(super) fn at(&self, place: Checkpoint) {
        self.lock().place = Some(place);
    }

    /// So many events were written.
    pub(super) fn wrote(&self, events: usize, took: Duration, place: Checkpoint) {
        let mut notes = self.lock();
        notes.place = Some(place);
        notes.events += events as u64;
        notes.written_at = Some(wall_clock());
        drop(notes);
        let label = [self.name.as_str()];
        let metrics = &self.metrics;
        metrics
            .sink_events_total
            .with_label_values(&label)
            .inc_by(events as u64);
        metrics
            .sink_write_seconds
            .with_label_values(&label)
            .observe(took.as_secs_f64());
    }

    /// The far side refused an event, which is put aside.
    pub(super) fn buried(&self) {
        self.lock().errors += 1;
        self.count_error("refused");
    }

    /// A seed begins.
    pub(super) fn seeding(&self, reason: SeedReason) {
        self.metrics
            .sink_seeds_total
            .with_label_values(&[self.name.as_str(), reason.name()])
            .inc();
    }

    /// Brings the metrics that change by themselves up to date.
    pub(super) fn measure(&self, state: &State) {
        let status = self.status(state);
        if status.phase == Phase::Elsewhere {
            // It may have left in the midst of the last look.
            return self.report_nothing();
        }
        let label = [self.name.as_str()];
        let set = |gauge: &prometheus::IntGaugeVec, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(&label).set(value);
        };
        let metrics = &self.metrics;
        set(
            &metrics.sink_active,
            u64::from(status.phase == Phase::Following),
        );
        set(&metrics.sink_lag_events, status.lag_events);
        set(&metrics.sink_lag_seconds, status.lag.as_secs());
        set(&metrics.sink_dead_letters, status.dead_letters);
    }

    /// Everything, as of a state.
    pub(super) fn status(&self, state: &State) -> SinkStatus {
        let dead_letters = state
            .sink(&self.name)
            .map_or(0, |record| record.letters().len() as u64);
        let notes = self.lock();
        let cursor = notes.place.map(|place| place.cursor);
        let behind = cursor.unwrap_or_default();
        let running = notes.phase != Phase::Elsewhere;
        // A sink that has no place yet has everything before it.
        let lag_events = if running {
            state.events_behind(behind)
        } else {
            0
        };
        let oldest = running.then(|| state.oldest_behind(behind)).flatten();
        let lag = oldest.map_or(Duration::ZERO, |event| {
            Duration::from_millis(wall_clock().0.saturating_sub(event.at.0))
        });
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind,
            address: self.address.clone(),
            follows: self.follows.clone(),
            phase: notes.phase,
            reason: notes.reason.clone(),
            since: notes.since,
            cursor,
            seeded: notes.place.map(|place| place.seeded),
            lag_events,
            lag,
            events: notes.events,
            errors: notes.errors,
            dead_letters,
            written_at: notes.written_at,
        }
    }
}

fn in_trouble(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Absent | Phase::Retrying | Phase::Failing | Phase::Halted
    )
}

impl SinkError {
    /// Its kind in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            SinkError::Absent { .. } => "absent",
            SinkError::Unavailable { .. } => "unavailable",
            SinkError::Misconfigured { .. } => "misconfigured",
            SinkError::Refused { .. } => "refused",
            SinkError::Fenced { .. } => "fenced",
            SinkError::Moved => "moved",
        }
    }
}
