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

use std::collections::HashMap;

use async_trait::async_trait;
use lockstep_machine::{Event, EventKind};

use super::{
    Backfill, Batch, Change, CheckSteps, Claim, Current, Destination, SinkError, StoredCheckpoint,
};
use crate::config;
use claim::Claimed;
use connection::Connection;
use documents::Statement;
use write::Target;

/// A MongoDB database that follows the cluster.
pub(crate) struct Mongo {
    sink: config::Sink,
    claimed: Option<Claimed>,
}

impl Mongo {
    pub(crate) fn new(sink: config::Sink) -> Self {
        Self {
            sink,
            claimed: None,
        }
    }

    fn claimed(&mut self) -> Result<&mut Claimed, SinkError> {
        let claimed = self.claimed.as_mut();
        claimed.ok_or_else(|| SinkError::unavailable("not connected"))
    }
}

#[async_trait]
impl Destination for Mongo {
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError> {
        // A new client after each error: the old one's view of the servers and its password may be
        // out of date.
        self.claimed = None;
        let connection = Connection::open(&self.sink).await?;
        let claimed = Claimed::claim(connection, claim).await?;
        claimed.connection.create_indexes().await?;
        let checkpoint = claimed.checkpoint;
        self.claimed = Some(claimed);
        Ok(checkpoint.map_or(StoredCheckpoint::Empty, StoredCheckpoint::At))
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let claimed = self.claimed()?;
        claimed.check_at(batch.from)?;
        if !batch.events.is_empty() {
            claimed.verify().await?;
            let history = batch.events.iter().map(|event| Statement::insert(event));
            claimed.connection.put(Target::History, history).await?;
            // The last event of each instance.
            let causes = batch
                .events
                .iter()
                .filter_map(|it| Some((it.instance()?, it.cursor())));
            let causes: HashMap<_, _> = causes.collect();
            let changes = batch.changes();
            let instances = changes.iter().map(|change| {
                let cause = causes.get(change.id()).copied();
                Statement::update(change, false, cause)
            });
            claimed.connection.put(Target::Instances, instances).await?;
        }
        claimed.set_checkpoint(batch.checkpoint()).await
    }

    async fn backfill_page(&mut self, _: &Backfill, page: &[Current]) -> Result<(), SinkError> {
        let claimed = self.claimed()?;
        claimed.verify().await?;
        let states = page.iter().cloned().map(Change::Is);
        let statements = states.map(|state| Statement::update(&state, true, None));
        claimed.connection.put(Target::Instances, statements).await
    }

    async fn finish_backfill(&mut self, backfill: &Backfill) -> Result<(), SinkError> {
        backfill::finish(self.claimed()?, backfill).await
    }

    async fn replay(&mut self, event: &Event, now: Option<Change>) -> Result<(), SinkError> {
        let claimed = self.claimed()?;
        claimed.verify().await?;
        if event.kind != EventKind::Seeded {
            let history = std::iter::once(Statement::insert(event));
            claimed.connection.put(Target::History, history).await?;
        }
        let cause = Some(event.cursor());
        let instance = now.iter().map(|now| Statement::update(now, true, cause));
        claimed.connection.put(Target::Instances, instance).await
    }

    async fn check(&mut self, steps: &mut CheckSteps) -> Option<()> {
        check::check(&self.sink, steps).await
    }
}
