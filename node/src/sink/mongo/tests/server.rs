//! A MongoDB server, and what tests write and read there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use lockstep_machine::{
    Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId, Metadata,
};
use lockstep_tests::mongo::{Mongo as Server, StandIn};
use mongodb::Database;
use mongodb::bson::{Document, doc};
use serde::Deserialize;

use super::super::super::{
    Backfill, Change, Checkpoint, Current, Destination, SinkError, StoredCheckpoint,
};
use super::super::Mongo;
use crate::config;
use crate::sink::tests::fixtures;
pub(super) use crate::sink::tests::fixtures::claim;

/// A server, and the test's database in it.
pub(super) struct TestServer {
    pub(super) server: Server,
    pub(super) database: Database,
}

/// A document of the history, as test as tests compare it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Kept {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) instance: String,
    #[serde(default)]
    pub(super) to: String,
}

/// A document of the instances, as test as tests compare it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Shown {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) state: String,
    pub(super) revision: u64,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        let server = Server::start().await.unwrap();
        let database = server.connect().await.unwrap();
        Self { server, database }
    }

    /// With a server that the test may stop; `None` if only a shared one is available.
    pub(super) async fn start_own() -> Option<Self> {
        let mut test = Self::start().await;
        test.server.stand_in().is_some().then_some(test)
    }

    pub(super) fn stand_in(&mut self) -> &mut StandIn {
        self.server.stand_in().unwrap()
    }

    /// A sink that writes there, not opened yet.
    pub(super) fn sink(&self) -> Mongo {
        sink(self.server.address(), self.server.database(), None)
    }

    /// The same, opened.
    pub(super) async fn opened(&self, term: u64) -> (Mongo, StoredCheckpoint) {
        let mut sink = self.sink();
        let checkpoint = sink.open(&claim(term)).await.unwrap();
        (sink, checkpoint)
    }

    /// All of the history, in order.
    pub(super) async fn history(&self) -> Vec<Kept> {
        let history = self.database.collection::<Kept>("history");
        let order = doc! { "revision": 1, "position": 1 };
        let found = history.find(doc! {}).sort(order).await.unwrap();
        found.try_collect().await.unwrap()
    }

    /// The ids of the history, in order.
    pub(super) async fn places(&self) -> Vec<String> {
        let history = self.history().await;
        history.into_iter().map(|kept| kept.id).collect()
    }

    /// The instances: state and revision by name.
    pub(super) async fn instances(&self) -> BTreeMap<String, (String, u64)> {
        let instances = self.database.collection::<Shown>("instances");
        let living = instances.find(doc! { "machine": "order" }).await.unwrap();
        let living: Vec<Shown> = living.try_collect().await.unwrap();
        living
            .into_iter()
            .map(|shown| (shown.id, (shown.state, shown.revision)))
            .collect()
    }

    /// One document.
    pub(super) async fn document(&self, collection: &str, id: &str) -> Option<Document> {
        let collection = self.database.collection::<Document>(collection);
        collection.find_one(doc! { "_id": id }).await.unwrap()
    }
}

/// A sink that writes to an address.
pub(super) fn sink(address: &str, database: &str, password: Option<&str>) -> Mongo {
    Mongo::new(config(address, database, password))
}

pub(crate) fn config(address: &str, database: &str, password: Option<&str>) -> config::Sink {
    config::Sink {
        database: database.to_owned(),
        password: password.and_then(fixtures::hidden),
        timeout: Duration::from_secs(3),
        ..fixtures::config(config::SinkKind::Mongo, address)
    }
}

/// An event of the instance `order/{name}`.
pub(super) fn event(revision: u64, kind: EventKind, name: &str, to: Option<&str>) -> Arc<Event> {
    let labels = [("by", "ann"), ("a.b", "dot"), ("$c%", "dollar")];
    Arc::new(Event {
        metadata: Metadata::new(labels).unwrap(),
        ..fixtures::event(revision, &format!("order/{name}"), kind, to)
    })
}

pub(super) fn created(revision: u64, name: &str) -> Arc<Event> {
    event(revision, EventKind::Created, name, Some("new"))
}

pub(super) fn moved(revision: u64, name: &str, to: &str) -> Arc<Event> {
    event(revision, EventKind::Transitioned, name, Some(to))
}

pub(super) fn deleted(revision: u64, name: &str) -> Arc<Event> {
    event(revision, EventKind::Deleted, name, None)
}

/// An instance in a state, as the cluster holds it.
pub(super) fn instance(name: &str, state: &str) -> (InstanceId, Instance) {
    fixtures::instance(&format!("order/{name}"), state)
}

/// The same as of a revision.
pub(super) fn current(name: &str, state: &str, revision: u64) -> Current {
    fixtures::current(&format!("order/{name}"), state, revision)
}

/// What an instance is at a revision.
pub(super) fn now(name: &str, state: &str, revision: u64) -> Option<Change> {
    Some(Change::Is(current(name, state, revision)))
}

pub(super) fn cursor(revision: u64) -> EventCursor {
    fixtures::at(revision, 0)
}

pub(super) fn at(revision: u64) -> Checkpoint {
    seeded_at(revision, 0)
}

pub(super) fn seeded_at(revision: u64, seeded: u64) -> Checkpoint {
    fixtures::checkpoint(revision, 0, seeded)
}

/// Writes events after a checkpoint. The new checkpoint.
pub(super) async fn write(
    sink: &mut Mongo,
    from: Checkpoint,
    events: &[Arc<Event>],
) -> Result<Checkpoint, SinkError> {
    let batch = fixtures::batch(from, events);
    sink.write(&batch).await?;
    Ok(batch.checkpoint())
}

/// A backfill at a revision, after a cursor.
pub(super) fn backfill(revision: u64, previous: Option<u64>) -> Backfill {
    Backfill {
        resume_at: EventCursor::after(GlobalRevision(revision)),
        ..fixtures::backfill(revision, previous.map(cursor), 0)
    }
}

/// Expected instances, in the form of [`TestServer::instances`].
pub(super) fn shown<const N: usize>(
    instances: [(&str, &str, u64); N],
) -> BTreeMap<String, (String, u64)> {
    instances
        .into_iter()
        .map(|(name, state, revision)| (format!("order/{name}"), (state.to_owned(), revision)))
        .collect()
}
