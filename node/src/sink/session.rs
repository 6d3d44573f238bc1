//! A session: one open destination, and the events delivered to it in order.
//!
//! A session ends with the first error; the runner then pauses and opens another one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::{Event, EventCursor, EventFilter};
use tokio::sync::watch;

use super::writer::Writer;
use super::{
    BackfillReason, Batch, Checkpoint, Phase, SessionError, SinkError, StoredCheckpoint, backfill,
};
use crate::config::{self, Follow, Start};

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

/// Delivers events to an open destination.
pub(super) struct DeliverySession<'a> {
    writer: Writer<'a>,
    filters: Vec<EventFilter>,
    /// Whether the destination stores its checkpoint itself.
    keeps_checkpoint: bool,
    /// The destination's checkpoint.
    checkpoint: Checkpoint,
    /// How far events were read: at or after the checkpoint.
    read_to: EventCursor,
    /// The checkpoint that the cluster stores, and when it was stored.
    saved: (Checkpoint, Instant),
    advanced: Instant,
    /// When dead letters to replay were last looked for.
    replayed: Option<Instant>,
    /// Events in one batch at most.
    batch_max: usize,
    changes: watch::Receiver<u64>,
}

impl<'a> DeliverySession<'a> {
    /// Opens the destination and finds its checkpoint.
    pub(super) async fn open(mut writer: Writer<'a>) -> Result<Self, SessionError> {
        let changes = writer.service.changes();
        let stored = writer.open().await?;
        let mut session = Self {
            filters: writer.config.follows.iter().map(Follow::filter).collect(),
            keeps_checkpoint: stored != StoredCheckpoint::Unsupported,
            checkpoint: Checkpoint::default(),
            read_to: EventCursor::default(),
            saved: (Checkpoint::default(), Instant::now()),
            advanced: Instant::now(),
            replayed: None,
            batch_max: writer.config.batch_events_max,
            changes,
            writer,
        };
        match stored {
            StoredCheckpoint::At(checkpoint) => session.start_at(checkpoint),
            StoredCheckpoint::Empty => session.backfill(BackfillReason::First, None).await?,
            StoredCheckpoint::Unsupported => session.start_from_ledger().await?,
        }
        session.check_not_ahead()?;
        Ok(session)
    }

    fn start_at(&mut self, checkpoint: Checkpoint) {
        self.checkpoint = checkpoint;
        self.read_to = checkpoint.cursor;
        self.saved = (checkpoint, Instant::now());
        self.writer.tracker.checkpoint(checkpoint);
    }

    /// Starts at the checkpoint that the cluster stores for a destination that stores none.
    async fn start_from_ledger(&mut self) -> Result<(), SessionError> {
        self.writer.ledger.claim().await?;
        if let Some(checkpoint) = self.writer.ledger.checkpoint() {
            self.start_at(checkpoint);
            return Ok(());
        }
        let start = match &self.writer.config.kind {
            config::SinkKind::Webhook(webhook) => webhook.start,
            config::SinkKind::Postgres(_) | config::SinkKind::Mongo(_) => Start::Everything,
        };
        if start == Start::Everything {
            return self.backfill(BackfillReason::First, None).await;
        }
        let revision = self.writer.service.peek(|state| state.revision());
        let checkpoint = Checkpoint {
            cursor: EventCursor::after(revision),
            seeded: revision,
        };
        self.writer.ledger.advance(checkpoint).await?;
        self.start_at(checkpoint);
        Ok(())
    }

    /// A destination that is ahead of the cluster has followed another history.
    fn check_not_ahead(&self) -> Result<(), SessionError> {
        let reached = self.writer.service.peek(|state| state.revision());
        let stored = self.checkpoint.cursor.revision.max(self.checkpoint.seeded);
        if stored <= reached {
            return Ok(());
        }
        let reason = format!(
            "the destination is at revision {stored}, but the cluster only at {reached}: it followed another history of this cluster; configure an empty schema, database or collection"
        );
        Err(SinkError::misconfigured(reason).into())
    }

    /// Delivers events until something fails. Calls `delivered` after each step that went well.
    pub(super) async fn follow(
        &mut self,
        mut delivered: impl FnMut(),
    ) -> Result<Infallible, SessionError> {
        loop {
            // Marked as seen before the state is read: a change during that wakes the wait below.
            self.changes.borrow_and_update();
            // Dead letters first: a backfill may need the room that they take.
            let requested = self.writer.ledger.backfill_requested();
            if requested.is_some() || self.replayed.is_none_or(|at| at.elapsed() >= REPLAY_EVERY) {
                self.writer.replay_dead_letters().await?;
                self.replayed = Some(Instant::now());
            }
            if let Some(requested) = requested {
                let previous = Some(self.checkpoint.cursor);
                self.backfill(BackfillReason::Requested, previous).await?;
                self.writer.ledger.backfill_finished(requested).await?;
            }
            let more = self.step().await?;
            delivered();
            self.writer.tracker.doing(Phase::Following);
            if !more {
                self.save_checkpoint(SAVE_EVERY).await?;
                let changed = self.changes.changed();
                drop(tokio::time::timeout(POLL_EVERY, changed).await);
            }
        }
    }

