//! MongoDB as a destination.
//!
//! Every event is a document of the history, with its cursor as `_id`; every instance is a document of
//! the instances, which is only replaced by a later revision. The checkpoint is a document of its own
//! ([`claim`]), updated after the data: a crash in between writes the same data again, which changes
//! nothing.
//!
//! None of this needs a transaction over several documents, which a standalone server does not support.
//! The price: for a moment, readers may see the history ahead of the instances.
//!
//! # Deleted instances
//!
//! A late write of a deposed leader must not bring a deleted instance back, and without transactions
//! only the instance's own document can prevent that. So the document stays as a tombstone with nothing
//! but `_id`, `revision` and `deleted_at`, until the server's TTL index removes it after a day. It has no
//! machine and no state, so a query for either does not return it; a query over everything adds
//! `deleted_at: null`.
//!
//! One case remains: a leader that is paused between checking its claim and writing, while its successor
//! runs a whole backfill, may bring back an instance that the backfill did not contain. The next
//! backfill removes it.

mod backfill;
mod check;
mod claim;
mod connection;
mod documents;
mod errors;
mod options;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId};

use super::{
    Backfill, Batch, Change, CheckStep, Checkpoint, Claim, Current, Destination, SinkError,
    StoredCheckpoint,
};
use claim::ClaimedCollections;
use connection::Connection;
use documents::Statement;
use options::MongoSettings;

/// A MongoDB database that follows the cluster.
pub(crate) struct Mongo {
    settings: MongoSettings,
    open: Option<Open>,
}

/// Connected and claimed.
struct Open {
    connection: Connection,
    claimed: ClaimedCollections,
}

impl Mongo {
    /// As configured, not connected yet.
    pub(crate) fn new(config: &crate::config::Sink, mongo: &crate::config::MongoSink) -> Self {
        Self {
            settings: MongoSettings::new(config, mongo),
            open: None,
        }
    }

    fn opened(&mut self) -> Result<&mut Open, SinkError> {
        let open = self.open.as_mut();
        open.ok_or_else(|| SinkError::unavailable("not connected"))
    }
}

#[async_trait]
impl Destination for Mongo {
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError> {
        // A new client after each error: the old one's view of the servers and its password may be
        // out of date.
        self.open = None;
        let connection = Connection::open(&self.settings).await?;
        let claimed = ClaimedCollections::claim(&connection, claim).await?;
        connection.create_indexes().await?;
        let checkpoint = claimed.checkpoint();
        self.open = Some(Open {
            connection,
            claimed,
        });
        Ok(checkpoint)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let Open {
            connection,
            claimed,
        } = self.opened()?;
        if !batch.events.is_empty() {
            claimed.verify(connection, Some(batch.from)).await?;
            connection.insert_history(batch.events).await?;
            let changes = super::changes(batch.events, batch.from.seeded);
            let statements = changes.iter().map(|(id, change)| {
                let statement = Statement::of(id, change);
                statement.caused_by(last(batch.events, id))
            });
            connection.put_instances(statements.collect()).await?;
        }
        let to = Checkpoint {
            cursor: batch.to,
            seeded: batch.from.seeded,
        };
        claimed.advance(connection, batch.from, to).await
    }

    async fn backfill_page(
        &mut self,
        backfill: &Backfill,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let Open {
            connection,
            claimed,
        } = self.opened()?;
        claimed.verify(connection, None).await?;
        let statements = page.iter().map(|(id, instance)| {
            Statement::backfilled(id, &Current::of(instance, backfill.revision))
        });
        connection.put_instances(statements.collect()).await
    }

    async fn finish_backfill(&mut self, backfill: &Backfill) -> Result<(), SinkError> {
        let Open {
            connection,
            claimed,
        } = self.opened()?;
        backfill::finish(connection, claimed, backfill).await
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let Open {
            connection,
            claimed,
        } = self.opened()?;
        claimed.verify(connection, None).await?;
        if event.kind != EventKind::Seeded {
            connection.insert_history(&[event]).await?;
        }
        let Some(id) = event.instance() else {
            return Ok(());
        };
        let statement = match current {
            Some(instance) => Statement::backfilled(&id, &Current::of(instance, revision)),
            None => Statement::of(&id, &Change::Deleted { revision }),
        };
        let statement = statement.caused_by(Some(event.cursor()));
        connection.put_instances(vec![statement]).await
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        check::check(&self.settings).await
    }
}

/// The last of the events about an instance.
fn last(events: &[Arc<Event>], id: &InstanceId) -> Option<EventCursor> {
    let about = |event: &&Arc<Event>| {
        event.machine == id.machine && event.name.as_ref() == Some(id.instance_name())
    };
    let event = events.iter().rev().find(about)?;
    Some(event.cursor())
}
