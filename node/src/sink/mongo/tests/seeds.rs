//! The current states written as a whole.

use super::super::super::{Checkpoint, Place, Sink, SinkError};
use super::far::{
    Far, claim, created, deleted, event, instance, moved, seed, seeded_at, shown, write,
};
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision};
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

#[tokio::test]
async fn a_seed_replaces_what_is_there_and_forgets_the_rest() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let events: Vec<_> = (1..=1500)
        .map(|n| created(n, &format!("i{n:04}")))
        .collect();
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();

    let begun = seed(2000, Some(1500));
    let pages = [[instance("i0001", "paid")], [instance("new", "sent")]];
    for page in &pages {
        sink.seed(&begun, page).await.unwrap();
    }
    sink.seeded(&begun).await.unwrap();
    let seen = shown([("i0001", "paid", 2000), ("new", "sent", 2000)]);
    assert_eq!(far.instances().await, seen);
    let revision = GlobalRevision(2000);
    let place = Checkpoint {
        cursor: EventCursor::after(revision),
        seeded: revision,
    };
    assert_eq!(sink.open(&claim(1)).await, Ok(Place::At(place)));
    let note = far.document("seeds", "instances/1500-0").await.unwrap();
    assert_eq!(note.get_str("reason").unwrap(), "compacted");
    assert_eq!(far.history().await.len(), 1500);
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_state_that_was_left_out_is_written_later_and_is_no_event() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let from = Checkpoint::default();
    write(&mut sink, from, &[created(1, "a"), created(2, "b")])
        .await
        .unwrap();
    let begun = seed(3, Some(2));
    sink.seed(&begun, &[instance("a", "paid")]).await.unwrap();
    sink.seeded(&begun).await.unwrap();
    assert_eq!(far.instances().await, shown([("a", "paid", 3)]));

    let (id, left_out) = instance("b", "sent");
    let aside = Event::seeded((begun.revision, begun.at), 1, &id, &left_out);
    // As of the seed's own revision, as there was no change since.
    sink.replay(&aside, Some(&left_out), begun.revision)
        .await
        .unwrap();
    let both = shown([("a", "paid", 3), ("b", "sent", 3)]);
    assert_eq!(far.instances().await, both);
    assert_eq!(far.places().await, ["1-0", "2-0"]);
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_state_that_something_else_keeps_out_is_refused_though_a_tombstone_is_as_new() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let from = Checkpoint::default();
    write(&mut sink, from, &[created(1, "a")]).await.unwrap();
    // Somebody's index, and somebody's document in the way.
    let instances = far.database.collection::<Document>("instances");
    let options = IndexOptions::builder().unique(true).sparse(true).build();
    let unique = IndexModel::builder()
        .keys(doc! { "state": 1 })
        .options(options)
        .build();
    instances.create_index(unique).await.unwrap();
    let in_the_way = doc! { "_id": "in the way", "state": "paid", "revision": i64::MAX };
    instances.insert_one(in_the_way).await.unwrap();

    let begun = seed(2, Some(1));
    let page = [instance("a", "paid")];
    let is_refused = |ended| matches!(ended, Err(SinkError::Refused { .. }));
    assert!(is_refused(sink.seed(&begun, &page).await));
    sink.seeded(&begun).await.unwrap();
    // Its tombstone is of the very revision by now.
    let aside = Event::seeded((begun.revision, begun.at), 0, &page[0].0, &page[0].1);
    let current = Some(&page[0].1);
    assert!(is_refused(
        sink.replay(&aside, current, begun.revision).await
    ));
    assert!(is_refused(sink.seed(&begun, &page).await));
    instances
        .delete_one(doc! { "_id": "in the way" })
        .await
        .unwrap();
    sink.replay(&aside, current, begun.revision).await.unwrap();
    assert_eq!(far.instances().await, shown([("a", "paid", 2)]));
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn events_up_to_a_seed_belong_into_the_history_only() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let mut begun = seed(10, None);
    begun.then = EventCursor::default();
    sink.seed(&begun, &[instance("a", "paid")]).await.unwrap();
    sink.seeded(&begun).await.unwrap();
    let place = Checkpoint {
        cursor: EventCursor::default(),
        seeded: GlobalRevision(10),
    };
    assert_eq!(sink.open(&claim(1)).await, Ok(Place::At(place)));
    let events = [
        created(3, "a"),
        created(4, "b"),
        moved(5, "a", "lost"),
        deleted(6, "b"),
        moved(11, "a", "sent"),
    ];
    let from = write(&mut sink, place, &events).await.unwrap();
    assert_eq!(from, seeded_at(11, 10));
    assert_eq!(far.places().await.len(), 5);
    assert_eq!(far.instances().await, shown([("a", "sent", 11)]));
    assert!(far.document("seeds", "instances/nothing").await.is_some());
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_late_page_of_an_earlier_seed_changes_no_instance() {
    let far = Far::start().await;
    let (old, _) = far.opened(1).await;
    let (mut new, _) = far.opened(2).await;
    let later = seed(20, None);
    new.seed(&later, &[instance("a", "paid"), instance("c", "paid")])
        .await
        .unwrap();
    new.seeded(&later).await.unwrap();
    let place = Checkpoint {
        cursor: later.then,
        seeded: later.revision,
    };
    let migrated = event(21, EventKind::Migrated, "a", Some("sent"));
    write(&mut new, place, &[migrated, deleted(22, "c")])
        .await
        .unwrap();

    let open = old.open.unwrap();
    let late = ["a", "c"].map(|name| {
        let (id, instance) = instance(name, "new");
        let current = super::super::Current::of(&instance, GlobalRevision(10));
        super::super::Statement::seeded(&id, &current)
    });
    open.link.put(late.into()).await.unwrap();
    assert_eq!(far.instances().await, shown([("a", "sent", 21)]));
    far.server.leave().await.unwrap();
}
