//! A far side in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId};
use tokio::sync::Semaphore;

use crate::sink::{
    Batch, Change, CheckStep, Checkpoint, Claim, Place, Seed, Sink, SinkError, changes,
};

/// A far side in memory.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) keeps_place: bool,
    pub(super) term: u64,
    pub(super) place: Option<Checkpoint>,
    /// By place, what happened.
    pub(super) history: BTreeMap<EventCursor, String>,
    /// By id, the state.
    pub(super) states: BTreeMap<String, (GlobalRevision, String)>,
    pub(super) seeds: Vec<Seed>,
    /// Instances that are refused for good.
    pub(super) poisoned: Vec<String>,
    /// What the next calls come to, before anything is written.
    pub(super) failing: Vec<SinkError>,
    /// How often events were given that were there already.
    pub(super) repeated: usize,
    /// How many pages of states were given, and the ids in those that were taken.
    pub(super) pages: usize,
    pub(super) told: Vec<String>,
    /// The page that does not arrive.
    pub(super) lost_page: Option<usize>,
    /// What a page of states waits for.
    pub(super) gate: Option<Arc<Semaphore>>,
}

#[derive(Clone, Default)]
pub(super) struct FarSide(Arc<Mutex<Shelf>>);

impl FarSide {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap()
    }
}

impl Shelf {
    fn fail(&mut self) -> Result<(), SinkError> {
        match self.failing.pop() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn refuses(&self, event: &Event) -> bool {
        let id = event.instance().map(|id| id.to_string());
        id.is_some_and(|id| self.poisoned.contains(&id))
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
    SinkError::Unavailable {
        reason: "the cable is out".to_owned(),
        retry_after: None,
    }
}

fn refused() -> SinkError {
    SinkError::Refused {
        event: None,
        reason: "poisoned".to_owned(),
    }
}

#[async_trait]
impl Sink for FarSide {
    async fn open(&mut self, claim: &Claim) -> Result<Place, SinkError> {
        let mut shelf = self.lock();
        shelf.fail()?;
        if claim.term < shelf.term {
            return Err(SinkError::Fenced { term: shelf.term });
        }
        shelf.term = claim.term;
        Ok(match (shelf.keeps_place, shelf.place) {
            (false, _) => Place::NotKept,
            (true, None) => Place::Nothing,
            (true, Some(place)) => Place::At(place),
        })
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        shelf.fail()?;
        if shelf.keeps_place && shelf.place != Some(batch.from) {
            return Err(SinkError::Moved);
        }
        if batch.events.iter().any(|event| shelf.refuses(event)) {
            return Err(refused());
        }
        for event in batch.events {
            assert!(event.cursor() > batch.from.cursor && event.cursor() <= batch.to);
            shelf.keep(event);
        }
        for (id, change) in changes(batch.events, batch.from.seeded) {
            match change {
                Change::Is(is) => {
                    let state = (is.revision, is.state.to_string());
                    shelf.states.insert(id.to_string(), state);
                }
                Change::Gone { .. } => drop(shelf.states.remove(&id.to_string())),
            }
        }
        shelf.place = Some(Checkpoint {
            cursor: batch.to,
            ..batch.from
        });
        Ok(())
    }

    async fn seed(
        &mut self,
        seed: &Seed,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let gate = self.lock().gate.clone();
        if let Some(gate) = gate {
            drop(gate.acquire().await);
        }
        let mut shelf = self.lock();
        shelf.fail()?;
        shelf.pages += 1;
        if shelf.lost_page == Some(shelf.pages) {
            return Err(unavailable());
        }
        if page
            .iter()
            .any(|(id, _)| shelf.poisoned.contains(&id.to_string()))
        {
            return Err(refused());
        }
        for (id, instance) in page {
            let state = (seed.revision, instance.state.to_string());
            shelf.states.insert(id.to_string(), state);
            shelf.told.push(id.to_string());
        }
        Ok(())
    }

    async fn seeded(&mut self, seed: &Seed) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        shelf.fail()?;
        shelf
            .states
            .retain(|_, (revision, _)| *revision >= seed.revision);
        shelf.seeds.push(*seed);
        shelf.place = Some(Checkpoint {
            cursor: seed.then,
            seeded: seed.revision,
        });
        Ok(())
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        if shelf.refuses(event) {
            return Err(refused());
        }
        if event.kind != EventKind::Seeded {
            shelf.keep(event);
        }
        if let (Some(id), Some(is)) = (event.instance(), current) {
            let state = (revision, is.state.to_string());
            shelf.states.insert(id.to_string(), state);
        }
        Ok(())
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        vec![]
    }
}
