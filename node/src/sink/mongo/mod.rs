//! MongoDB as a far side.
//!
//! Every event is a document of the history, under its place in the stream; every instance is a
//! document of the instances, which gives way only to a newer revision of the cluster. How far all
//! that is stands in a document of its own ([`hold`]), moved once the data is there: a crash in
//! between has the same data written again, which changes nothing.
//!
//! Nothing here needs a transaction over several documents, which a standalone server does not have.
//! What it costs: for a moment, readers may see the history ahead of the instances.
//!
//! # Instances that are deleted
//!
//! A late write of a leader that was replaced must not bring an instance back, and without
//! transactions only the instance's own document can refuse it. So the document stays, as a
//! tombstone: nothing but `_id`, `revision` and `deleted_at`, until the server itself forgets it after
//! a day. It has no machine and no state, so that a query that names either never sees one; a query
//! over everything asks for `deleted_at: null`.
//!
//! What remains: a leader that is stopped right between its look at the claim and its write, for so
//! long that the next one has seeded meanwhile, may bring back an instance that the seed never met.
//! The next seed forgets it.

mod check;
mod documents;
mod fault;
mod hold;
mod link;
mod options;
mod seed;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId};

use super::{Batch, Change, CheckStep, Checkpoint, Claim, Current, Place, Seed, Sink, SinkError};
use documents::Statement;
use hold::Hold;
use link::Link;
use options::Settings;

/// A MongoDB database that follows the cluster.
pub(crate) struct Mongo {
    settings: Settings,
    open: Option<Open>,
}

/// Connected, and claimed.
struct Open {
    link: Link,
    hold: Hold,
}

impl Mongo {
    /// As configured. It connects when it is opened.
    pub(crate) fn new(config: &crate::config::Sink, mongo: &crate::config::MongoSink) -> Self {
        Self {
            settings: Settings::new(config, mongo),
            open: None,
        }
    }

    fn opened(&mut self) -> Result<&mut Open, SinkError> {
        self.open
            .as_mut()
            .ok_or_else(|| fault::unavailable("it is not connected"))
    }
}

#[async_trait]
impl Sink for Mongo {
    async fn open(&mut self, claim: &Claim) -> Result<Place, SinkError> {
        // After an error the client is not trusted any more: what it knows of the servers, and the
        // password that it was made with, may be out of date.
        self.open = None;
        let link = Link::open(&self.settings).await?;
        let hold = Hold::take(&link, claim).await?;
        link.make_indexes().await?;
        let place = hold.place();
        self.open = Some(Open { link, hold });
        Ok(place)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let Open { link, hold } = self.opened()?;
        if !batch.events.is_empty() {
            hold.look(link, Some(batch.from)).await?;
            link.keep(batch.events).await?;
            let changes = super::changes(batch.events, batch.from.seeded);
            let statements = changes.iter().map(|(id, change)| {
                let statement = Statement::of(id, change);
                statement.because_of(last(batch.events, id))
            });
            link.put(statements.collect()).await?;
        }
        let to = Checkpoint {
            cursor: batch.to,
            seeded: batch.from.seeded,
        };
        hold.advance(link, batch.from, to).await
    }

    async fn seed(
        &mut self,
        seed: &Seed,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let Open { link, hold } = self.opened()?;
        hold.look(link, None).await?;
        let statements = page
            .iter()
            .map(|(id, instance)| Statement::seeded(id, &Current::of(instance, seed.revision)));
        link.put(statements.collect()).await
    }

    async fn seeded(&mut self, seed: &Seed) -> Result<(), SinkError> {
        let Open { link, hold } = self.opened()?;
        seed::end(link, hold, seed).await
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let Open { link, hold } = self.opened()?;
        hold.look(link, None).await?;
        if event.kind != EventKind::Seeded {
            link.keep(&[event]).await?;
        }
        let Some(id) = event.instance() else {
            return Ok(());
        };
        let statement = match current {
            Some(instance) => Statement::seeded(&id, &Current::of(instance, revision)),
            None => Statement::of(&id, &Change::Gone { revision }),
        };
        link.put(vec![statement.because_of(Some(event.cursor()))])
            .await
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        check::round_trip(&self.settings).await
    }
}

/// The last of the events that is about an instance.
fn last(events: &[Arc<Event>], id: &InstanceId) -> Option<EventCursor> {
    let about = |event: &&Arc<Event>| {
        event.machine == id.machine && event.name.as_ref() == Some(id.instance_name())
    };
    let event = events.iter().rev().find(about)?;
    Some(event.cursor())
}
