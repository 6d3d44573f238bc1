//! A connection to the database, and the indexes that it must have.

use std::future::IntoFuture;
use std::time::Duration;

use mongodb::bson::{RawDocumentBuf, doc, serialize_to_raw_document_buf};
use mongodb::options::IndexOptions;
use mongodb::{Client, Collection, Database, IndexModel};
use tokio::time::timeout;

use super::super::SinkError;
use super::errors;
use super::options::client_options;
use super::write::Target;
use crate::config::Sink;

/// How long a tombstone is kept: far longer than any write can be in flight.
const TOMBSTONES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A client, and the names of its collections.
pub(super) struct Connection {
    pub(super) database: Database,
    /// The collection of all events.
    pub(super) history: String,
    /// The collection of current states.
    pub(super) instances: String,
    /// The write concern, for commands that the driver does not treat as writes.
    pub(super) write_concern: RawDocumentBuf,
    timeout: Duration,
}

impl Connection {
    /// Creates a client. It connects with the first exchange.
    pub(super) async fn open(sink: &Sink) -> Result<Self, SinkError> {
        let options = client_options(sink).await?;
        let write_concern =
            serialize_to_raw_document_buf(&options.write_concern).map_err(|error| {
                SinkError::misconfigured(format!("encoding the write concern: {error}"))
            })?;
        let client = Client::with_options(options)
            .map_err(|error| errors::classify("creating a client", &error))?;
        Ok(Self {
            database: client.database(&sink.database),
            history: sink.history.clone(),
            instances: sink.instances.clone(),
            write_concern,
            timeout: sink.timeout,
        })
    }

    pub(super) fn name(&self, target: Target) -> &str {
        match target {
            Target::History => &self.history,
            Target::Instances => &self.instances,
        }
    }

    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }

    /// One exchange with the server, within the timeout. `operation` names it in errors.
    pub(super) async fn exchange<T>(
        &self,
        operation: &str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, SinkError> {
        let answer = self.attempt(operation, call).await?;
        answer.map_err(|error| errors::classify(operation, &error))
    }

    /// The same; the caller interprets the driver's error.
    pub(super) async fn attempt<T>(
        &self,
        operation: &str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<mongodb::error::Result<T>, SinkError> {
        let limit = self.timeout;
        timeout(limit, call.into_future())
            .await
            .map_err(|_| SinkError::unavailable(format!("{operation} took longer than {limit:?}")))
    }

    pub(super) async fn create_indexes(&self) -> Result<(), SinkError> {
        let index = |keys, options| IndexModel::builder().keys(keys).options(options).build();
        let plain = IndexOptions::default();
        let unique = IndexOptions::builder().unique(true).build();
        let passing = IndexOptions::builder()
            .expire_after(TOMBSTONES_KEPT)
            .build();
        let by_instance = doc! { "machine": 1, "instance": 1, "revision": 1 };
        let history = [
            index(doc! { "revision": 1, "position": 1 }, unique),
            index(by_instance, plain.clone()),
        ];
        let instances = [
            index(doc! { "machine": 1, "state": 1 }, plain),
            index(doc! { "deleted_at": 1 }, passing),
        ];
        for (name, indexes) in [(&self.history, history), (&self.instances, instances)] {
            let collection = self.collection::<RawDocumentBuf>(name);
            let operation = format!("creating the indexes of {name}");
            self.exchange(&operation, collection.create_indexes(indexes))
                .await?;
        }
        Ok(())
    }
}
