//! A session: one open destination, and the events delivered to it in order.
//!
//! A session ends with the first error; the runner then pauses and opens another one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::{DeadLetter, Event, EventCursor, EventFilter, SinkChange, SinkRecord};
use tokio::sync::watch;

use super::status::ConfiguredSink;
use super::{
    BackfillReason, Batch, Change, Checkpoint, Claim, Destination, Phase, SinkError,
    StoredCheckpoint,
};
use crate::config::Start;
use crate::service::{Role, Service};

/// How long an idle session waits before it looks again.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How often a checkpoint that the cluster stores is written: what is delivered again after a crash.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How often the checkpoint of an idle sink advances, so that compaction does not overtake it.
const ADVANCE_EVERY: Duration = Duration::from_secs(10);
/// How often a busy session looks for dead letters to replay.
const REPLAY_EVERY: Duration = Duration::from_millis(200);
/// Events read for one batch at most, whether the sink follows them or not.
const SCAN_EVENTS_MAX: usize = 16 * 1024;
/// Limit for confirming that this node leads.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a confirmation is valid: the longest that a deposed leader goes on writing where nothing
/// else fences it.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);

/// Delivers events to an open destination, while this node leads.
pub(super) struct Session<'a> {
    pub(super) destination: &'a mut dyn Destination,
    pub(super) sink: &'a ConfiguredSink,
    pub(super) service: &'a Service,
    pub(super) claim: Claim,
    /// When this node's leadership was last confirmed.
    confirmed: Option<Instant>,
    /// It follows the events that one of these wants.
    pub(super) filters: Vec<EventFilter>,
    /// Whether the destination stores its checkpoint itself.
    pub(super) keeps_checkpoint: bool,
    checkpoint: Checkpoint,
    /// How far events were read: at or after the checkpoint.
    read_to: EventCursor,
    /// The checkpoint that the cluster stores, and when it was stored.
    saved: (Checkpoint, Instant),
    advanced: Instant,
    /// When dead letters to replay were last looked for.
    replayed: Option<Instant>,
    batch_max: usize,
    changes: watch::Receiver<u64>,
}

impl<'a> Session<'a> {
    /// Opens the destination as the leader of a term, and finds its checkpoint.
    pub(super) async fn open(
        destination: &'a mut dyn Destination,
        sink: &'a ConfiguredSink,
        service: &'a Service,
        term: u64,
    ) -> Result<Self, SinkError> {
        let mut session = Self {
            destination,
            sink,
            service,
            claim: Claim {
                cluster: service.status().cluster_id,
                sink: sink.config.name.to_string(),
                term,
            },
            confirmed: None,
            filters: sink.config.filters(),
            keeps_checkpoint: true,
            checkpoint: Checkpoint::default(),
            read_to: EventCursor::default(),
            saved: (Checkpoint::default(), Instant::now()),
            advanced: Instant::now(),
            replayed: None,
            batch_max: sink.config.batch_events_max,
            changes: service.changes(),
        };
        let stored = session.open_destination().await?;
        session.keeps_checkpoint = stored != StoredCheckpoint::Unsupported;
        match stored {
            StoredCheckpoint::At(checkpoint) => session.start_at(checkpoint),
            StoredCheckpoint::Empty => session.backfill(BackfillReason::First, None).await?,
            StoredCheckpoint::Unsupported => session.start_from_ledger().await?,
        }
        session.check_not_ahead()?;
        Ok(session)
    }

    /// Opens the destination, again after an error. What it reports about its checkpoint.
    pub(super) async fn open_destination(&mut self) -> Result<StoredCheckpoint, SinkError> {
        self.confirm_leadership().await?;
        self.destination.open(&self.claim).await
    }

    /// Confirms that this node still leads, unless that was confirmed a moment ago.
    pub(super) async fn confirm_leadership(&mut self) -> Result<(), SinkError> {
        if (self.confirmed).is_some_and(|at| at.elapsed() < CONFIRM_EVERY) {
            return Ok(());
        }
        // Taken before the call: the answer was true at some time after it.
        let began = Instant::now();
        let confirmed = self.service.confirm(CONFIRM_TIMEOUT).await;
        confirmed.map_err(|e| SinkError::Cluster(e.to_string()))?;
        // A follower gets its confirmation from the leader, and a later term is another claim.
        let standing = self.service.status().standing;
        if standing.role != Role::Leader || standing.term > self.claim.term {
            let reason = "this node no longer leads".to_owned();
            return Err(SinkError::Cluster(reason));
        }
        self.confirmed = Some(began);
        Ok(())
    }

