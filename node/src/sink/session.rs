//! What a sink does while its node leads: one far side, opened once, and written to in order.
//!
//! A session ends with the first thing that goes wrong; the runner then pauses and begins another.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::{Event, EventCursor, EventFilter};
use tokio::sync::watch;

use super::backoff::Backoff;
use super::board::Board;
use super::ledger::Ledger;
use super::{
    Batch, Checkpoint, Claim, Phase, Place, Seed, SeedReason, Sink, SinkError, Trouble, seeding,
};
use crate::config::{self, Start};
use crate::service::Service;

/// For the confirmation that this node leads.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(5);
/// A confirmation is good for so long: the longest that a node which no longer leads, and does not
/// know it, writes where nothing else fences it.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);
/// Between two looks when nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A place that the cluster keeps is kept this often at most: what is repeated after a crash.
const KEEP_EVERY: Duration = Duration::from_millis(500);
/// A far side that is told of nothing is told this often how far all is looked at, lest its place be
/// compacted away.
const MOVE_ON_EVERY: Duration = Duration::from_secs(10);
/// Events that are looked at for one batch at most, wanted or not.
const LOOKED_AT_MAX: usize = 16 * 1024;

/// What a session works with.
pub(super) struct Session<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) config: &'a config::Sink,
    pub(super) filters: &'a [EventFilter],
    pub(super) service: &'a Arc<Service>,
    pub(super) ledger: &'a Ledger,
    pub(super) board: &'a Board,
    claim: &'a Claim,
    /// Whether the far side keeps its place itself.
    pub(super) keeps_place: bool,
    /// Where the far side is.
    pub(super) place: Checkpoint,
    /// How far the events were looked at: at or behind the far side's place.
    pub(super) seen: EventCursor,
    confirmed: Option<Instant>,
    /// What the cluster has kept of the place, and when.
    kept: (Checkpoint, Instant),
    moved_on: Instant,
    /// Events in one batch at most.
    batch_max: usize,
    changes: watch::Receiver<u64>,
}

impl<'a> Session<'a> {
    /// Opens the far side, and finds out where it is.
    pub(super) async fn open(
        sink: &'a mut dyn Sink,
        config: &'a config::Sink,
        filters: &'a [EventFilter],
        service: &'a Arc<Service>,
        ledger: &'a Ledger,
        board: &'a Board,
        claim: &'a Claim,
    ) -> Result<Self, Trouble> {
        let changes = service.changes();
        let mut session = Self {
            sink,
            config,
            filters,
            service,
            ledger,
            board,
            claim,
            keeps_place: true,
            place: Checkpoint::default(),
            seen: EventCursor::default(),
            confirmed: None,
            kept: (Checkpoint::default(), Instant::now()),
            moved_on: Instant::now(),
            batch_max: config.batch_events_max,
            changes,
        };
        session.assure().await?;
        match session.sink.open(claim).await? {
            Place::At(place) => session.begin_at(place),
            Place::Nothing => session.seed(SeedReason::First, None).await?,
            Place::NotKept => session.find_place().await?,
        }
        session.refuse_to_be_behind()?;
        Ok(session)
    }

    fn begin_at(&mut self, place: Checkpoint) {
        self.place = place;
        self.seen = place.cursor;
        self.kept = (place, Instant::now());
        self.board.at(place);
    }

    /// Where a far side is that keeps no place.
    async fn find_place(&mut self) -> Result<(), Trouble> {
        self.keeps_place = false;
        self.ledger.claim().await?;
        match self.ledger.place() {
            Some(place) => {
                self.begin_at(place);
                Ok(())
            }
            None if self.start() == Start::Everything => self.seed(SeedReason::First, None).await,
            None => {
                let revision = self.service.peek(|state| state.revision());
                let place = Checkpoint {
                    cursor: EventCursor::after(revision),
                    seeded: revision,
                };
                self.ledger.advance(place).await?;
                self.begin_at(place);
                Ok(())
            }
        }
    }

    fn start(&self) -> Start {
        match &self.config.kind {
            config::SinkKind::Webhook(webhook) => webhook.start,
            _ => Start::Everything,
        }
    }

    /// A far side that is ahead of the cluster has seen another history than this one.
    fn refuse_to_be_behind(&self) -> Result<(), Trouble> {
        let reached = self.service.peek(|state| state.revision());
        let theirs = self.place.cursor.revision.max(self.place.seeded);
        if theirs <= reached {
            return Ok(());
        }
        let reason = format!(
            "it is at revision {theirs}, and the cluster only at {reached}: it followed another history of this cluster; give it an empty place"
        );
        Err(SinkError::Misconfigured { reason }.into())
    }

