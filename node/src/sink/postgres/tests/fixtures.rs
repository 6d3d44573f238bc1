//! Fixtures: a server, a sink, events and instances.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lockstep_machine::{
    Cause, Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId, Metadata, Revision,
    StateName, Timestamp, Version,
};
use lockstep_tests::postgres as server;
use serde_json::Value;
use tokio_postgres::Client;

use crate::config::{PostgresSink, Secret, Sink as SinkConfig, SinkKind};
use crate::sink::postgres::Postgres;
use crate::sink::{
    Backfill, BackfillReason, Batch, Change, Checkpoint, Claim, Current, Destination, SinkError,
    StoredCheckpoint,
};

/// Cluster time at revision 0.
const BEGINNING_MS: u64 = 1_700_000_000_000;

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
    let (config, postgres) = config(address, server::PASSWORD);
    Postgres::new(&config, &postgres)
}

pub(crate) fn config(address: &str, password: &str) -> (SinkConfig, PostgresSink) {
    let postgres = PostgresSink {
        address: address.to_owned(),
        password: Some(Secret::Text(password.to_owned())),
        schema: "lockstep".to_owned(),
        history: "history".to_owned(),
        instances: "instances".to_owned(),
    };
    let config = SinkConfig {
        name: "reports".parse().expect("a sink's name"),
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

/// A batch from a checkpoint to the last of the events.
pub(super) fn batch(from: Checkpoint, events: &[Arc<Event>]) -> Batch<'_> {
    let to = events.last().map_or(from.cursor, |event| event.cursor());
    Batch { from, to, events }
}

/// A backfill after which delivery resumes at a revision.
pub(super) fn backfill(revision: u64, previous: Option<EventCursor>, resume_at: u64) -> Backfill {
    Backfill {
        revision: GlobalRevision(revision),
        at: Timestamp(BEGINNING_MS + revision),
        previous,
        resume_at: at(resume_at, 0),
        reason: match previous {
            None => BackfillReason::First,
            Some(_) => BackfillReason::Compacted,
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

/// An instance as the cluster holds it.
pub(super) fn instance(id: &str, state: &str) -> (InstanceId, Instance) {
    let state = StateName::new(state).expect("a valid name");
    let metadata = Metadata::new([("by", "eve")]).expect("valid metadata");
    let mut instance = Instance::new(Version(1), state, Timestamp(BEGINNING_MS), metadata);
    instance.revision = Revision(3);
    instance.changed_at = Timestamp(BEGINNING_MS + 5);
    (id.parse().expect("an id"), instance)
}

/// The same as of a revision.
pub(super) fn current(id: &str, state: &str, revision: u64) -> Current {
    let (id, instance) = instance(id, state);
    Current::of(&id, &instance, GlobalRevision(revision))
}

/// What an instance is at a revision.
pub(super) fn now(id: &str, state: &str, revision: u64) -> Option<Change> {
    Some(Change::Is(current(id, state, revision)))
}

/// An instance that does not exist at a revision.
pub(super) fn gone(id: &str, revision: u64) -> Option<Change> {
    Some(Change::Deleted {
        id: id.parse().expect("an id"),
        revision: GlobalRevision(revision),
    })
}

pub(super) fn state(name: &str) -> StateName {
    name.parse().expect("a state's name")
}

/// The reason of a misconfiguration.
pub(super) fn misconfigured(ended: Result<StoredCheckpoint, SinkError>) -> String {
    match ended {
        Err(SinkError::Misconfigured { reason }) => reason,
        other => panic!("{other:?}"),
    }
}
