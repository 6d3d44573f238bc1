//! PostgreSQL as a destination: every event in one table, the current state of each instance in another.
//!
//! A batch is one statement: it advances the checkpoint, adds the events to the history and updates the
//! current states, or does nothing. So no transaction is ever open while this node computes or is paused,
//! and no lock of a deposed leader blocks its successor.
//!
//! The checkpoint is the only row of the table `sinks`, beside the term of the leader that writes and the
//! number of its claim. Each statement begins by updating that row, on condition that it still has the
//! numbers of its own claim: of two leaders, one waits there for the other, and the older then finds that
//! the row has changed. The number of the claim does the same for statements that were abandoned on an
//! earlier connection and that the server executes only later.
//!
//! | file | holds |
//! |---|---|
//! | `connect` | a connection: address, password, TLS, server settings |
//! | `schema` | the tables, their migrations, their owner |
//! | `statements` | the SQL of every write; events and states are its parameters in their JSON form |
//! | `claimed` | a connection with a claim, and the statements through it |
//! | `errors` | what an error of the server means for the sink |
//! | `check` | the steps of `lockstep sink check` |

mod check;
mod claimed;
mod connect;
mod errors;
mod schema;
mod statements;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use lockstep_machine::{Event, EventKind};

use super::connect::within;
use super::{
    Backfill, Batch, Change, CheckSteps, Claim, Current, Destination, SinkError, StoredCheckpoint,
};
use crate::config;
use claimed::Claimed;
use schema::Names;

/// A PostgreSQL database that follows the cluster.
pub(crate) struct Postgres {
    sink: config::Sink,
    names: Names,
    claimed: Option<Claimed>,
}

impl Postgres {
    pub(crate) fn new(sink: config::Sink) -> Self {
        Self {
            names: Names::new(&sink),
            sink,
            claimed: None,
        }
    }

    /// Takes the connection out: a write that fails or is cancelled closes it, so that the server ends
    /// what it still runs.
    fn take(&mut self) -> Result<Claimed, SinkError> {
        let claimed = self.claimed.take();
        claimed.ok_or_else(|| SinkError::unavailable("not connected"))
    }

    /// Puts the connection back if it is still usable after a write with this result.
    fn keep(&mut self, claimed: Claimed, written: Result<(), SinkError>) -> Result<(), SinkError> {
        if matches!(written, Ok(()) | Err(SinkError::Rejected { .. })) {
            self.claimed = Some(claimed);
        }
        written
    }
}

#[async_trait]
impl Destination for Postgres {
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError> {
        // A new connection each time: a statement may still run on the old one.
        self.claimed = None;
        let timeout = self.sink.timeout;
        let connection = connect::connect(&self.sink).await?;
        within(timeout, schema::prepare(&connection, &self.names, claim)).await?;
        let claiming = Claimed::claim(connection, &self.names, claim, timeout);
        let (claimed, checkpoint) = within(timeout, claiming).await?;
        self.claimed = Some(claimed);
        Ok(checkpoint)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let events: Vec<&Event> = batch.events.iter().map(AsRef::as_ref).collect();
        let (from, to) = (Some(batch.from), Some(batch.to));
        let changes = batch.changes();
        let claimed = self.take()?;
        let written = claimed.write(from, to, false, &events, &changes).await;
        self.keep(claimed, written)
    }

    async fn backfill_page(&mut self, _: &Backfill, page: &[Current]) -> Result<(), SinkError> {
        let claimed = self.take()?;
        let written = claimed.write(None, None, true, &[], page).await;
        self.keep(claimed, written)
    }

    async fn finish_backfill(&mut self, backfill: &Backfill) -> Result<(), SinkError> {
        let claimed = self.take()?;
        let finished = async {
            // Some in each exchange.
            while claimed.remove_older(backfill).await? {}
            claimed.finish_backfill(backfill).await
        };
        let finished = finished.await;
        self.keep(claimed, finished)
    }

    async fn replay(&mut self, event: &Event, now: Option<Change>) -> Result<(), SinkError> {
        let event = Some(event).filter(|event| event.kind != EventKind::Seeded);
        let (events, changes) = (event.as_slice(), now.as_slice());
        let claimed = self.take()?;
        let written = claimed.write(None, None, false, events, changes).await;
        self.keep(claimed, written)
    }

    async fn check(&mut self, steps: &mut CheckSteps) -> Option<()> {
        check::check(self, steps).await
    }
}
