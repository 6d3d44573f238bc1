//! PostgreSQL: a primary and two standbys, one of which must have flushed a commit before it is acknowledged.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use lockstep_load::{self as load, Failed, Operation, Service};
use lockstep_tests::postgres::{PASSWORD, Replicated};
use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::{Load, System, TIMEOUT, load_from_here};

/// The state of each object, and its history.
const SCHEMA: &str = "
CREATE TABLE instances (id text PRIMARY KEY, state text NOT NULL, revision bigint NOT NULL);
CREATE TABLE history (
    id text NOT NULL, revision bigint NOT NULL, state text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, revision)
)";
/// Every client has a connection.
const SETTINGS: [&str; 1] = ["max_connections=400"];

/// From the state $3, which guards the change.
const WRITE: &str = "
WITH moved AS (
    UPDATE instances SET state = $2, revision = revision + 1 WHERE id = $1 AND state = $3
    RETURNING id, revision, state
) INSERT INTO history (id, revision, state) SELECT id, revision, state FROM moved";
/// The same, if another object, here the same one, is in a state.
const CHECK_AND_WRITE: &str = "
WITH moved AS (
    UPDATE instances SET state = $2, revision = revision + 1 WHERE id = $1 AND state = $3
        AND EXISTS (SELECT FROM instances WHERE id = $4 AND state = $5)
    RETURNING id, revision, state
) INSERT INTO history (id, revision, state) SELECT id, revision, state FROM moved";
/// The same for several objects.
const WRITE_ALL: &str = "
WITH moved AS (
    UPDATE instances SET state = $2, revision = revision + 1 WHERE id = ANY($1) AND state = $3
    RETURNING id, revision, state
) INSERT INTO history (id, revision, state) SELECT id, revision, state FROM moved";
const READ: &str = "SELECT state, revision FROM instances WHERE id = $1";
const CREATE: &str = "
INSERT INTO instances SELECT unnest($1::text[]), 'first', 0
ON CONFLICT (id) DO UPDATE SET state = 'first', revision = instances.revision + 1";

pub struct Servers {
    version: String,
    servers: Replicated,
}

impl Servers {
    pub async fn start() -> Result<Self> {
        let servers = Replicated::start(2, &SETTINGS).await?;
        let client = servers.primary.client().await?;
        client.batch_execute(SCHEMA).await?;
        let version: String = client.query_one("SHOW server_version", &[]).await?.get(0);
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        Ok(Self { version, servers })
    }
}

impl System for Servers {
    fn name(&self) -> String {
        format!("PostgreSQL {}", self.version)
    }

    fn processes(&self) -> Vec<u32> {
        let all = std::iter::once(&self.servers.primary).chain(&self.servers.standbys);
        all.filter_map(|it| it.process_id()).collect()
    }

    async fn load(&self, load: Load, measured: Duration) -> Result<Value> {
        let mut config: Config = self.servers.primary.address().parse()?;
        config.password(PASSWORD);
        let service = Primary {
            config,
            batch: load.batch,
        };
        load_from_here(service, load, measured)
            .await
            .context("PostgreSQL")
    }

    /// No standby takes over by itself.
    async fn fail_over(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }
}

/// The primary, as clients see it.
struct Primary {
    config: Config,
    batch: usize,
}

impl Service for Primary {
    type Client = Writer;

    async fn connect(&self, clients: Range<usize>) -> Result<Vec<Writer>, Failed> {
        let connecting = clients.map(|number| self.writer(number));
        try_join_all(connecting).await.map_err(failed)
    }
}

impl Primary {
    async fn writer(&self, number: usize) -> Result<Writer, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        // Ends when the client is dropped; whoever waits for an answer gets an error.
        tokio::spawn(connection);
        let ids = (0..self.batch).map(|it| format!("bench-{number:08}-{it:08}"));
        let ids: Vec<String> = ids.collect();
        client.execute(CREATE, &[&ids]).await?;
        Ok(Writer {
            write: client.prepare(WRITE).await?,
            check_and_write: client.prepare(CHECK_AND_WRITE).await?,
            write_all: client.prepare(WRITE_ALL).await?,
            read: client.prepare(READ).await?,
            client,
            ids,
            state: 0,
        })
    }
}

const STATES: [&str; 3] = ["first", "second", "third"];

/// A client with objects of its own, all of which are in the same state.
struct Writer {
    client: Client,
    write: Statement,
    check_and_write: Statement,
    write_all: Statement,
    read: Statement,
    ids: Vec<String>,
    state: usize,
}

impl load::Client for Writer {
    async fn execute(&mut self, operation: Operation) -> Result<(), Failed> {
        let executed = timeout(TIMEOUT, self.answer(operation)).await;
        let rows = executed.map_err(|_| Failed::unavailable("timeout", "no answer in time"))?;
        let expected = match operation {
            Operation::Transition => self.ids.len() as u64,
            _ => 1,
        };
        match rows.map_err(failed)? {
            rows if rows == expected => Ok(()),
            rows => Err(Failed::unavailable(
                "guard",
                format!("{rows} rows were changed"),
            )),
        }
    }
}

impl Writer {
    /// Returns how many rows it was about.
    async fn answer(&mut self, operation: Operation) -> Result<u64, Error> {
        let (id, now) = (&self.ids[0], STATES[self.state]);
        let next = (self.state + 1) % STATES.len();
        let to = STATES[next];
        let rows = match operation {
            Operation::Read | Operation::StaleRead => {
                let rows = self.client.query(&self.read, &[id]).await?;
                return Ok(rows.len() as u64);
            }
            Operation::Transition if self.ids.len() > 1 => {
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [&self.ids, &to, &now];
                self.client.execute(&self.write_all, &parameters).await?
            }
            Operation::Transition => self.client.execute(&self.write, &[id, &to, &now]).await?,
            Operation::Transaction => {
                let write = &self.check_and_write;
                self.client
                    .execute(write, &[id, &to, &now, id, &now])
                    .await?
            }
        };
        self.state = next;
        Ok(rows)
    }
}

fn failed(error: Error) -> Failed {
    Failed::unavailable("database", error)
}