    /// Delivers the next events, if any. Whether there may be more.
    async fn step(&mut self) -> Result<bool, SessionError> {
        let Some(next) = self.read_events() else {
            let previous = Some(self.checkpoint.cursor);
            self.backfill(BackfillReason::Compacted, previous).await?;
            return Ok(true);
        };
        let overdue = self.advanced.elapsed() >= ADVANCE_EVERY;
        if !next.events.is_empty() || (overdue && next.to > self.checkpoint.cursor) {
            self.writer.confirm_leadership().await?;
            self.deliver(next.events, next.to).await?;
            self.advanced = Instant::now();
            self.save_checkpoint(SAVE_EVERY).await?;
        }
        self.read_to = next.to;
        self.writer.tracker.checkpoint(Checkpoint {
            cursor: self.read_to,
            ..self.checkpoint
        });
        // A step that delivered nothing has awaited nothing.
        tokio::task::yield_now().await;
        Ok(next.more)
    }

    /// The events of the next batch; `None` if some of them were compacted.
    fn read_events(&self) -> Option<Next> {
        let mut next = Next {
            events: vec![],
            to: self.read_to,
            more: true,
        };
        let mut scanned = 0;
        while next.more && next.events.len() < self.batch_max && scanned < SCAN_EVENTS_MAX {
            let room = self.batch_max - next.events.len();
            let (chunk, newest) = self.writer.service.peek(|state| {
                let chunk = state.events_after(next.to, room).ok()?;
                Some((chunk, state.revision()))
            })?;
            scanned += chunk.len();
            next.more = chunk.len() == room;
            next.to = match chunk.last() {
                Some(last) if next.more => last.cursor(),
                _ => next.to.max(EventCursor::after(newest)),
            };
            let followed = chunk.into_iter().filter(|event| self.follows(event));
            next.events.extend(followed);
        }
        Some(next)
    }

    fn follows(&self, event: &Event) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.wants(event))
    }

    /// Writes consecutive events up to `to`. If they are rejected, halves them until the rejected event
    /// is found.
    async fn deliver(
        &mut self,
        events: Vec<Arc<Event>>,
        to: EventCursor,
    ) -> Result<(), SessionError> {
        let mut parts = VecDeque::from([(events, to)]);
        while let Some((mut events, to)) = parts.pop_front() {
            let (event, reason) = match self.write(&events, to).await {
                Ok(()) => continue,
                Err(SinkError::Rejected { event, reason }) => (event, reason),
                Err(other) => return Err(other.into()),
            };
            let known = event.and_then(|it| events.iter().position(|e| e.cursor() == it));
            match (known, events.len()) {
                // It rejected nothing but a checkpoint.
                (_, 0) => return Err(SinkError::misconfigured(reason).into()),
                (Some(at), _) => {
                    self.writer
                        .add_dead_letter(events.remove(at), reason)
                        .await?
                }
                (None, 1) => {
                    self.writer
                        .add_dead_letter(events.remove(0), reason)
                        .await?
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
        self.writer.destination.write(&batch).await?;
        let took = began.elapsed();
        self.checkpoint.cursor = to;
        self.writer
            .tracker
            .wrote(events.len(), took, self.checkpoint);
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
            return (self.batch_max * 2).min(self.writer.config.batch_events_max);
        }
        self.batch_max
    }

    /// Saves the checkpoint of a destination that stores none in the cluster, unless that was done less
    /// than `interval` ago.
    pub(super) async fn save_checkpoint(&mut self, interval: Duration) -> Result<(), SessionError> {
        let (saved, at) = self.saved;
        if self.keeps_checkpoint || saved == self.checkpoint || at.elapsed() < interval {
            return Ok(());
        }
        self.writer.ledger.advance(self.checkpoint).await?;
        self.saved = (self.checkpoint, Instant::now());
        Ok(())
    }

    /// Writes all current states, and continues after them.
    async fn backfill(
        &mut self,
        reason: BackfillReason,
        previous: Option<EventCursor>,
    ) -> Result<(), SessionError> {
        let run = backfill::run(&mut self.writer, self.keeps_checkpoint, reason, previous);
        let checkpoint = run.await?;
        self.start_at(checkpoint);
        if !self.keeps_checkpoint {
            self.writer.ledger.advance(checkpoint).await?;
        }
        Ok(())
    }
}

/// The next batch.
struct Next {
    /// The events that the sink follows.
    events: Vec<Arc<Event>>,
    /// Events were read up to here.
    to: EventCursor,
    /// Whether there may be more.
    more: bool,
}