    /// Continues after a checkpoint of the destination.
    pub(super) fn start_at(&mut self, checkpoint: Checkpoint) {
        self.checkpoint = checkpoint;
        self.read_to = checkpoint.cursor;
        self.saved = (checkpoint, Instant::now());
        self.sink.checkpoint(checkpoint);
    }

    /// Starts at the checkpoint that the cluster stores for a destination that stores none.
    async fn start_from_ledger(&mut self) -> Result<(), SinkError> {
        let term = self.claim.term;
        self.change(SinkChange::Claim { term }).await?;
        if let Some(checkpoint) = self.record(|record| record.checkpoint) {
            self.start_at(checkpoint);
            return Ok(());
        }
        if self.sink.config.start == Start::Everything {
            return self.backfill(BackfillReason::First, None).await;
        }
        let revision = self.service.peek(|state| state.revision());
        let checkpoint = Checkpoint {
            cursor: EventCursor::after(revision),
            seeded: revision,
        };
        self.advance(checkpoint).await?;
        self.start_at(checkpoint);
        Ok(())
    }

    /// A destination that is ahead of the cluster has followed another history.
    fn check_not_ahead(&self) -> Result<(), SinkError> {
        let reached = self.service.peek(|state| state.revision());
        let stored = self.checkpoint.cursor.revision.max(self.checkpoint.seeded);
        if stored <= reached {
            return Ok(());
        }
        let reason = format!(
            "the destination is at revision {stored}, but the cluster is only at {reached}: the cluster was restored or recreated; configure an empty schema, database or collection"
        );
        Err(SinkError::misconfigured(reason))
    }

    /// Delivers events until something fails. Calls `delivered` after each step that went well.
    pub(super) async fn follow(
        &mut self,
        mut delivered: impl FnMut(),
    ) -> Result<Infallible, SinkError> {
        loop {
            // Marked as seen before the state is read: a change during that wakes the wait below.
            self.changes.borrow_and_update();
            // Dead letters first: a backfill may need the room that they take.
            let requested =
                self.record(|record| record.seed_wanted().then_some(record.seeds_asked));
            if requested.is_some() || self.replayed.is_none_or(|at| at.elapsed() >= REPLAY_EVERY) {
                self.replay_dead_letters().await?;
                self.replayed = Some(Instant::now());
            }
            if let Some(asked) = requested {
                let previous = Some(self.checkpoint.cursor);
                self.backfill(BackfillReason::Requested, previous).await?;
                let term = self.claim.term;
                self.change(SinkChange::Seeded { term, asked }).await?;
            }
            let more = self.step().await?;
            delivered();
            self.sink.doing(Phase::Following);
            if !more {
                self.save_checkpoint(SAVE_EVERY).await?;
                let changed = self.changes.changed();
                drop(tokio::time::timeout(POLL_EVERY, changed).await);
            }
        }
    }

    /// Delivers the next events, if any. Whether there may be more.
    async fn step(&mut self) -> Result<bool, SinkError> {
        let Some((events, to, more)) = self.read_events() else {
            let previous = Some(self.checkpoint.cursor);
            self.backfill(BackfillReason::Compacted, previous).await?;
            return Ok(true);
        };
        let overdue = self.advanced.elapsed() >= ADVANCE_EVERY;
        if !events.is_empty() || (overdue && to > self.checkpoint.cursor) {
            self.confirm_leadership().await?;
            self.deliver(events, to).await?;
            self.advanced = Instant::now();
            self.save_checkpoint(SAVE_EVERY).await?;
        }
        self.read_to = to;
        self.sink.checkpoint(Checkpoint {
            cursor: self.read_to,
            ..self.checkpoint
        });
        // A step that delivered nothing has awaited nothing.
        tokio::task::yield_now().await;
        Ok(more)
    }

    /// The next events that the sink follows, up to where events were read, and whether there may be more;
    /// `None` if some of them were compacted.
    fn read_events(&self) -> Option<(Vec<Arc<Event>>, EventCursor, bool)> {
        let (mut events, mut to, mut more) = (vec![], self.read_to, true);
        let mut scanned = 0;
        while more && events.len() < self.batch_max && scanned < SCAN_EVENTS_MAX {
            let room = self.batch_max - events.len();
            let (chunk, newest) = self.service.peek(|state| {
                let chunk = state.events_after(to, room).ok()?;
                Some((chunk, state.revision()))
            })?;
            scanned += chunk.len();
            more = chunk.len() == room;
            to = match chunk.last() {
                Some(last) if more => last.cursor(),
                _ => to.max(EventCursor::after(newest)),
            };
            let follows = |event: &Arc<Event>| self.filters.iter().any(|it| it.wants(event));
            events.extend(chunk.into_iter().filter(follows));
        }
        Some((events, to, more))
    }

