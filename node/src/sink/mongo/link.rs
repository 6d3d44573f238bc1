//! A connection to the database, and the indexes that it must have.

use std::future::IntoFuture;
use std::time::Duration;

use mongodb::bson::{RawDocumentBuf, doc, serialize_to_raw_document_buf};
use mongodb::options::IndexOptions;
use mongodb::{Client, Collection, Database, IndexModel};
use tokio::time::timeout;

use super::super::SinkError;
use super::fault;
use super::options::Settings;

/// How long a tombstone is kept: far longer than any write can be on its way.
const TOMBSTONES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A client of its own, and what it is used for.
pub(super) struct Link {
    /// The database.
    pub(super) database: Database,
    /// The collection of all events.
    pub(super) history: String,
    /// The collection of current states.
    pub(super) instances: String,
    /// What each write waits for, for commands that the driver does not know as writes.
    pub(super) write_concern: RawDocumentBuf,
    /// How long one exchange may take.
    timeout: Duration,
}

impl Link {
    /// Makes a client. It connects with the first exchange.
    pub(super) async fn open(settings: &Settings) -> Result<Self, SinkError> {
        let options = settings.client_options().await?;
        let write_concern = serialize_to_raw_document_buf(&options.write_concern)
            .map_err(|error| fault::misconfigured(format!("its write concern: {error}")))?;
        let client =
            Client::with_options(options).map_err(|error| fault::of("making a client", &error))?;
        Ok(Self {
            database: client.database(&settings.database),
            history: settings.history.clone(),
            instances: settings.instances.clone(),
            write_concern,
            timeout: settings.timeout,
        })
    }

    /// A collection of the database.
    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }

    /// One exchange, within its time; `doing` says what for.
    pub(super) async fn exchange<T>(
        &self,
        doing: &str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, SinkError> {
        let answer = self.attempt(doing, call).await?;
        answer.map_err(|error| fault::of(doing, &error))
    }

    /// The same, with what the driver says left to the caller.
    pub(super) async fn attempt<T>(
        &self,
        doing: &str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<mongodb::error::Result<T>, SinkError> {
        let limit = self.timeout;
        timeout(limit, call.into_future())
            .await
            .map_err(|_| fault::unavailable(format!("{doing} took longer than {limit:?}")))
    }

    /// Makes the indexes that are missing.
    pub(super) async fn make_indexes(&self) -> Result<(), SinkError> {
        let unique = IndexOptions::builder().unique(true).build();
        let passing = IndexOptions::builder()
            .expire_after(TOMBSTONES_KEPT)
            .build();
        let history = [
            IndexModel::builder()
                .keys(doc! { "revision": 1, "position": 1 })
                .options(unique)
                .build(),
            index(doc! { "machine": 1, "instance": 1, "revision": 1 }),
        ];
        let instances = [
            index(doc! { "machine": 1, "state": 1 }),
            IndexModel::builder()
                .keys(doc! { "deleted_at": 1 })
                .options(passing)
                .build(),
        ];
        for (name, indexes) in [(&self.history, history), (&self.instances, instances)] {
            let collection = self.collection::<RawDocumentBuf>(name);
            let doing = format!("making the indexes of {name}");
            self.exchange(&doing, collection.create_indexes(indexes))
                .await?;
        }
        Ok(())
    }
}

fn index(keys: mongodb::bson::Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}
