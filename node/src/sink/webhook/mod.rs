//! Webhooks: one signed request per event, after the convention of Standard Webhooks
//! (<https://www.standardwebhooks.com>).
//!
//! - A message's id is the event's place in the cluster: the same at every try and from every leader,
//!   so that a receiver knows what it has seen. The term in the header lets it refuse a leader of
//!   yesterday.
//! - The events of one instance go out strictly one after another; those of several at once.
//! - A receiver keeps no place: the cluster does. What was accepted of a batch is remembered here until
//!   the place moves on, so that a batch that failed halfway is not told twice.

mod address;
mod answer;
mod check;
mod endpoint;
mod lanes;
mod memory;
mod message;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use lockstep_machine::{Event, EventKind, GlobalRevision, Instance, InstanceId};

use super::{Batch, CheckStep, Claim, Place, Seed, Sink, SinkError};
use crate::config::{self, WebhookSink};
use answer::Failure;
use endpoint::Endpoint;
use lanes::Lanes;
use memory::Memory;
use message::{Item, Message};

/// An HTTP endpoint that is told of each event.
pub(crate) struct Webhook {
    sink: config::Sink,
    webhook: WebhookSink,
    claim: Option<Claim>,
    endpoint: Option<Endpoint>,
    memory: Mutex<Memory>,
}

impl Webhook {
    /// The endpoint that is configured. Nothing is read or called yet.
    pub(crate) fn new(config: &config::Sink, webhook: &WebhookSink) -> Self {
        Self {
            sink: config.clone(),
            webhook: webhook.clone(),
            claim: None,
            endpoint: None,
            memory: Mutex::default(),
        }
    }

    fn memory(&mut self) -> &mut Memory {
        self.memory
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint, and the cluster that its messages are of.
    fn open_endpoint(&self) -> Result<(&Endpoint, &str), SinkError> {
        match (&self.endpoint, &self.claim) {
            (Some(endpoint), Some(claim)) => Ok((endpoint, &claim.cluster)),
            _ => Err(SinkError::Unavailable {
                reason: "it is not open".to_owned(),
                retry_after: None,
            }),
        }
    }

    async fn deliver(&self, items: Vec<Item<'_>>) -> Result<(), SinkError> {
        let (endpoint, cluster) = self.open_endpoint()?;
        let lanes = Lanes {
            endpoint,
            cluster,
            memory: &self.memory,
            concurrency_max: self.webhook.concurrency_max.max(1),
            attempts_max: self.webhook.attempts_max,
        };
        lanes.run(items).await
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn open(&mut self, claim: &Claim) -> Result<Place, SinkError> {
        if self.claim.as_ref() != Some(claim) {
            // Other leaders may have been at work meanwhile: what was known may be of another batch.
            *self.memory() = Memory::default();
            self.claim = Some(claim.clone());
        }
        self.endpoint = None;
        let endpoint = Endpoint::open(&self.sink, &self.webhook, Some(claim.term)).await?;
        self.endpoint = Some(endpoint);
        Ok(Place::NotKept)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.memory().go_on_behind(batch.from.cursor);
        self.deliver(batch.events.iter().map(|it| Item::Event(it)).collect())
            .await
    }

    async fn seed(
        &mut self,
        seed: &Seed,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        self.memory().seed_at(seed.revision);
        let items: Vec<_> = page
            .iter()
            .map(|(id, instance)| Item::State { seed, id, instance })
            .collect();
        let keys: Vec<_> = items.iter().map(Item::key).collect();
        self.deliver(items).await?;
        self.memory().forget(&keys);
        Ok(())
    }

    async fn seeded(&mut self, _: &Seed) -> Result<(), SinkError> {
        // A receiver cannot be told what to forget, and the cluster keeps the place.
        Ok(())
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        _: GlobalRevision,
    ) -> Result<(), SinkError> {
        let (endpoint, cluster) = self.open_endpoint()?;
        let message = match event.kind {
            EventKind::Seeded => Message::of_seeded(event, current, cluster),
            _ => Some(Message::of_event(event, cluster)),
        };
        let Some(message) = message else {
            return Ok(());
        };
        let sent = endpoint.send(message).await;
        let refused = |reason| SinkError::Refused {
            event: Some(event.cursor()),
            reason,
        };
        sent.map(drop).map_err(|failure| match failure {
            Failure::Refused(reason) => refused(reason),
            // It stays put aside: whatever is behind it must not wait for it once more.
            Failure::Failed(error) => refused(error.to_string()),
            Failure::Down(error) => error,
        })
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        check::check(&self.sink, &self.webhook).await
    }
}