    /// Writes consecutive events up to `to`. If they are rejected, halves them until the rejected event
    /// is found.
    async fn deliver(&mut self, events: Vec<Arc<Event>>, to: EventCursor) -> Result<(), SinkError> {
        let mut parts = VecDeque::from([(events, to)]);
        while let Some((mut events, to)) = parts.pop_front() {
            let (event, reason) = match self.write(&events, to).await {
                Ok(()) => continue,
                Err(SinkError::Rejected { event, reason }) => (event, reason),
                Err(other) => return Err(other),
            };
            let known = event.and_then(|it| events.iter().position(|e| e.cursor() == it));
            match (known, events.len()) {
                // It rejected nothing but a checkpoint.
                (_, 0) => return Err(SinkError::misconfigured(reason)),
                (Some(at), _) => {
                    self.add_dead_letter(events.remove(at), &reason).await?;
                }
                (None, 1) => {
                    self.add_dead_letter(events.remove(0), &reason).await?;
                }
                (None, many) => {
                    let rest = events.split_off(many / 2);
                    let middle = events.last().map_or(to, |event| event.cursor());
                    parts.push_front((rest, to));
                    parts.push_front((events, middle));
                    continue;
                }
            }
            parts.push_front((events, to));
        }
        Ok(())
    }

    async fn write(&mut self, events: &[Arc<Event>], to: EventCursor) -> Result<(), SinkError> {
        let began = Instant::now();
        let from = self.checkpoint;
        let batch = Batch { from, to, events };
        self.destination.write(&batch).await?;
        let took = began.elapsed();
        self.checkpoint = batch.checkpoint();
        self.sink.wrote(events.len(), took, self.checkpoint);
        if !self.keeps_checkpoint {
            self.batch_max = self.next_batch_max(events.len(), took);
        }
        Ok(())
    }

    /// The size of the next batch. Leadership is confirmed, and a checkpoint in the cluster saved, only
    /// between batches: slow batches must be small.
    fn next_batch_max(&self, written: usize, took: Duration) -> usize {
        if took > SAVE_EVERY {
            return (written / 2).max(1);
        }
        if written == self.batch_max && took < SAVE_EVERY / 2 {
            return (self.batch_max * 2).min(self.sink.config.batch_events_max);
        }
        self.batch_max
    }

    /// Saves the checkpoint of a destination that stores none in the cluster, unless that was done less
    /// than `interval` ago.
    pub(super) async fn save_checkpoint(&mut self, interval: Duration) -> Result<(), SinkError> {
        let (saved, at) = self.saved;
        if self.keeps_checkpoint || saved == self.checkpoint || at.elapsed() < interval {
            return Ok(());
        }
        self.advance(self.checkpoint).await?;
        self.saved = (self.checkpoint, Instant::now());
        Ok(())
    }

    /// Stores an event or a state that the destination rejected permanently.
    pub(super) async fn add_dead_letter(
        &mut self,
        event: Arc<Event>,
        reason: &str,
    ) -> Result<(), SinkError> {
        self.change(SinkChange::Bury {
            term: self.claim.term,
            event: event.clone(),
            reason: DeadLetter::fit(reason).to_owned(),
        })
        .await?;
        self.sink.count_error("rejected");
        tracing::warn!(
            sink = self.sink.name(),
            revision = event.revision.0,
            position = event.position,
            machine = %event.machine,
            instance = event.name.as_ref().map(tracing::field::display),
            kind = event.kind.name(),
            reason,
            "the destination rejected an event or a state; it is now a dead letter"
        );
        Ok(())
    }

    /// Writes the dead letters again that an operator wants replayed.
    async fn replay_dead_letters(&mut self) -> Result<(), SinkError> {
        let requested = |record: &SinkRecord| {
            let letter = record.letters().find(|letter| letter.replay_wanted)?;
            Some(letter.event.clone())
        };
        while let Some(event) = self.record(requested) {
            self.confirm_leadership().await?;
            let id = event.instance();
            let now = id.map(|id| self.service.peek(|state| Change::now(state, id)));
            let refused = match self.destination.replay(&event, now).await {
                Ok(()) => None,
                Err(SinkError::Rejected { reason, .. }) => {
                    Some(DeadLetter::fit(&reason).to_owned())
                }
                Err(other) => return Err(other),
            };
            self.change(SinkChange::Settle {
                term: self.claim.term,
                cursor: event.cursor(),
                refused,
            })
            .await?;
        }
        Ok(())
    }
}
