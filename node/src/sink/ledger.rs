//! What the cluster itself keeps about a sink: the place of a far side that keeps none, the events put
//! aside, and what operators wish for. All of it goes through the log.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{
    Command, DeadLetter, Event, EventCursor, Outcome, Rejection, SinkChange, SinkCheckpoint,
    SinkCommand, SinkName,
};

use super::{Checkpoint, Trouble};
use crate::service::{Service, ServiceError};

/// For one command.
const PATIENCE: Duration = Duration::from_secs(5);

/// One sink's record, as the leader of a term writes it.
pub(super) struct Ledger {
    service: Arc<Service>,
    sink: SinkName,
    term: u64,
}

impl Ledger {
    pub(super) fn new(service: Arc<Service>, sink: SinkName, term: u64) -> Self {
        Self {
            service,
            sink,
            term,
        }
    }

    /// From now on, leaders of earlier terms change nothing here.
    pub(super) async fn claim(&self) -> Result<(), Trouble> {
        let term = self.term;
        self.change(SinkChange::Claim { term }).await
    }

    /// Where the far side is, if it was ever said.
    pub(super) fn place(&self) -> Option<Checkpoint> {
        self.service.peek(|state| {
            let checkpoint = state.sink(self.sink.as_str())?.checkpoint?;
            Some(Checkpoint {
                cursor: checkpoint.cursor,
                seeded: checkpoint.seeded,
            })
        })
    }

    /// Keeps where the far side is.
    pub(super) async fn advance(&self, place: Checkpoint) -> Result<(), Trouble> {
        let checkpoint = SinkCheckpoint {
            cursor: place.cursor,
            seeded: place.seeded,
        };
        let term = self.term;
        self.change(SinkChange::Advance { term, checkpoint }).await
    }

    /// How often operators have wanted the current states written anew, if that is still to be done.
    pub(super) fn seed_wanted(&self) -> Option<u64> {
        self.service.peek(|state| {
            let record = state.sink(self.sink.as_str())?;
            record.seed_wanted().then_some(record.seeds_asked)
        })
    }

    /// They begin to be written: those that were refused the last time are tried again.
    pub(super) async fn seeding(&self) -> Result<(), Trouble> {
        let any = self.service.peek(|state| {
            let record = state.sink(self.sink.as_str());
            record.is_some_and(|record| record.letters().any(DeadLetter::is_state))
        });
        let term = self.term;
        match any {
            true => self.change(SinkChange::Seeding { term }).await,
            false => Ok(()),
        }
    }

    /// They are written, as it was `asked` for so often.
    pub(super) async fn seeded(&self, asked: u64) -> Result<(), Trouble> {
        let term = self.term;
        self.change(SinkChange::Seeded { term, asked }).await
    }

    /// Puts an event aside.
    pub(super) async fn bury(&self, event: Arc<Event>, reason: String) -> Result<(), Trouble> {
        let change = SinkChange::Bury {
            term: self.term,
            event,
            reason: fit(&reason),
        };
        self.change(change).await
    }

    /// The oldest event put aside that an operator wants written again.
    pub(super) fn replay_wanted(&self) -> Option<Arc<Event>> {
        self.service.peek(|state| {
            let record = state.sink(self.sink.as_str())?;
            let mut letters = record.letters();
            letters
                .find(|letter| letter.replay_wanted)
                .map(|letter| letter.event.clone())
        })
    }

    /// It was written, or refused again.
    pub(super) async fn settle(
        &self,
        cursor: EventCursor,
        refused: Option<String>,
    ) -> Result<(), Trouble> {
        let change = SinkChange::Settle {
            term: self.term,
            cursor,
            refused: refused.as_deref().map(fit),
        };
        self.change(change).await
    }

    async fn change(&self, change: SinkChange) -> Result<(), Trouble> {
        match execute(&self.service, self.sink.clone(), change, PATIENCE).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Rejection::SinkFenced { term, .. })) => {
                Err(super::SinkError::Fenced { term }.into())
            }
            Ok(Err(rejection @ Rejection::QuotaExceeded { .. })) => {
                Err(Trouble::Full(rejection.to_string()))
            }
            Ok(Err(rejection)) => Err(Trouble::Cluster(rejection.to_string())),
            Err(error) => Err(Trouble::Cluster(error.to_string())),
        }
    }
}

/// What is kept of a reason: a far side may say as much as it likes, and none of the rest is to go
/// through the log.
fn fit(reason: &str) -> String {
    DeadLetter::fit(reason).to_owned()
}

/// Changes a sink's record through the log: how many of the events put aside that concerned.
pub(super) async fn execute(
    service: &Service,
    sink: SinkName,
    change: SinkChange,
    patience: Duration,
) -> Result<Result<u64, Rejection>, ServiceError> {
    let command = Command::Sink(Box::new(SinkCommand { sink, change }));
    let reply = service.execute(command, None, patience).await?;
    Ok(match reply.outcome {
        Outcome::SinkChanged { affected } => Ok(affected),
        Outcome::Rejected(rejection) => Err(rejection),
        // A command has its own outcome or a rejection.
        _ => Ok(0),
    })
}
