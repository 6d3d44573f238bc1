//! A server, and a sink that writes there.

use anyhow::Result;
use lockstep_tests::postgres as server;
use serde_json::Value;
use tokio_postgres::Client;

use crate::config::{Sink, SinkKind};
use crate::sink::postgres::Postgres;
use crate::sink::tests::fixtures::{self, backfill, claim};
use crate::sink::{Destination, StoredCheckpoint};

/// A server with a sink for it.
pub(super) struct Fixture {
    pub(super) server: server::Postgres,
    pub(super) sink: Postgres,
    pub(super) client: Client,
}

impl Fixture {
    /// Started, not opened.
    pub(super) async fn started() -> Result<Self> {
        let server = server::Postgres::start_with(&["fsync=off"]).await?;
        let sink = sink(&server.address());
        let client = server.client().await?;
        Ok(Self {
            server,
            sink,
            client,
        })
    }

    /// Opened in term 1, and backfilled with no states at revision 0.
    pub(super) async fn backfilled() -> Result<Self> {
        let mut fixture = Self::started().await?;
        assert_eq!(fixture.sink.open(&claim(1)).await?, StoredCheckpoint::Empty);
        fixture.sink.finish_backfill(&backfill(0, None, 0)).await?;
        Ok(fixture)
    }

    /// The rows of a query, each as one JSON value.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let sql = format!("SELECT to_jsonb(row) FROM ({sql}) AS row");
        let rows = self.client.query(&sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The cursors of the events in the history.
    pub(super) async fn history(&self) -> Result<Vec<(i64, i64)>> {
        let sql = "SELECT revision, position FROM lockstep.history ORDER BY 1, 2";
        let rows = self.client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The instances with their states.
    pub(super) async fn states(&self) -> Result<Vec<(String, String)>> {
        let sql = "SELECT machine || '/' || instance, state FROM lockstep.instances ORDER BY 1";
        let rows = self.client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

pub(super) fn sink(address: &str) -> Postgres {
    Postgres::new(config(address, server::PASSWORD))
}

pub(crate) fn config(address: &str, password: &str) -> Sink {
    Sink {
        password: fixtures::hidden(password),
        ..fixtures::config(SinkKind::Postgres, address)
    }
}
