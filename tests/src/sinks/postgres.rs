//! PostgreSQL as a destination.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Row};

use super::{Destination, States, Written};
use crate::postgres::{DATABASE, PASSWORD, Postgres, USER};
use crate::wait::wait_for;

/// For the sink to have made its tables.
const TABLES_DEADLINE: Duration = Duration::from_secs(30);
/// Room for a new server's data, and some more.
const SMALL: u64 = 80 * 1024 * 1024;
/// So that a small disk is not full of what was written once for safety.
const LITTLE_LOG: [&str; 3] = ["min_wal_size=2MB", "max_wal_size=4MB", "wal_recycle=off"];
/// Its events, in order of place.
const HISTORY: &str = "SELECT revision, position, kind, machine, instance, from_state, to_state, \
    instance_revision, (extract(epoch FROM at) * 1000)::bigint AS at_ms, metadata::text \
    FROM lockstep.history ORDER BY revision, position";
/// Its current states.
const STATES: &str =
    "SELECT machine || '/' || instance, state, instance_revision FROM lockstep.instances";

/// A server with a database for the sink.
pub struct Database {
    server: Postgres,
    password_file: PathBuf,
}

impl Database {
    /// On the disk of the test's temporary folder.
    pub async fn start() -> Result<Self> {
        Self::on(Postgres::start().await?)
    }

    /// On a small disk of its own, which can be filled; none where no disk can be mounted.
    pub async fn start_on_small_disk() -> Result<Option<Self>> {
        let server = Postgres::start_on_disk(SMALL, &LITTLE_LOG).await?;
        server.map(Self::on).transpose()
    }

    fn on(server: Postgres) -> Result<Self> {
        let password_file = server.put("password-of-sink", PASSWORD.as_bytes())?;
        Ok(Self {
            server,
            password_file,
        })
    }

    /// A superuser's connection that bypasses the cable.
    pub async fn administrator(&self) -> Result<Client> {
        self.server.administrator().await
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        Ok(self.administrator().await?.batch_execute(sql).await?)
    }
}

impl Destination for Database {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.server.port()).into()
    }

    fn settings(&self, through: SocketAddr) -> Vec<(&'static str, String)> {
        let address = format!("postgres://{USER}@{through}/{DATABASE}");
        let password_file = self.password_file.display().to_string();
        vec![
            ("LOCKSTEP_SINK_FAR_KIND", "postgres".to_owned()),
            ("LOCKSTEP_SINK_FAR_ADDRESS", address),
            ("LOCKSTEP_SINK_FAR_PASSWORD_FILE", password_file),
        ]
    }

    async fn kill9(&mut self) -> Result<()> {
        self.server.kill9().await
    }

    async fn start(&mut self) -> Result<()> {
        self.server.restart().await
    }

    async fn pause(&mut self) -> Result<()> {
        self.server.pause().map(drop)
    }

    async fn resume(&mut self) -> Result<()> {
        self.server.resume()
    }

    async fn save(&mut self) -> Result<()> {
        self.server.stop().await?;
        self.server.save()?;
        self.server.restart().await
    }

    async fn restore(&mut self) -> Result<()> {
        if self.server.runs() {
            self.server.stop().await?;
        }
        self.server.restore()?;
        self.server.restart().await
    }

    async fn reject(&mut self, instance: &str) -> Result<()> {
        // Existing rows may stay.
        let constraint = format!(
            "ADD CONSTRAINT rejected CHECK (machine || '/' || instance <> '{instance}') NOT VALID"
        );
        let sql = format!(
            "ALTER TABLE lockstep.history {constraint}; ALTER TABLE lockstep.instances {constraint}"
        );
        wait_for("the sink's tables", TABLES_DEADLINE, async || {
            self.execute(&sql).await
        })
        .await
    }

    async fn accept(&mut self) -> Result<()> {
        self.execute(
            "ALTER TABLE lockstep.history DROP CONSTRAINT rejected; \
             ALTER TABLE lockstep.instances DROP CONSTRAINT rejected",
        )
        .await
    }

    async fn lock_out(&mut self) -> Result<()> {
        let sql = format!(
            "ALTER ROLE {USER} PASSWORD 'another one'; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'"
        );
        self.execute(&sql).await
    }

    async fn let_in(&mut self) -> Result<()> {
        self.execute(&format!("ALTER ROLE {USER} PASSWORD '{PASSWORD}'"))
            .await
    }

    async fn fill(&mut self) -> Result<()> {
        self.server.disk().context("the disk is not small")?.fill()
    }

    async fn make_room(&mut self) -> Result<()> {
        let disk = self.server.disk().context("the disk is not small")?;
        disk.make_room()?;
        // PostgreSQL stops when it cannot write its log.
        self.server.recover().await
    }

    async fn history(&mut self) -> Result<Vec<Written>> {
        let rows = self.administrator().await?.query(HISTORY, &[]).await?;
        let events: Vec<Written> = rows.iter().map(written).collect::<Result<_>>()?;
        // The table's key rules it out, as long as it is there.
        let twice = events
            .windows(2)
            .find(|pair| pair[0].place >= pair[1].place);
        ensure!(twice.is_none(), "it holds one twice: {twice:?}");
        Ok(events)
    }

    async fn states(&mut self) -> Result<States> {
        let rows = self.administrator().await?.query(STATES, &[]).await?;
        let mut states = States::new();
        for row in &rows {
            let state = (row.try_get(1)?, number(row, 2)?);
            states.insert(row.try_get(0)?, state);
        }
        ensure!(states.len() == rows.len(), "an instance is in two states");
        Ok(states)
    }
}

fn written(row: &Row) -> Result<Written> {
    let metadata: &str = row.try_get("metadata")?;
    let metadata: BTreeMap<String, String> = serde_json::from_str(metadata)?;
    let position = number(row, "position")?;
    Ok(Written {
        place: (number(row, "revision")?, position.try_into()?),
        kind: row.try_get("kind")?,
        machine: row.try_get("machine")?,
        instance: row.try_get("instance")?,
        from: row.try_get("from_state")?,
        to: row.try_get("to_state")?,
        instance_revision: number(row, "instance_revision")?,
        at_ms: number(row, "at_ms")?,
        metadata,
    })
}

fn number<I: tokio_postgres::row::RowIndex + std::fmt::Display>(row: &Row, at: I) -> Result<u64> {
    let number: i64 = row.try_get(at)?;
    Ok(number.try_into()?)
}
