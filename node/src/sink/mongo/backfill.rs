//! The end of a backfill: removes the instances that it did not contain, and records the gap in the
//! history.

use futures::TryStreamExt;
use lockstep_machine::EventCursor;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::super::{Backfill, SinkError, signed};
use super::claim::Claimed;
use super::connection::Connection;
use super::documents::{date, living_fields};
use super::write::Stored;

/// The collection that records backfills.
const SEEDS: &str = "seeds";
/// Instances looked at in one exchange, so that each takes a bounded time however many instances there
/// are and however few of them are removed.
const PAGE: u16 = 1000;

pub(super) async fn finish(claimed: &mut Claimed, backfill: &Backfill) -> Result<(), SinkError> {
    let mut after = String::new();
    loop {
        claimed.verify().await?;
        match remove_older(&claimed.connection, backfill, &after).await? {
            Some(last) => after = last,
            None => break,
        }
    }
    // Before the checkpoint advances: a gap that is recorded twice is still one.
    record_gap(claimed, backfill).await?;
    claimed.set_checkpoint(backfill.checkpoint()).await
}

/// Makes tombstones of the older ones among the next instances after an id. The last id looked at, or
/// `None` at the end. Existing tombstones get the backfill's revision too, so that they also stop writes
/// from before it.
async fn remove_older(
    connection: &Connection,
    backfill: &Backfill,
    after: &str,
) -> Result<Option<String>, SinkError> {
    let revision = signed(backfill.revision.0);
    let instances = connection.collection::<Stored>(&connection.instances);
    let page = async {
        let page = instances
            .find(doc! { "_id": { "$gt": after } })
            .projection(doc! { "revision": 1 })
            .sort(doc! { "_id": 1 })
            .limit(i64::from(PAGE))
            .batch_size(u32::from(PAGE));
        page.await?.try_collect::<Vec<Stored>>().await
    };
    let page = connection.exchange("reading the instances", page).await?;
    let older = page.iter().filter(|stored| stored.revision < revision);
    let ids: Vec<&str> = older.map(|stored| stored.id.as_str()).collect();
    if !ids.is_empty() {
        let filter = doc! { "_id": { "$in": ids }, "revision": { "$lt": revision } };
        let update = doc! {
            "$set": { "revision": revision, "deleted_at": DateTime::now() },
            "$unset": living_fields(),
        };
        let removing = instances.update_many(filter, update);
        connection.exchange("removing instances", removing).await?;
    }
    Ok(page.into_iter().next_back().map(|stored| stored.id))
}

/// Records which events are missing, under the cursor where the history ends: a backfill that is
/// repeated from there replaces the record of the unfinished one.
async fn record_gap(claimed: &Claimed, backfill: &Backfill) -> Result<(), SinkError> {
    let previous = (backfill.previous).map_or("nothing".to_owned(), |it| it.to_string());
    let connection = &claimed.connection;
    let claim = &claimed.claim;
    let id = format!("{}/{previous}", connection.instances);
    let previous = backfill.previous.map(cursor_document);
    let record = doc! {
        "_id": &id,
        "cluster": &claim.cluster,
        "sink": &claim.sink,
        "term": signed(claim.term),
        "reason": backfill.reason.name(),
        "revision": signed(backfill.revision.0),
        "at": date(backfill.at),
        "was": previous.map_or(Bson::Null, Bson::Document),
        "then": cursor_document(backfill.resume_at),
    };
    let seeds = connection.collection::<Document>(SEEDS);
    let recording = seeds.replace_one(doc! { "_id": id }, record).upsert(true);
    let recorded = connection.exchange("recording the backfill", recording);
    recorded.await.map(drop)
}

fn cursor_document(cursor: EventCursor) -> Document {
    doc! {
        "revision": signed(cursor.revision.0),
        "position": i64::from(cursor.position),
    }
}
