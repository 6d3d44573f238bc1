//! Writes all current states to a destination, from one consistent copy of the cluster's state.
//!
//! The copy is taken at one revision and written page by page while the cluster goes on. A state that
//! the destination rejects becomes a dead letter. When all pages are written, the destination removes
//! what was not among them and stores a new checkpoint: delivery resumes from the oldest event that is
//! still kept, so that the history has as small a gap as possible.

use std::sync::Arc;

use lockstep_machine::{
    Event, EventCursor, EventFilter, GlobalRevision, ListQuery, SinkChange, SinkRecord, State,
};
use lockstep_raft::Backoff;

use super::runner::{pause, pauses};
use super::session::Session;
use super::{Backfill, BackfillReason, Current, Phase, SinkError};

/// At most one in this many of the kept events is left out of a history that has a gap anyway.
const LEFT_OUT_MAX: u64 = 4;

impl Session<'_> {
    /// Writes all current states, and continues after them.
    pub(super) async fn backfill(
        &mut self,
        reason: BackfillReason,
        previous: Option<EventCursor>,
    ) -> Result<(), SinkError> {
        self.confirm_leadership().await?;
        let state = self.service.peek(State::clone);
        let revision = state.revision();
        let backfill = Backfill {
            revision,
            at: state.now(),
            previous,
            resume_at: EventCursor::after(revision),
            reason,
        };
        log_start(self.sink.name(), &backfill);
        self.sink.backfill_started(reason);
        // It writes the states that were rejected in earlier backfills again.
        let has_states =
            |record: &SinkRecord| Some(record.letters().any(|letter| letter.is_state()));
        if self.record(has_states) == Some(true) {
            let term = self.claim.term;
            self.change(SinkChange::Seeding { term }).await?;
        }
        let mut run = BackfillRun {
            backoff: pauses(&self.sink.config),
            session: self,
            backfill,
            state,
            done: 0,
        };
        run.write_all().await?;
        run.finish().await?;
        let checkpoint = run.backfill.checkpoint();
        self.start_at(checkpoint);
        if !self.keeps_checkpoint {
            self.advance(checkpoint).await?;
        }
        Ok(())
    }
}

struct BackfillRun<'s, 'a> {
    session: &'s mut Session<'a>,
    backfill: Backfill,
    state: State,
    backoff: Backoff,
    /// Instances written or rejected.
    done: u64,
}

impl BackfillRun<'_, '_> {
    async fn write_all(&mut self) -> Result<(), SinkError> {
        let filters = self.session.filters.clone();
        let count = |filter: &EventFilter| match &filter.machine {
            None => self.state.instance_count(),
            Some(machine) => (self.state.totals(machine)).map_or(0, |totals| totals.instances),
        };
        let total = filters.iter().map(count).sum();
        let page_max = self.session.sink.config.batch_events_max;
        let revision = self.backfill.revision;
        for filter in filters {
            let mut query = ListQuery {
                machine: filter.machine,
                prefix: filter.prefix.unwrap_or_default(),
                limit: page_max,
                scan_max: page_max,
                ..ListQuery::default()
            };
            loop {
                self.session.sink.backfilling(self.done, total);
                let page = self.state.list(&query);
                let states = page.instances.iter();
                let states: Vec<Current> = states
                    .map(|(id, instance)| Current::of(id, instance, revision))
                    .collect();
                self.write(&states).await?;
                let Some(next) = page.next else { break };
                query.after = Some(next);
            }
        }
        Ok(())
    }

