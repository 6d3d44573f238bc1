//! What the cluster's replicated state holds about a sink: the checkpoint of a destination that stores
//! none, the dead letters, and what operators have requested. Every change goes through the log.

use std::time::Duration;

use lockstep_machine::{
    Command, Outcome, Rejection, SinkChange, SinkCommand, SinkName, SinkRecord,
};

use super::session::Session;
use super::{Checkpoint, SinkError};
use crate::service::{Service, ServiceError};

const TIMEOUT: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Reads the sink's record, if it has one.
    pub(super) fn record<T>(&self, read: impl FnOnce(&SinkRecord) -> Option<T>) -> Option<T> {
        self.service
            .peek(|state| read(state.sink(self.sink.name())?))
    }

    /// Stores the checkpoint of a destination that stores none.
    pub(super) async fn advance(&mut self, checkpoint: Checkpoint) -> Result<(), SinkError> {
        let term = self.claim.term;
        self.change(SinkChange::Advance { term, checkpoint }).await
    }

    /// Changes the record as the leader of a term.
    pub(super) async fn change(&mut self, change: SinkChange) -> Result<(), SinkError> {
        let sink = self.sink.config.name.clone();
        match execute(self.service, sink, change, TIMEOUT).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Rejection::SinkFenced { term, .. })) => Err(SinkError::Fenced { term }),
            Ok(Err(rejection @ Rejection::QuotaExceeded { .. })) => {
                Err(SinkError::DeadLettersFull(rejection.to_string()))
            }
            Ok(Err(rejection)) => Err(SinkError::Cluster(rejection.to_string())),
            Err(error) => Err(SinkError::Cluster(error.to_string())),
        }
    }
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
