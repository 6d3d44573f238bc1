//! Claims.

use mongodb::bson::{Document, doc};

use super::super::super::{Checkpoint, Claim, Destination, SinkError, StoredCheckpoint};
use super::server::{
    TestServer, at, backfill, claim, created, current, cursor, moved, shown, write,
};

#[tokio::test]
async fn a_later_term_ends_the_claim_of_an_earlier_one() {
    let test = TestServer::start().await;
    let (mut old, checkpoint) = test.opened(3).await;
    assert_eq!(checkpoint, StoredCheckpoint::Empty);
    let from = write(&mut old, Checkpoint::default(), &[created(1, "a")]).await;
    let from = from.unwrap();

    let (mut new, checkpoint) = test.opened(4).await;
    assert_eq!(checkpoint, StoredCheckpoint::At(from));
    let fenced = SinkError::Fenced { term: 4 };
    let written = write(&mut old, from, &[moved(2, "a", "paid")]).await;
    assert_eq!(written, Err(fenced.clone()));
    let only_on = write(&mut old, from, &[]).await;
    assert_eq!(only_on, Err(fenced.clone()));
    let seeded = old
        .backfill_page(&backfill(2, None), &[current("a", "paid", 2)])
        .await;
    assert_eq!(seeded, Err(fenced.clone()));
    assert_eq!(
        old.finish_backfill(&backfill(2, None)).await,
        Err(fenced.clone())
    );
    assert_eq!(old.open(&claim(3)).await, Err(fenced));
    assert_eq!(test.places().await, ["1-0"]);
    assert_eq!(test.instances().await, shown([("a", "new", 1)]));

    write(&mut new, from, &[moved(2, "a", "paid")])
        .await
        .unwrap();
    assert_eq!(test.instances().await, shown([("a", "paid", 2)]));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_node_that_leads_in_the_same_term_again_continues() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(3).await;
    let from = write(&mut sink, Checkpoint::default(), &[created(1, "a")]).await;
    let checkpoint = sink.open(&claim(3)).await.unwrap();
    assert_eq!(checkpoint, StoredCheckpoint::At(from.unwrap()));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn collections_of_another_sink_are_not_written() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(3).await;
    for (cluster, name) in [("c2", "reports"), ("c1", "others")] {
        let other = Claim {
            cluster: cluster.to_owned(),
            sink: name.to_owned(),
            term: 9,
        };
        let refused = test.sink().open(&other).await.unwrap_err();
        let SinkError::Misconfigured { reason } = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("belong to sink reports of "), "{reason}");
    }
    write(&mut sink, Checkpoint::default(), &[created(1, "a")])
        .await
        .unwrap();
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_foreign_collection_with_a_reserved_name_is_not_written() {
    let test = TestServer::start().await;
    let sinks = test.database.collection::<Document>("sinks");
    sinks
        .insert_one(doc! { "_id": "instances", "depth": 7 })
        .await
        .unwrap();
    let opened = test.sink().open(&claim(1)).await;
    let Err(SinkError::Misconfigured { reason }) = opened else {
        panic!("{opened:?}");
    };
    assert!(reason.contains("not written by Lockstep"), "{reason}");
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn two_sinks_may_share_a_database_but_no_history() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(3).await;
    let sinks = test.database.collection::<Document>("sinks");
    let other = doc! {
        "_id": "others", "cluster": "c2", "sink": "old", "history": "archive", "term": 1_i64,
    };
    sinks.insert_one(other).await.unwrap();
    assert_eq!(sink.open(&claim(3)).await, Ok(StoredCheckpoint::Empty));
    let shared = doc! { "$set": { "history": "history" } };
    sinks
        .update_one(doc! { "_id": "others" }, shared)
        .await
        .unwrap();
    let opened = sink.open(&claim(3)).await;
    let Err(SinkError::Misconfigured { reason }) = opened else {
        panic!("{opened:?}");
    };
    assert!(reason.contains("history belongs to sink old"), "{reason}");
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_database_whose_checkpoint_changed_is_not_written() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(3).await;
    let events = [created(1, "a"), moved(2, "a", "paid")];
    let from = write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();
    let sinks = test.database.collection::<Document>("sinks");
    let back = doc! { "$set": { "revision": 1_i64 } };
    sinks
        .update_one(doc! { "_id": "instances" }, back)
        .await
        .unwrap();

    let written = write(&mut sink, from, &[moved(3, "a", "sent")]).await;
    assert_eq!(written, Err(SinkError::Moved));
    assert_eq!(write(&mut sink, from, &[]).await, Err(SinkError::Moved));
    assert_eq!(test.places().await, ["1-0", "2-0"]);
    let checkpoint = sink.open(&claim(3)).await.unwrap();
    assert_eq!(checkpoint, StoredCheckpoint::At(at(1)));

    sinks.drop().await.unwrap();
    let written = write(&mut sink, at(1), &[moved(3, "a", "sent")]).await;
    assert_eq!(written, Err(SinkError::Moved));
    assert_eq!(sink.open(&claim(3)).await, Ok(StoredCheckpoint::Empty));
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_does_not_start_at_the_checkpoint_is_not_written() {
    let test = TestServer::start().await;
    let (mut sink, _) = test.opened(3).await;
    let written = write(&mut sink, at(7), &[created(8, "a")]).await;
    assert_eq!(written, Err(SinkError::Moved));
    let from = Checkpoint::default();
    let events = [created(8, "a")];
    let from = write(&mut sink, from, &events).await.unwrap();
    assert_eq!(from.cursor, cursor(8));
    test.server.leave().await.unwrap();
}
