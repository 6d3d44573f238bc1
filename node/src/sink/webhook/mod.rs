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

use async_trait::async_trait;
use lockstep_machine::{Event, EventKind};
use parking_lot::Mutex;

use super::{
    Backfill, Batch, Change, CheckSteps, Claim, Current, Destination, SinkError, StoredCheckpoint,
};
use crate::config::{self, WebhookSink};
use answer::DeliveryError;
use delivery_log::DeliveryLog;
use endpoint::Endpoint;
use lanes::Lanes;
use message::{Item, Message};

/// An HTTP endpoint that receives the events.
pub(crate) struct Webhook {
    sink: config::Sink,
    webhook: WebhookSink,
    claim: Option<Claim>,
    endpoint: Option<Endpoint>,
    log: Mutex<DeliveryLog>,
}

impl Webhook {
    /// As configured. Nothing is read or sent yet.
    pub(crate) fn new(config: &config::Sink, webhook: &WebhookSink) -> Self {
        Self {
            sink: config.clone(),
            webhook: webhook.clone(),
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

    async fn deliver(&self, items: Vec<Item<'_>>) -> Result<(), SinkError> {
        let (endpoint, cluster) = self.opened()?;
        let lanes = Lanes {
            endpoint,
            cluster,
            log: &self.log,
            concurrency_max: self.webhook.concurrency_max.max(1),
            attempts_max: self.webhook.attempts_max,
        };
        lanes.run(items).await
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
        let endpoint = Endpoint::open(&self.sink, &self.webhook, Some(claim.term)).await?;
        self.endpoint = Some(endpoint);
        Ok(StoredCheckpoint::Unsupported)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.log.get_mut().start_batch(batch.from.cursor);
        self.deliver(batch.events.iter().map(|it| Item::Event(it)).collect())
            .await
    }

    async fn backfill_page(
        &mut self,
        backfill: &Backfill,
        page: &[Current],
    ) -> Result<(), SinkError> {
        self.log.get_mut().start_backfill(backfill.revision);
        let items: Vec<_> = page.iter().map(Item::State).collect();
        let keys: Vec<_> = items.iter().map(Item::key).collect();
        self.deliver(items).await?;
        self.log.get_mut().forget(&keys);
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
        match endpoint.send(message).await {
            Ok(_) => Ok(()),
            // Also if the receiver failed on it: the events after it must not wait for it again.
            Err(DeliveryError {
                error,
                server_error,
            }) if server_error || matches!(error, SinkError::Rejected { .. }) => {
                Err(SinkError::rejected(Some(event.cursor()), error.to_string()))
            }
            Err(unavailable) => Err(unavailable.error),
        }
    }

    async fn check(&mut self, steps: &mut CheckSteps) -> Option<()> {
        check::check(&self.sink, &self.webhook, steps).await
    }
}