    /// Makes sure that this node leads still.
    pub(super) async fn assure(&mut self) -> Result<(), Trouble> {
        if self
            .confirmed
            .is_some_and(|at| at.elapsed() < CONFIRM_EVERY)
        {
            return Ok(());
        }
        // Before the question: what the answer says was true then.
        let asked = Instant::now();
        self.service
            .confirm(CONFIRM_PATIENCE)
            .await
            .map_err(|e| Trouble::Cluster(e.to_string()))?;
        self.confirmed = Some(asked);
        Ok(())
    }

    /// Follows until something goes wrong. `well` is called whenever the far side has taken all there is
    /// or a part of it.
    pub(super) async fn follow(&mut self, mut well: impl FnMut()) -> Result<Infallible, Trouble> {
        loop {
            // Marked as seen before the look: a change during it wakes the wait below.
            self.changes.borrow_and_update();
            // First: a seed may need the room of what was put aside.
            self.replay().await?;
            if let Some(asked) = self.ledger.seed_wanted() {
                let was = Some(self.place.cursor);
                self.seed(SeedReason::Asked, was).await?;
                self.ledger.seeded(asked).await?;
            }
            let more = self.step().await?;
            well();
            self.board.doing(Phase::Following);
            if !more {
                self.keep_place(KEEP_EVERY).await?;
                let changed = self.changes.changed();
                drop(tokio::time::timeout(LOOK_EVERY, changed).await);
            }
        }
    }

    /// Writes the next events, if there are any; whether there may be more.
    async fn step(&mut self) -> Result<bool, Trouble> {
        let Some(next) = self.next_events() else {
            let was = Some(self.place.cursor);
            self.seed(SeedReason::Compacted, was).await?;
            return Ok(true);
        };
        let overdue = self.moved_on.elapsed() >= MOVE_ON_EVERY;
        if !next.events.is_empty() || (overdue && next.to > self.place.cursor) {
            self.assure().await?;
            self.deliver(next.events, next.to).await?;
            self.moved_on = Instant::now();
            self.keep_place(KEEP_EVERY).await?;
        }
        self.seen = next.to;
        self.board.at(Checkpoint {
            cursor: self.seen,
            ..self.place
        });
        // Where nothing is wanted, nothing else was waited for.
        tokio::task::yield_now().await;
        Ok(next.more)
    }

    /// The next batch's events that are wanted; none if some are no longer kept.
    fn next_events(&self) -> Option<Next> {
        let mut next = Next {
            events: vec![],
            to: self.seen,
            more: true,
        };
        let max = self.batch_max;
        let mut looked_at = 0;
        while next.more && next.events.len() < max && looked_at < LOOKED_AT_MAX {
            let wanted_max = max - next.events.len();
            let (chunk, newest) = self.service.peek(|state| {
                let chunk = state.events_after(next.to, wanted_max).ok()?;
                Some((chunk, state.revision()))
            })?;
            looked_at += chunk.len();
            next.more = chunk.len() == wanted_max;
            next.to = match chunk.last() {
                Some(last) if next.more => last.cursor(),
                _ => next.to.max(EventCursor::after(newest)),
            };
            next.events
                .extend(chunk.into_iter().filter(|event| self.wants(event)));
        }
        Some(next)
    }

