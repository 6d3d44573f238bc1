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
//! | `statements` | the SQL of every write |
//! | `rows` | events and states as the arrays that these statements take |
//! | `writer` | a claimed connection, and the writes through it |
//! | `errors` | what an error of the server means for the sink |
//! | `check` | the steps of `lockstep sink check` |

mod check;
mod connect;
mod errors;
mod rows;
mod schema;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_machine::{Event, GlobalRevision, Instance, InstanceId};

use super::{Backfill, Batch, CheckStep, Claim, Destination, SinkError, StoredCheckpoint};
use connect::PostgresSettings;
use schema::Names;
use writer::PostgresWriter;

/// The application name that the server shows for this connection.
const APPLICATION: &str = "lockstep";

/// A PostgreSQL database that follows the cluster.
pub(crate) struct Postgres {
    settings: PostgresSettings,
    /// The names of the tables, or why they cannot be used.
    names: Result<Names, String>,
    writer: Option<PostgresWriter>,
}

impl Postgres {
    /// As configured, not connected yet.
    pub(crate) fn new(
        config: &crate::config::Sink,
        postgres: &crate::config::PostgresSink,
    ) -> Self {
        Self {
            settings: PostgresSettings::new(config, postgres),
            names: Names::new(&postgres.schema, &postgres.history, &postgres.instances),
            writer: None,
        }
    }

    fn names(&self) -> Result<&Names, SinkError> {
        self.names.as_ref().map_err(SinkError::misconfigured)
    }

    /// Takes the writer out: a write that is cancelled or fails does not put it back.
    fn take_writer(&mut self) -> Result<PostgresWriter, SinkError> {
        let writer = self.writer.take();
        writer.ok_or_else(|| SinkError::unavailable("not connected"))
    }

    /// Puts the writer back if it is still usable after a write with this result.
    fn keep(
        &mut self,
        writer: PostgresWriter,
        written: Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        if matches!(written, Ok(()) | Err(SinkError::Rejected { .. })) {
            self.writer = Some(writer);
        }
        written
    }
}

#[async_trait]
impl Destination for Postgres {
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError> {
        let timeout = self.settings.timeout;
        let alive = self.writer.take().and_then(PostgresWriter::into_connection);
        let names = self.names()?;
        let connection = match alive {
            Some(connection) => connection,
            None => connect::connect(&self.settings).await?,
        };
        within(timeout, schema::prepare(&connection, names, claim)).await?;
        let claiming = PostgresWriter::claim(connection, names, claim);
        let (writer, checkpoint) = within(timeout, claiming).await?;
        self.writer = Some(writer);
        Ok(checkpoint)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let writer = self.take_writer()?;
        let written = within(self.settings.timeout, writer.write(batch)).await;
        self.keep(writer, written)
    }

    async fn backfill_page(
        &mut self,
        backfill: &Backfill,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let writer = self.take_writer()?;
        let write = writer.backfill_page(backfill, page);
        let written = within(self.settings.timeout, write).await;
        self.keep(writer, written)
    }

    async fn finish_backfill(&mut self, backfill: &Backfill) -> Result<(), SinkError> {
        let writer = self.take_writer()?;
        let written = finish_backfill(&writer, backfill, self.settings.timeout).await;
        self.keep(writer, written)
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let writer = self.take_writer()?;
        let replay = writer.replay(event, current, revision);
        let written = within(self.settings.timeout, replay).await;
        self.keep(writer, written)
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        check::check(&self.settings, &self.names).await
    }
}

/// Removes the states that the backfill did not contain, some in each exchange, and ends it.
async fn finish_backfill(
    writer: &PostgresWriter,
    backfill: &Backfill,
    timeout: Duration,
) -> Result<(), SinkError> {
    while within(timeout, writer.remove_older(backfill)).await? {}
    within(timeout, writer.finish_backfill(backfill)).await
}

/// One exchange with the server, within the timeout.
async fn within<T>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, SinkError>> + Send,
) -> Result<T, SinkError> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(ended) => ended,
        Err(_) => Err(SinkError::unavailable(format!(
            "no answer within {timeout:?}"
        ))),
    }
}
