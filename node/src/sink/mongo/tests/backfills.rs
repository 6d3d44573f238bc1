//! Backfills.

use super::super::super::{Checkpoint, Destination, SinkError, StoredCheckpoint};
use super::super::documents::Statement;
use super::super::write::Target;
use super::server::{
    TestServer, backfill, claim, created, current, deleted, event, instance, moved, now, seeded_at,
    shown, write,
};
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision};
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

#[tokio::test]
async fn a_backfill_replaces_stored_states_and_removes_the_rest() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let events: Vec<_> = (1..=1500)
        .map(|n| created(n, &format!("i{n:04}")))
        .collect();
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();

    let begun = backfill(2000, Some(1500));
    let pages = [
        [current("i0001", "paid", 2000)],
        [current("new", "sent", 2000)],
    ];
    for page in &pages {
        sink.backfill_page(&begun, page).await.unwrap();
    }
    sink.finish_backfill(&begun).await.unwrap();
    let seen = shown([("i0001", "paid", 2000), ("new", "sent", 2000)]);
    assert_eq!(test.instances().await, seen);
    let revision = GlobalRevision(2000);
    let checkpoint = Checkpoint {
        cursor: EventCursor::after(revision),
        seeded: revision,
    };
    assert_eq!(
        sink.open(&claim(1)).await,
        Ok(StoredCheckpoint::At(checkpoint))
    );
    let note = test.document("seeds", "instances/1500-0").await.unwrap();
    assert_eq!(note.get_str("reason").unwrap(), "compacted");
    assert_eq!(test.history().await.len(), 1500);
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_rejected_state_is_replayed_later_and_is_not_an_event() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let from = Checkpoint::default();
    write(&mut sink, from, &[created(1, "a"), created(2, "b")])
        .await
        .unwrap();
    let begun = backfill(3, Some(2));
    sink.backfill_page(&begun, &[current("a", "paid", 3)])
        .await
        .unwrap();
    sink.finish_backfill(&begun).await.unwrap();
    assert_eq!(test.instances().await, shown([("a", "paid", 3)]));

    let (id, left_out) = instance("b", "sent");
    let dead_letter = Event::seeded((begun.revision, begun.at), 1, &id, &left_out);
    // At the backfill's own revision: there was no change since.
    sink.replay(&dead_letter, now("b", "sent", 3))
        .await
        .unwrap();
    let both = shown([("a", "paid", 3), ("b", "sent", 3)]);
    assert_eq!(test.instances().await, both);
    assert_eq!(test.places().await, ["1-0", "2-0"]);
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_state_that_a_unique_index_keeps_out_is_rejected_despite_a_tombstone_of_its_revision() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let from = Checkpoint::default();
    write(&mut sink, from, &[created(1, "a")]).await.unwrap();
    // A user's unique index, and a user's document with the same key.
    let instances = test.database.collection::<Document>("instances");
    let options = IndexOptions::builder().unique(true).sparse(true).build();
    let unique = IndexModel::builder()
        .keys(doc! { "state": 1 })
        .options(options)
        .build();
    instances.create_index(unique).await.unwrap();
    let in_the_way = doc! { "_id": "in the way", "state": "paid", "revision": i64::MAX };
    instances.insert_one(in_the_way).await.unwrap();

    let begun = backfill(2, Some(1));
    let page = [current("a", "paid", 2)];
    let is_refused = |ended| matches!(ended, Err(SinkError::Rejected { .. }));
    assert!(is_refused(sink.backfill_page(&begun, &page).await));
    sink.finish_backfill(&begun).await.unwrap();
    // Its tombstone has the same revision by now.
    let (id, left_out) = instance("a", "paid");
    let dead_letter = Event::seeded((begun.revision, begun.at), 0, &id, &left_out);
    let current = now("a", "paid", 2);
    assert!(is_refused(sink.replay(&dead_letter, current.clone()).await));
    assert!(is_refused(sink.backfill_page(&begun, &page).await));
    instances
        .delete_one(doc! { "_id": "in the way" })
        .await
        .unwrap();
    sink.replay(&dead_letter, current).await.unwrap();
    assert_eq!(test.instances().await, shown([("a", "paid", 2)]));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn events_up_to_a_backfill_are_written_to_the_history_only() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let mut begun = backfill(10, None);
    begun.resume_at = EventCursor::default();
    sink.backfill_page(&begun, &[current("a", "paid", 10)])
        .await
        .unwrap();
    sink.finish_backfill(&begun).await.unwrap();
    let checkpoint = Checkpoint {
        cursor: EventCursor::default(),
        seeded: GlobalRevision(10),
    };
    assert_eq!(
        sink.open(&claim(1)).await,
        Ok(StoredCheckpoint::At(checkpoint))
    );
    let events = [
        created(3, "a"),
        created(4, "b"),
        moved(5, "a", "lost"),
        deleted(6, "b"),
        moved(11, "a", "sent"),
    ];
    let from = write(&mut sink, checkpoint, &events).await.unwrap();
    assert_eq!(from, seeded_at(11, 10));
    assert_eq!(test.places().await.len(), 5);
    assert_eq!(test.instances().await, shown([("a", "sent", 11)]));
    assert!(test.document("seeds", "instances/nothing").await.is_some());
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_late_page_of_an_earlier_backfill_changes_no_instance() {
    let test = TestServer::start().await;
    let (old, _) = test.opened(1).await;
    let (mut new, _) = test.opened(2).await;
    let later = backfill(20, None);
    new.backfill_page(
        &later,
        &[current("a", "paid", 20), current("c", "paid", 20)],
    )
    .await
    .unwrap();
    new.finish_backfill(&later).await.unwrap();
    let checkpoint = Checkpoint {
        cursor: later.resume_at,
        seeded: later.revision,
    };
    let migrated = event(21, EventKind::Migrated, "a", Some("sent"));
    write(&mut new, checkpoint, &[migrated, deleted(22, "c")])
        .await
        .unwrap();

    let claimed = old.claimed.unwrap();
    let late = ["a", "c"].map(|name| {
        let late = now(name, "new", 10).unwrap();
        Statement::update(&late, true, None)
    });
    let put = claimed.connection.put(Target::Instances, late.into_iter());
    put.await.unwrap();
    assert_eq!(test.instances().await, shown([("a", "sent", 21)]));
    test.server.leave().await.unwrap();
}