    fn wants(&self, event: &Event) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.wants(event))
    }

    /// Writes events that follow each other, up to `to`; puts those aside that are refused for good.
    async fn deliver(&mut self, events: Vec<Arc<Event>>, to: EventCursor) -> Result<(), Trouble> {
        let mut todo = VecDeque::from([(events, to)]);
        while let Some((mut events, to)) = todo.pop_front() {
            match self.write(&events, to).await {
                Ok(()) => {}
                Err(SinkError::Refused { event, reason }) => {
                    let known = event.and_then(|it| events.iter().position(|e| e.cursor() == it));
                    match (known, events.len()) {
                        // Nothing but the place moved on.
                        (_, 0) => return Err(SinkError::Misconfigured { reason }.into()),
                        (Some(at), _) => self.bury(events.remove(at), reason).await?,
                        (None, 1) => self.bury(events.remove(0), reason).await?,
                        (None, many) => {
                            let rest = events.split_off(many / 2);
                            let middle = events.last().map_or(to, |event| event.cursor());
                            todo.push_front((rest, to));
                            todo.push_front((events, middle));
                            continue;
                        }
                    }
                    todo.push_front((events, to));
                }
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    async fn write(&mut self, events: &[Arc<Event>], to: EventCursor) -> Result<(), SinkError> {
        let began = Instant::now();
        let from = self.place;
        self.sink.write(&Batch { from, to, events }).await?;
        self.place.cursor = to;
        self.board.wrote(events.len(), began.elapsed(), self.place);
        if !self.keeps_place {
            self.batch_max = self.fitting(events.len(), began.elapsed());
        }
        Ok(())
    }

    /// How many events the next batch is to have: a place that the cluster keeps is kept between two
    /// batches only, and that this node leads is made sure of.
    fn fitting(&self, written: usize, took: Duration) -> usize {
        if took > KEEP_EVERY {
            return (written / 2).max(1);
        }
        if written == self.batch_max && took < KEEP_EVERY / 2 {
            return (self.batch_max * 2).min(self.config.batch_events_max);
        }
        self.batch_max
    }

    /// Puts aside what is refused for good.
    pub(super) async fn bury(&mut self, event: Arc<Event>, reason: String) -> Result<(), Trouble> {
        self.ledger.bury(event.clone(), reason.clone()).await?;
        self.board.buried();
        tracing::warn!(
            sink = self.board.name(),
            revision = event.revision.0,
            position = event.position,
            machine = %event.machine,
            instance = event.name.as_ref().map(tracing::field::display),
            kind = event.kind.name(),
            reason,
            "the far side refuses an event or a state, which is put aside"
        );
        Ok(())
    }

    /// Writes again what was put aside, as far as that is wanted.
    async fn replay(&mut self) -> Result<(), Trouble> {
        while let Some(event) = self.ledger.replay_wanted() {
            self.assure().await?;
            let (current, revision) = self.service.peek(|state| {
                let id = event.instance();
                let current = id.and_then(|id| state.instance(&id).cloned());
                (current, state.revision())
            });
            let refused = match self.sink.replay(&event, current.as_ref(), revision).await {
                Ok(()) => None,
                Err(SinkError::Refused { reason, .. }) => Some(reason),
                Err(other) => return Err(other.into()),
            };
            self.ledger.settle(event.cursor(), refused).await?;
        }
        Ok(())
    }

    /// Keeps the place of a far side that does not, unless that was done less than `apart` ago.
    pub(super) async fn keep_place(&mut self, apart: Duration) -> Result<(), Trouble> {
        let (kept, at) = self.kept;
        if self.keeps_place || kept == self.place || at.elapsed() < apart {
            return Ok(());
        }
        self.ledger.advance(self.place).await?;
        self.kept = (self.place, Instant::now());
        Ok(())
    }

    /// Waits until the far side is there again after an outage in the midst of a seed, so that the seed
    /// goes on where it was; as long as the events reach back to it.
    ///
    /// Only where the cluster keeps the place: whoever keeps it himself may have been restored meanwhile.
    pub(super) async fn outlast(
        &mut self,
        mut outage: SinkError,
        seed: &Seed,
        backoff: &mut Backoff,
    ) -> Result<(), Trouble> {
        loop {
            let SinkError::Unavailable { retry_after, .. } = outage else {
                return Err(outage.into());
            };
            let reached = self
                .service
                .peek(|state| state.events_after(seed.then, 1).is_ok());
            if self.keeps_place || !reached {
                return Err(outage.into());
            }
            self.board
                .trouble(Phase::Retrying, outage.kind(), outage.to_string());
            tokio::time::sleep(backoff.next_after(retry_after)).await;
            self.assure().await?;
            match self.sink.open(self.claim).await {
                Ok(_) => return Ok(()),
                Err(error) => outage = error,
            }
        }
    }

    /// Writes the current states as a whole.
    async fn seed(&mut self, reason: SeedReason, was: Option<EventCursor>) -> Result<(), Trouble> {
        let place = seeding::seed(self, reason, was).await?;
        self.begin_at(place);
        if !self.keeps_place {
            self.ledger.advance(place).await?;
        }
        Ok(())
    }
}

/// What is to be written next.
struct Next {
    /// The events that are wanted.
    events: Vec<Arc<Event>>,
    /// Everything up to here was looked at.
    to: EventCursor,
    /// There may be more.
    more: bool,
}
