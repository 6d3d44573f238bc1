//! What the tests are given: a server, a sink, events and instances.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lockstep_machine::{
    Cause, Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId, Metadata, Revision,
    StateName, Timestamp, Version,
};
use lockstep_tests::postgres as server;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::config::{PostgresSink, Secret, Sink as SinkConfig, SinkKind};
use crate::sink::postgres::Postgres;
use crate::sink::{Batch, Checkpoint, Claim, Place, Seed, SeedReason, Sink, SinkError};

/// Cluster time at revision 0.
const BEGINNING_MS: u64 = 1_700_000_000_000;

/// A server with a sink for it.
pub(super) struct Given {
    pub(super) server: server::Postgres,
    pub(super) sink: Postgres,
    pub(super) client: Client,
}

impl Given {
    /// Started, and not opened.
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

    /// Opened in term 1, and seeded with nothing at revision 0.
    pub(super) async fn seeded() -> Result<Self> {
        let mut given = Self::started().await?;
        assert_eq!(given.sink.open(&claim(1)).await?, Place::Nothing);
        given.sink.seeded(&seed(0, None, 0)).await?;
        Ok(given)
    }

    /// The rows of a query, each as one JSON value.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let sql = format!("SELECT to_jsonb(row) FROM ({sql}) AS row");
        let rows = self.client.query(&sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The places of the events in the history.
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
    let (config, postgres) = config(address, server::PASSWORD);
    Postgres::new(&config, &postgres)
}

pub(super) fn config(address: &str, password: &str) -> (SinkConfig, PostgresSink) {
    let postgres = PostgresSink {
        address: address.to_owned(),
        password: Some(Secret::Text(password.to_owned())),
        schema: "lockstep".to_owned(),
        history: "history".to_owned(),
        instances: "instances".to_owned(),
    };
    let config = SinkConfig {
        name: "reports".to_owned(),
        follows: vec![],
        batch_events_max: 500,
        timeout: Duration::from_secs(10),
        retry_max: Duration::from_secs(1),
        optional: false,
        ca_file: None,
        kind: SinkKind::Postgres(postgres.clone()),
    };
    (config, postgres)
}

pub(super) fn claim(term: u64) -> Claim {
    Claim {
        cluster: "c1".to_owned(),
        sink: "reports".to_owned(),
        term,
    }
}

pub(super) fn at(revision: u64, position: u32) -> EventCursor {
    EventCursor {
        revision: GlobalRevision(revision),
        position,
    }
}

pub(super) fn checkpoint(revision: u64, position: u32, seeded: u64) -> Checkpoint {
    Checkpoint {
        cursor: at(revision, position),
        seeded: GlobalRevision(seeded),
    }
}

/// From one place to the last of the events.
pub(super) fn batch(from: Checkpoint, events: &[Arc<Event>]) -> Batch<'_> {
    let to = events.last().map_or(from.cursor, |event| event.cursor());
    Batch { from, to, events }
}

/// A seed that ends at the first event of a revision's place.
pub(super) fn seed(revision: u64, was: Option<EventCursor>, then: u64) -> Seed {
    Seed {
        revision: GlobalRevision(revision),
        at: Timestamp(BEGINNING_MS + revision),
        was,
        then: at(then, 0),
        reason: match was {
            None => SeedReason::First,
            Some(_) => SeedReason::Compacted,
        },
    }
}

/// An event of an instance, the first of its revision.
pub(super) fn event(revision: u64, id: &str, kind: EventKind, to: Option<&str>) -> Event {
    let (machine, name) = id.split_once('/').expect("an id has two parts");
    Event {
        revision: GlobalRevision(revision),
        position: 0,
        kind,
        machine: machine.parse().expect("a machine's name"),
        name: Some(name.parse().expect("an instance's name")),
        version: Version(1),
        from_version: None,
        from: None,
        to: to.map(state),
        event: None,
        instance_revision: Revision(revision),
        at: Timestamp(BEGINNING_MS + revision),
        cause: Cause::Request,
        metadata: Metadata::default(),
    }
}

pub(super) fn created(revision: u64, id: &str) -> Arc<Event> {
    let metadata = Metadata::new([("by", "ann")]).expect("valid metadata");
    Arc::new(Event {
        metadata,
        ..event(revision, id, EventKind::Created, Some("open"))
    })
}

pub(super) fn moved(revision: u64, id: &str, to: &str) -> Arc<Event> {
    Arc::new(event(revision, id, EventKind::Transitioned, Some(to)))
}

pub(super) fn deleted(revision: u64, id: &str) -> Arc<Event> {
    Arc::new(event(revision, id, EventKind::Deleted, None))
}

/// An instance as a seed or a replay has it.
pub(super) fn instance(id: &str, state: &str) -> (InstanceId, Instance) {
    let instance = json!({
        "version": 1, "state": state, "revision": 3, "created_at": BEGINNING_MS,
        "changed_at": BEGINNING_MS + 5, "deadline": null, "metadata": [["by", "eve"]],
        "history": [],
    });
    let instance = serde_json::from_value(instance).expect("the form of an instance");
    (id.parse().expect("an id"), instance)
}

pub(super) fn state(name: &str) -> StateName {
    name.parse().expect("a state's name")
}

/// What an error says must be mended.
pub(super) fn misconfigured(ended: Result<Place, SinkError>) -> String {
    match ended {
        Err(SinkError::Misconfigured { reason }) => reason,
        other => panic!("{other:?}"),
    }
}
