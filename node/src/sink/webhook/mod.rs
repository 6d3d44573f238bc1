//! Webhooks: one signed HTTP request per event, as specified by Standard Webhooks
//! (<https://www.standardwebhooks.com>).
//!
//! - A message's id is the event's cursor: the same on every attempt and from every leader, so that a
//!   receiver recognizes repetitions. The term in the header lets it reject a deposed leader.
//! - The events of one instance are sent strictly one after another; those of several concurrently.
//! - A receiver stores no checkpoint: the cluster does. [`DeliveryLog`] remembers which messages of a batch
//!   were accepted until the checkpoint advances, so that a batch that failed halfway is not repeated.

mod address;
mod answer;
mod check;
mod delivery_log;
mod endpoint;
mod lanes;
mod message;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use lockstep_machine::{Event, EventKind};
use parking_lot::Mutex;

use super::{
    Backfill, Batch, Change, CheckSteps, Claim, Current, Destination, SinkError, StoredCheckpoint,
};
use crate::config;
use delivery_log::DeliveryLog;
use endpoint::Endpoint;
use lanes::Lanes;
use message::Message;

/// An HTTP endpoint that receives the events.
pub(crate) struct Webhook {
    sink: config::Sink,
    claim: Option<Claim>,
    endpoint: Option<Endpoint>,
    log: Mutex<DeliveryLog>,
}

impl Webhook {
    pub(crate) fn new(sink: config::Sink) -> Self {
        Self {
            sink,
            claim: None,
            endpoint: None,
            log: Mutex::default(),
        }
    }

    /// The endpoint, and the id of the cluster.
    fn opened(&self) -> Result<(&Endpoint, &str), SinkError> {
        match (&self.endpoint, &self.claim) {
            (Some(endpoint), Some(claim)) => Ok((endpoint, &claim.cluster)),
            (None, _) | (_, None) => Err(SinkError::unavailable("not connected")),
        }
    }

    async fn deliver(&self, endpoint: &Endpoint, messages: Vec<Message>) -> Result<(), SinkError> {
        let lanes = Lanes {
            endpoint,
            log: &self.log,
            concurrency_max: self.sink.concurrency_max.max(1),
            attempts_max: self.sink.attempts_max,
            streak: AtomicUsize::new(0),
        };
        lanes.run(messages).await
    }
}

#[async_trait]
impl Destination for Webhook {
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError> {
        if self.claim.as_ref() != Some(claim) {
            // Another leader may have delivered meanwhile: the log may be about another batch.
            *self.log.get_mut() = DeliveryLog::default();
            self.claim = Some(claim.clone());
        }
        self.endpoint = None;
        let endpoint = Endpoint::open(&self.sink, Some(claim.term)).await?;
        self.endpoint = Some(endpoint);
        Ok(StoredCheckpoint::Unsupported)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.log.get_mut().start_batch(batch.from.cursor);
        let (endpoint, cluster) = self.opened()?;
        let messages = batch.events.iter();
        let messages = messages.map(|event| Message::of_event(event, cluster));
        self.deliver(endpoint, messages.collect()).await
    }

    async fn backfill_page(
        &mut self,
        backfill: &Backfill,
        page: &[Current],
    ) -> Result<(), SinkError> {
        self.log.get_mut().start_backfill(backfill.revision);
        let (endpoint, cluster) = self.opened()?;
        let messages = page.iter().map(|state| Message::of_state(state, cluster));
        let messages: Vec<_> = messages.collect();
        let keys: Vec<_> = messages.iter().map(|it| it.key.clone()).collect();
        self.deliver(endpoint, messages).await?;
        let states = &mut self.log.get_mut().states;
        keys.iter().for_each(|key| drop(states.remove(key)));
        Ok(())
    }

    async fn finish_backfill(&mut self, _: &Backfill) -> Result<(), SinkError> {
        // A receiver decides itself what to remove, and the cluster stores the checkpoint.
        Ok(())
    }

    async fn replay(&mut self, event: &Event, now: Option<Change>) -> Result<(), SinkError> {
        let (endpoint, cluster) = self.opened()?;
        let message = match now {
            _ if event.kind != EventKind::Seeded => Some(Message::of_event(event, cluster)),
            Some(Change::Is(now)) => Message::of_rejected_state(event, &now, cluster),
            Some(Change::Deleted { .. }) | None => None,
        };
        let Some(message) = message else {
            return Ok(());
        };
        endpoint.deliver(&message).await.map_err(|error| {
            // Also if the receiver failed on it: the events after it must not wait for it again.
            match error.is_server_error() || matches!(error, SinkError::Rejected { .. }) {
                true => SinkError::rejected(Some(event.cursor()), error.to_string()),
                false => error,
            }
        })
    }

    async fn check(&mut self, steps: &mut CheckSteps) -> Option<()> {
        check::check(&self.sink, steps).await
    }
}
