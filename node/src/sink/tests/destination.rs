//! A destination in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision};
use tokio::sync::Semaphore;

use crate::sink::{
    Backfill, Batch, Change, CheckSteps, Checkpoint, Claim, Current, Destination, SinkError,
    StoredCheckpoint,
};

/// The content of the destination.
#[derive(Default)]
pub(super) struct MemoryState {
    pub(super) keeps_checkpoint: bool,
    pub(super) term: u64,
    pub(super) checkpoint: Option<Checkpoint>,
    /// By cursor, the event.
    pub(super) history: BTreeMap<EventCursor, String>,
    /// By id, the state.
    pub(super) states: BTreeMap<String, (GlobalRevision, String)>,
    pub(super) backfills: Vec<Backfill>,
    /// Instances that are rejected permanently.
    pub(super) rejected_ids: Vec<String>,
    /// Errors of the next calls, before anything is written.
    pub(super) failing: Vec<SinkError>,
    /// Events that were written again.
    pub(super) repeated: usize,
    /// Pages of states, and the ids in the accepted ones.
    pub(super) pages: usize,
    pub(super) received: Vec<String>,
    /// The page that fails.
    pub(super) lost_page: Option<usize>,
    /// Pages wait for its permits.
    pub(super) gate: Option<Arc<Semaphore>>,
}

#[derive(Clone, Default)]
pub(super) struct MemoryDestination(Arc<Mutex<MemoryState>>);

impl MemoryDestination {
    pub(super) fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.0.lock().unwrap()
    }
}

impl MemoryState {
    fn fail(&mut self) -> Result<(), SinkError> {
        match self.failing.pop() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn rejects(&self, event: &Event) -> bool {
        let id = event.instance().map(|id| id.to_string());
        id.is_some_and(|id| self.rejected_ids.contains(&id))
    }

    fn put(&mut self, current: &Current) {
        let state = (current.revision, current.state.to_string());
        self.states.insert(current.id.to_string(), state);
    }

    fn keep(&mut self, event: &Event) {
        let text = match (event.instance(), &event.to) {
            (Some(id), Some(to)) => format!("{id} {to}"),
            (Some(id), None) => format!("{id} gone"),
            (None, _) => event.machine.to_string(),
        };
        let again = self.history.insert(event.cursor(), text);
        self.repeated += usize::from(again.is_some());
    }
}

pub(super) fn unavailable() -> SinkError {
    SinkError::unavailable("connection refused")
}

fn rejected() -> SinkError {
    SinkError::rejected(None, "poisoned")
}

#[async_trait]
impl Destination for MemoryDestination {
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError> {
        let mut state = self.lock();
        state.fail()?;
        if claim.term < state.term {
            return Err(SinkError::Fenced { term: state.term });
        }
        state.term = claim.term;
        Ok(match (state.keeps_checkpoint, state.checkpoint) {
            (false, _) => StoredCheckpoint::Unsupported,
            (true, None) => StoredCheckpoint::Empty,
            (true, Some(checkpoint)) => StoredCheckpoint::At(checkpoint),
        })
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let mut state = self.lock();
        state.fail()?;
        if state.keeps_checkpoint && state.checkpoint != Some(batch.from) {
            return Err(SinkError::Moved);
        }
        if batch.events.iter().any(|event| state.rejects(event)) {
            return Err(rejected());
        }
        for event in batch.events {
            assert!(event.cursor() > batch.from.cursor && event.cursor() <= batch.to);
            state.keep(event);
        }
        for change in batch.changes() {
            match change {
                Change::Is(current) => state.put(&current),
                Change::Deleted { id, .. } => drop(state.states.remove(&id.to_string())),
            }
        }
        state.checkpoint = Some(batch.checkpoint());
        Ok(())
    }

    async fn backfill_page(&mut self, _: &Backfill, page: &[Current]) -> Result<(), SinkError> {
        let gate = self.lock().gate.clone();
        if let Some(gate) = gate {
            drop(gate.acquire().await);
        }
        let mut state = self.lock();
        state.fail()?;
        state.pages += 1;
        if state.lost_page == Some(state.pages) {
            return Err(unavailable());
        }
        if page
            .iter()
            .any(|it| state.rejected_ids.contains(&it.id.to_string()))
        {
            return Err(rejected());
        }
        for current in page {
            state.put(current);
            state.received.push(current.id.to_string());
        }
        Ok(())
    }

    async fn finish_backfill(&mut self, backfill: &Backfill) -> Result<(), SinkError> {
        let mut state = self.lock();
        state.fail()?;
        state
            .states
            .retain(|_, (revision, _)| *revision >= backfill.revision);
        state.backfills.push(*backfill);
        state.checkpoint = Some(backfill.checkpoint());
        Ok(())
    }

    async fn replay(&mut self, event: &Event, now: Option<Change>) -> Result<(), SinkError> {
        let mut state = self.lock();
        if state.rejects(event) {
            return Err(rejected());
        }
        if event.kind != EventKind::Seeded {
            state.keep(event);
        }
        if let Some(Change::Is(current)) = now {
            state.put(&current);
        }
        Ok(())
    }

    async fn check(&mut self, _: &mut CheckSteps) -> Option<()> {
        Some(())
    }
}
