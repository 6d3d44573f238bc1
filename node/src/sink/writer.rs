//! What sessions and backfills share: an open destination, and the right to write to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::{Event, State};

use super::ledger::Ledger;
use super::tracker::StatusTracker;
use super::{Claim, Destination, SessionError, SinkError, StoredCheckpoint};
use crate::config;
use crate::service::Service;

/// Limit for confirming that this node leads.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a confirmation is valid: the longest that a deposed leader goes on writing where nothing
/// else fences it.
const CONFIRM_EVERY: Duration = Duration::from_millis(500);

/// An open destination, written to while this node leads.
pub(super) struct Writer<'a> {
    pub(super) destination: &'a mut dyn Destination,
    pub(super) config: &'a config::Sink,
    pub(super) service: &'a Arc<Service>,
    pub(super) ledger: &'a Ledger,
    pub(super) tracker: &'a StatusTracker,
    claim: &'a Claim,
    confirmed: Option<Instant>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        destination: &'a mut dyn Destination,
        config: &'a config::Sink,
        service: &'a Arc<Service>,
        ledger: &'a Ledger,
        tracker: &'a StatusTracker,
        claim: &'a Claim,
    ) -> Self {
        Self {
            destination,
            config,
            service,
            ledger,
            tracker,
            claim,
            confirmed: None,
        }
    }

    /// Opens the destination, again after an error. What it reports about its checkpoint.
    pub(super) async fn open(&mut self) -> Result<StoredCheckpoint, SessionError> {
        self.confirm_leadership().await?;
        Ok(self.destination.open(self.claim).await?)
    }

    /// Confirms that this node still leads, unless that was confirmed a moment ago.
    pub(super) async fn confirm_leadership(&mut self) -> Result<(), SessionError> {
        if (self.confirmed).is_some_and(|at| at.elapsed() < CONFIRM_EVERY) {
            return Ok(());
        }
        // Taken before the call: the answer was true at some time after it.
        let began = Instant::now();
        let confirmed = self.service.confirm(CONFIRM_TIMEOUT).await;
        confirmed.map_err(|e| SessionError::Cluster(e.to_string()))?;
        self.confirmed = Some(began);
        Ok(())
    }

    /// A copy of the cluster's state, which shares its structure: O(1).
    pub(super) fn state(&self) -> State {
        self.service.peek(State::clone)
    }

    /// Stores an event or a state that the destination rejected permanently.
    pub(super) async fn add_dead_letter(
        &mut self,
        event: Arc<Event>,
        reason: String,
    ) -> Result<(), SessionError> {
        self.ledger.bury(event.clone(), reason.clone()).await?;
        self.tracker.rejected();
        tracing::warn!(
            sink = self.tracker.name(),
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
    pub(super) async fn replay_dead_letters(&mut self) -> Result<(), SessionError> {
        while let Some(event) = self.ledger.replay_requested() {
            self.confirm_leadership().await?;
            let (current, revision) = self.service.peek(|state| {
                let id = event.instance();
                let current = id.and_then(|id| state.instance(&id).cloned());
                (current, state.revision())
            });
            let replayed = self.destination.replay(&event, current.as_ref(), revision);
            let rejected = match replayed.await {
                Ok(()) => None,
                Err(SinkError::Rejected { reason, .. }) => Some(reason),
                Err(other) => return Err(other.into()),
            };
            self.ledger.settle(event.cursor(), rejected).await?;
        }
        Ok(())
    }
}
