//! Tests the database with a collection of its own.

use mongodb::Collection;
use mongodb::bson::{Document, doc};

use super::super::{CheckSteps, SinkError};
use super::connection::Connection;
use crate::config::{DatabaseSink, Sink};

/// Takes the steps until one fails. The collection is dropped in any case.
pub(super) async fn check(sink: &Sink, mongo: &DatabaseSink, steps: &mut CheckSteps) -> Option<()> {
    let connected = |_: &Connection| format!("database {}", mongo.namespace);
    let connecting = async {
        let connection = Connection::open(sink, mongo).await?;
        let ping = connection.database.run_command(doc! { "ping": 1 });
        connection.exchange("connecting", ping).await?;
        Ok(connection)
    };
    let connection = steps.take("connect", connecting, connected).await?;
    let name = format!("lockstep_check_{:016x}", rand::random::<u64>());
    let scratch = connection.collection::<Document>(&name);
    let inserted = |(): &()| format!("into {name}");
    let inserting = insert(&connection, &scratch);
    let mut passed = steps.take("insert 3", inserting, inserted).await.is_some();
    if passed {
        let finding = find(&connection, &scratch);
        passed = (steps.take("find one", finding, ToString::to_string).await).is_some();
    }
    let dropping = connection.exchange("dropping", scratch.drop());
    if !passed {
        // The step that failed is reported already.
        let _ = dropping.await;
        return None;
    }
    let dropped = |(): &()| format!("dropped {name}");
    steps.take("drop", dropping, dropped).await
}

async fn insert(connection: &Connection, scratch: &Collection<Document>) -> Result<(), SinkError> {
    let documents = [1, 2, 3].map(|n| doc! { "_id": n, "n": n });
    let inserting = scratch.insert_many(documents);
    let inserted = connection.exchange("inserting", inserting).await?;
    match inserted.inserted_ids.len() {
        3 => Ok(()),
        some => Err(SinkError::unavailable(format!(
            "{some} of 3 documents were inserted"
        ))),
    }
}

async fn find(
    connection: &Connection,
    scratch: &Collection<Document>,
) -> Result<Document, SinkError> {
    let finding = scratch.find_one(doc! { "n": 2 });
    let found = connection.exchange("finding", finding).await?;
    found.ok_or_else(|| SinkError::unavailable("an inserted document was not found"))
}
