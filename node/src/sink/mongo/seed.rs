//! The end of a seed: what was not in it is forgotten, and what it left out is noted.

use futures::TryStreamExt;
use lockstep_machine::EventCursor;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::super::{Checkpoint, Seed, SinkError};
use super::documents::{living_fields, number, place};
use super::hold::Hold;
use super::link::Link;
use super::write::Kept;

/// The collection of what is missing from histories.
const SEEDS: &str = "seeds";
/// How many instances are looked at in one exchange, so that each takes a bounded time however many
/// there are and however few of them are to be forgotten.
const PAGE: u16 = 1000;

/// Ends a seed.
pub(super) async fn end(link: &Link, hold: &mut Hold, seed: &Seed) -> Result<(), SinkError> {
    let mut behind = String::new();
    loop {
        hold.look(link, None).await?;
        match forget_older(link, seed, &behind).await? {
            Some(last) => behind = last,
            None => break,
        }
    }
    // Before the place moves: a gap that is noted twice is still one.
    note(link, hold, seed).await?;
    let to = Checkpoint {
        cursor: seed.then,
        seeded: seed.revision,
    };
    hold.go(link, to).await
}

/// Makes tombstones of the older ones among the next instances behind an id; the last id looked at,
/// or none at the end. Tombstones become as new as the seed too: all that came before it is over.
async fn forget_older(link: &Link, seed: &Seed, behind: &str) -> Result<Option<String>, SinkError> {
    let instances = link.collection::<Kept>(&link.instances);
    let page = async {
        let page = instances
            .find(doc! { "_id": { "$gt": behind } })
            .projection(doc! { "revision": 1 })
            .sort(doc! { "_id": 1 })
            .limit(i64::from(PAGE))
            .batch_size(u32::from(PAGE));
        page.await?.try_collect::<Vec<Kept>>().await
    };
    let page = link.exchange("reading the instances", page).await?;
    let older = |kept: &&Kept| kept.revision < number(seed.revision.0);
    let ids: Vec<&str> = page
        .iter()
        .filter(older)
        .map(|kept| kept.id.as_str())
        .collect();
    if !ids.is_empty() {
        let filter = doc! {
            "_id": { "$in": ids },
            "revision": { "$lt": number(seed.revision.0) },
        };
        let update = doc! {
            "$set": { "revision": number(seed.revision.0), "deleted_at": DateTime::now() },
            "$unset": living_fields(),
        };
        link.exchange("forgetting", instances.update_many(filter, update))
            .await?;
    }
    Ok(page.into_iter().next_back().map(|kept| kept.id))
}

/// Notes which events are missing, under the place where the history ends: a seed that is begun again
/// from there replaces the one that did not come to its end.
async fn note(link: &Link, hold: &Hold, seed: &Seed) -> Result<(), SinkError> {
    let was = seed.was.map_or_else(|| "nothing".to_owned(), place);
    let claim = hold.claim();
    let id = format!("{}/{was}", link.instances);
    let note = doc! {
        "_id": &id,
        "cluster": &claim.cluster,
        "sink": &claim.sink,
        "term": number(claim.term),
        "reason": seed.reason.name(),
        "revision": number(seed.revision.0),
        "at": DateTime::from_millis(number(seed.at.0)),
        "was": seed.was.map_or(Bson::Null, |cursor| Bson::Document(spelled(cursor))),
        "then": spelled(seed.then),
    };
    let seeds = link.collection::<Document>(SEEDS);
    let noted = seeds.replace_one(doc! { "_id": id }, note).upsert(true);
    link.exchange("noting the seed", noted).await.map(drop)
}

fn spelled(cursor: EventCursor) -> Document {
    doc! {
        "revision": number(cursor.revision.0),
        "position": i64::from(cursor.position),
    }
}
