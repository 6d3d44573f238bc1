//! What the cluster's replicated state holds about a sink: the checkpoint of a destination that stores
//! none, the dead letters, and what operators have requested. Every change goes through the log.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{
    Command, DeadLetter, Event, EventCursor, Outcome, Rejection, SinkChange, SinkCommand, SinkName,
    SinkRecord,
};

use super::{Checkpoint, SessionError, SinkError};
use crate::service::{Service, ServiceError};

/// Limit for one command.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One sink's record, as the leader of a term writes it.
pub(super) struct Ledger<'a> {
    pub(super) service: &'a Service,
    pub(super) sink: &'a SinkName,
    pub(super) term: u64,
}

impl Ledger<'_> {
    fn record<T>(&self, read: impl FnOnce(&SinkRecord) -> Option<T>) -> Option<T> {
        self.service
            .peek(|state| read(state.sink(self.sink.as_str())?))
    }

    /// Fences the leaders of earlier terms off this record.
    pub(super) async fn claim(&self) -> Result<(), SessionError> {
        self.change(SinkChange::Claim { term: self.term }).await
    }

    /// The checkpoint, if one was ever stored.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        self.record(|record| record.checkpoint)
    }

    pub(super) async fn advance(&self, checkpoint: Checkpoint) -> Result<(), SessionError> {
        let term = self.term;
        self.change(SinkChange::Advance { term, checkpoint }).await
    }

    /// The number of the last backfill that an operator requested, if it has not run yet.
    pub(super) fn backfill_requested(&self) -> Option<u64> {
        self.record(|record| record.seed_wanted().then_some(record.seeds_asked))
    }

    /// Starts a backfill. It writes the states that were rejected in earlier backfills again, so their dead
    /// letters are removed.
    pub(super) async fn backfill_started(&self) -> Result<(), SessionError> {
        match self.record(|record| record.letters().find(|letter| letter.is_state()).map(drop)) {
            Some(()) => self.change(SinkChange::Seeding { term: self.term }).await,
            None => Ok(()),
        }
    }

    /// The backfill with the number `asked` has finished.
    pub(super) async fn backfill_finished(&self, asked: u64) -> Result<(), SessionError> {
        let term = self.term;
        self.change(SinkChange::Seeded { term, asked }).await
    }

    pub(super) async fn bury(&self, event: Arc<Event>, reason: &str) -> Result<(), SessionError> {
        let term = self.term;
        let reason = fit(reason);
        self.change(SinkChange::Bury {
            term,
            event,
            reason,
        })
        .await
    }

    /// The event of the oldest dead letter that an operator wants replayed.
    pub(super) fn replay_requested(&self) -> Option<Arc<Event>> {
        self.record(|record| {
            let found = record.letters().find(|letter| letter.replay_wanted)?;
            Some(found.event.clone())
        })
    }

    /// A dead letter was written, or rejected again.
    pub(super) async fn settle(
        &self,
        cursor: EventCursor,
        rejected: Option<String>,
    ) -> Result<(), SessionError> {
        let term = self.term;
        let refused = rejected.as_deref().map(fit);
        self.change(SinkChange::Settle {
            term,
            cursor,
            refused,
        })
        .await
    }

    async fn change(&self, change: SinkChange) -> Result<(), SessionError> {
        match execute(self.service, self.sink.clone(), change, TIMEOUT).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Rejection::SinkFenced { term, .. })) => Err(SinkError::Fenced { term }.into()),
            Ok(Err(rejection @ Rejection::QuotaExceeded { .. })) => {
                Err(SessionError::DeadLettersFull(rejection.to_string()))
            }
            Ok(Err(rejection)) => Err(SessionError::Cluster(rejection.to_string())),
            Err(error) => Err(SessionError::Cluster(error.to_string())),
        }
    }
}

/// A reason cut to what a dead letter stores, so that the rest does not go through the log.
fn fit(reason: &str) -> String {
    DeadLetter::fit(reason).to_owned()
}

/// Changes a sink's record through the log. How many dead letters that affected.
pub(super) async fn execute(
    service: &Service,
    sink: SinkName,
    change: SinkChange,
    timeout: Duration,
) -> Result<Result<u64, Rejection>, ServiceError> {
    let command = Command::Sink(Box::new(SinkCommand { sink, change }));
    let reply = service.execute(command, None, timeout).await?;
    Ok(match reply.outcome {
        Outcome::SinkChanged { affected } => Ok(affected),
        Outcome::Rejected(rejection) => Err(rejection),
        // A command has its own outcome or a rejection.
        _ => Ok(0),
    })
}
