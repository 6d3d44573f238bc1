//! What is stored in the database.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use lockstep_machine::{Event, EventKind, GlobalRevision};
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::super::super::{Change, Checkpoint, Destination, SinkError, StoredCheckpoint};
use super::super::documents::Statement;
use super::super::write::Target;
use super::server::{
    TestServer, at, claim, created, cursor, deleted, event, moved, now, shown, write,
};

#[tokio::test]
async fn events_become_documents_with_all_their_fields() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let definition = Event {
        name: None,
        ..(*event(2, EventKind::Defined, "x", None)).clone()
    };
    let second = Event {
        position: 1,
        ..(*moved(2, "a", "paid")).clone()
    };
    let events = [created(1, "a"), Arc::new(definition), Arc::new(second)];
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();

    assert_eq!(test.places().await, ["1-0", "2-0", "2-1"]);
    let first = test.document("history", "1-0").await.unwrap();
    for (key, value) in [("kind", "created"), ("machine", "order"), ("instance", "a")] {
        assert_eq!(first.get_str(key).unwrap(), value, "{first}");
    }
    let at = first.get_datetime("at").unwrap();
    assert_eq!(at.timestamp_millis(), 1_700_000_000_001);
    let labels = doc! { "by": "ann", "a%2Eb": "dot", "%24c%25": "dollar" };
    let kept = first.get_document("metadata").unwrap();
    assert_eq!(kept.len(), labels.len());
    for (key, value) in &labels {
        assert_eq!(kept.get(key), Some(value), "{kept}");
    }
    assert!(
        !test
            .document("history", "2-0")
            .await
            .unwrap()
            .contains_key("instance")
    );

    let shown = test.document("instances", "order/a").await.unwrap();
    assert_eq!(shown.get_str("state").unwrap(), "paid");
    let labels = shown.get_document("metadata").unwrap();
    assert_eq!(labels.get_str("by").unwrap(), "ann");
    assert!(shown.contains_key("created_at") && !shown.contains_key("deleted_at"));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_repeated_write_changes_nothing() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let events = [
        created(1, "a"),
        created(2, "b"),
        moved(3, "a", "paid"),
        deleted(4, "b"),
    ];
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();
    let before = (test.history().await, test.instances().await);

    // As if the node had crashed before the checkpoint was stored.
    let sinks = test.database.collection::<Document>("sinks");
    let checkpoint = doc! { "$unset": { "revision": "", "position": "", "seeded": "" } };
    sinks
        .update_one(doc! { "_id": "instances" }, checkpoint)
        .await
        .unwrap();
    let (mut sink, checkpoint) = test.opened(2).await;
    assert_eq!(checkpoint, StoredCheckpoint::Empty);
    let from = write(&mut sink, Checkpoint::default(), &events[..2])
        .await
        .unwrap();
    assert_eq!(test.instances().await, shown([("a", "paid", 3)]));
    let from = write(&mut sink, from, &events[2..]).await.unwrap();
    assert_eq!(from, at(4));
    assert_eq!((test.history().await, test.instances().await), before);
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_is_created_again_is_a_new_one() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let mut from = Checkpoint::default();
    for (events, seen) in [
        (
            vec![created(1, "a"), moved(2, "a", "paid")],
            shown([("a", "paid", 2)]),
        ),
        (vec![deleted(3, "a")], shown([])),
        (vec![created(4, "a")], shown([("a", "new", 4)])),
        (
            vec![deleted(5, "a"), created(6, "a")],
            shown([("a", "new", 6)]),
        ),
        (vec![moved(7, "a", "paid"), deleted(8, "a")], shown([])),
    ] {
        from = write(&mut sink, from, &events).await.unwrap();
        assert_eq!(test.instances().await, seen, "{from:?}");
    }
    let tombstone = test.document("instances", "order/a").await.unwrap();
    let mut keys: Vec<&str> = tombstone.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["_id", "deleted_at", "revision"]);
    assert_eq!(test.places().await.len(), 8);
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn the_server_removes_tombstones_after_a_day() {
    let test = TestServer::start().await;
    test.opened(1).await;
    let instances = test.database.collection::<Document>("instances");
    let indexes: Vec<IndexModel> = instances
        .list_indexes()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let passing = indexes
        .iter()
        .find(|index| index.keys.contains_key("deleted_at"));
    let options = passing.unwrap().options.as_ref().unwrap();
    assert_eq!(options.expire_after, Some(Duration::from_secs(86_400)));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_late_write_of_an_earlier_term_changes_no_instance() {
    let test = TestServer::start().await;
    let (old, _) = test.opened(1).await;
    let (mut new, _) = test.opened(2).await;
    let events = [
        created(1, "a"),
        created(2, "b"),
        moved(3, "a", "paid"),
        deleted(4, "b"),
    ];
    write(&mut new, Checkpoint::default(), &events)
        .await
        .unwrap();

    // It checked its claim before the other one was taken, and its write arrives only now.
    let connection = old.claimed.unwrap().connection;
    let late = super::super::super::changes(&events[..2], GlobalRevision(0));
    let late = late.iter().map(|it| Statement::update(it, false, None));
    connection.put(Target::Instances, late).await.unwrap();
    let late = events[..2].iter().map(|it| Statement::insert(it));
    connection.put(Target::History, late).await.unwrap();
    assert_eq!(test.instances().await, shown([("a", "paid", 3)]));
    assert_eq!(test.places().await.len(), 4);
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_document_that_a_users_index_rejects_is_named() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let unique = IndexOptions::builder().unique(true).build();
    for (collection, key) in [("instances", "metadata.by"), ("history", "event")] {
        let index = IndexModel::builder()
            .keys(doc! { key: 1 })
            .options(unique.clone())
            .build();
        let collection = test.database.collection::<Document>(collection);
        collection.create_index(index).await.unwrap();
    }
    let from = write(&mut sink, Checkpoint::default(), &[created(1, "a")])
        .await
        .unwrap();
    let named = Event {
        event: Some("pay".parse().unwrap()),
        ..(*created(2, "b")).clone()
    };
    let named = Arc::new(named);
    let refused = write(&mut sink, from, std::slice::from_ref(&named))
        .await
        .unwrap_err();
    let SinkError::Rejected { event, reason } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*event, Some(cursor(2)), "{reason}");
    assert!(reason.contains("11000"), "{reason}");
    assert_eq!(test.instances().await, shown([("a", "new", 1)]));

    // The history has it by now; an event that is rejected there is named as well.
    let again = Event {
        name: None,
        ..(*named).clone()
    };
    let again = Arc::new(Event {
        revision: GlobalRevision(3),
        ..again
    });
    let events = [again, moved(4, "a", "paid")];
    let refused = write(&mut sink, from, &events).await.unwrap_err();
    let SinkError::Rejected { event, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(event, Some(cursor(3)));
    // Without it, the checkpoint advances over it.
    let from = write(&mut sink, from, &events[1..]).await.unwrap();
    assert_eq!(sink.open(&claim(1)).await, Ok(StoredCheckpoint::At(from)));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_replayed_event_is_written_with_the_current_state() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let events = [created(1, "a"), created(2, "b"), moved(9, "a", "paid")];
    let from = write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();
    let removed = Change::Deleted {
        id: "order/b".parse().unwrap(),
        revision: GlobalRevision(9),
    };
    for (dead_letter, now) in [
        (moved(5, "c", "paid"), now("c", "sent", 9)),
        (deleted(6, "b"), Some(removed)),
        (moved(4, "a", "lost"), now("a", "paid", 9)),
    ] {
        sink.replay(&dead_letter, now).await.unwrap();
    }
    assert_eq!(
        test.places().await,
        ["1-0", "2-0", "4-0", "5-0", "6-0", "9-0"]
    );
    assert_eq!(
        test.instances().await,
        shown([("a", "paid", 9), ("c", "sent", 9)])
    );
    assert_eq!(sink.open(&claim(1)).await, Ok(StoredCheckpoint::At(from)));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn large_batches_are_written_in_several_exchanges() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(1).await;
    let events: Vec<_> = (1..=2100).map(|n| created(n, &format!("i{n}"))).collect();
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();
    assert_eq!(test.places().await.len(), 2100);
    assert_eq!(test.instances().await.len(), 2100);
    test.server.leave().await.unwrap();
}
