//! Tests the database with a collection of its own.

use mongodb::bson::{Document, doc};
use mongodb::results::InsertManyResult;

use super::super::{CheckSteps, SinkError};
use super::connection::Connection;
use crate::config::Sink;

/// Takes the steps until one fails. The collection is dropped in any case.
pub(super) async fn check(sink: &Sink, steps: &mut CheckSteps) -> Option<()> {
    let connected = |_: &Connection| format!("database {}", sink.database);
    let connecting = async {
        let connection = Connection::open(sink).await?;
        let ping = connection.database.run_command(doc! { "ping": 1 });
        connection.exchange("connecting", ping).await?;
        Ok(connection)
    };
    let connection = steps.take("connect", connecting, connected).await?;
    let name = format!("lockstep_check_{:016x}", rand::random::<u64>());
    let scratch = connection.collection::<Document>(&name);
    let documents = [1, 2, 3].map(|n| doc! { "_id": n, "n": n });
    let inserting = connection.exchange("inserting", scratch.insert_many(documents));
    let inserted = |_: &InsertManyResult| format!("into {name}");
    let mut passed = steps.take("insert 3", inserting, inserted).await.is_some();
    if passed {
        let finding = async {
            let finding = scratch.find_one(doc! { "n": 2 });
            let found = connection.exchange("finding", finding).await?;
            found.ok_or_else(|| SinkError::unavailable("an inserted document was not found"))
        };
        passed = (steps.take("find one", finding, Document::to_string).await).is_some();
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