    /// Writes a page. If it is rejected, halves it until the rejected states are found.
    async fn write(&mut self, page: &[Current]) -> Result<(), SinkError> {
        let mut parts = vec![page];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            self.session.confirm_leadership().await?;
            let destination = &mut self.session.destination;
            match (destination.backfill_page(&self.backfill, part).await, part) {
                (Ok(()), _) => {
                    self.backoff.reset();
                    self.done += part.len() as u64;
                }
                (Err(SinkError::Rejected { reason, .. }), [rejected]) => {
                    let number = u32::try_from(self.done).unwrap_or(u32::MAX);
                    let at = (self.backfill.revision, self.backfill.at);
                    if let Some(instance) = self.state.instance(&rejected.id) {
                        let event = Arc::new(Event::seeded(at, number, &rejected.id, instance));
                        self.session.add_dead_letter(event, &reason).await?;
                    }
                    self.done += 1;
                }
                (Err(SinkError::Rejected { .. }), _) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                (Err(outage), _) => {
                    self.outlast(outage).await?;
                    parts.push(part);
                }
            }
        }
        Ok(())
    }

    /// Waits for the destination to return after an outage, so that the backfill continues where it was
    /// instead of starting again.
    ///
    /// Only if the cluster stores the checkpoint: a destination that stores its own may have been
    /// restored meanwhile. And only while delivery could still resume after this backfill.
    async fn outlast(&mut self, mut outage: SinkError) -> Result<(), SinkError> {
        loop {
            let SinkError::Unavailable { retry_after, .. } = outage else {
                return Err(outage);
            };
            let resume_at = self.backfill.resume_at;
            let resumable = |state: &State| state.events_after(resume_at, 1).is_ok();
            if self.session.keeps_checkpoint || !self.session.service.peek(resumable) {
                return Err(outage);
            }
            self.session.sink.failed(Phase::Retrying, &outage);
            let max = self.session.sink.config.retry_max;
            tokio::time::sleep(pause(&mut self.backoff, max, retry_after)).await;
            match self.session.open_destination().await {
                Ok(_) => return Ok(()),
                Err(error) => outage = error,
            }
        }
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        // A destination without a history resumes after the backfill: it would otherwise receive past
        // events after the present states.
        if self.session.keeps_checkpoint {
            let now = self.session.service.peek(State::clone);
            self.backfill.resume_at = resume_at(&self.state, &now, &self.backfill);
        }
        self.session.confirm_leadership().await?;
        let destination = &mut self.session.destination;
        destination.finish_backfill(&self.backfill).await?;
        tracing::info!(
            sink = self.session.sink.name(),
            revision = self.backfill.revision.0,
            instances = self.done,
            "backfill finished"
        );
        Ok(())
    }
}

/// Where delivery resumes: where the history ended, if every event since is still kept, else at the
/// oldest kept event. If events were compacted during the backfill, more will be compacted before the
/// first is read, so twice as many are left out.
fn resume_at(before: &State, now: &State, backfill: &Backfill) -> EventCursor {
    let previous = backfill.previous.unwrap_or_default();
    if now.events_after(previous, 0).is_ok() {
        return previous;
    }
    let end = EventCursor::after(backfill.revision);
    let kept = now.events_behind(oldest(now));
    // More than are kept, if the oldest of them belong to a revision that is not kept as a whole.
    let still_kept = kept.saturating_sub(now.events_behind(end));
    let compacted = (before.events_behind(oldest(before))).saturating_sub(still_kept);
    let left_out = (2 * compacted).min(kept / LEFT_OUT_MAX);
    let left_out = usize::try_from(left_out).unwrap_or(usize::MAX);
    let skipped = now.events_after(oldest(now), left_out).unwrap_or_default();
    let last = skipped.last().map(|event| event.cursor());
    last.unwrap_or(oldest(now)).min(end)
}

/// The cursor after which every event is kept.
fn oldest(state: &State) -> EventCursor {
    match state.oldest_event().0.saturating_sub(1) {
        0 => EventCursor::default(),
        before => EventCursor::after(GlobalRevision(before)),
    }
}

fn log_start(sink: &str, backfill: &Backfill) {
    let revision = backfill.revision.0;
    match backfill.reason {
        BackfillReason::First => {
            tracing::info!(sink, revision, "backfill started: the destination is empty");
        }
        BackfillReason::Requested => {
            tracing::info!(sink, revision, "backfill started: requested by an operator");
        }
        BackfillReason::Compacted => tracing::warn!(
            sink,
            revision,
            checkpoint = backfill.previous.map(|it| it.revision.0),
            "backfill started: the events after the checkpoint were compacted, so the history will have a gap"
        ),
    }
}
