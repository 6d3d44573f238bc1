//! Failures.

use mongodb::bson::{Document, doc};

use super::super::super::check::check;
use super::super::super::{Checkpoint, Destination, SinkError, StoredCheckpoint};
use super::scripted::Scripted;
use super::server::{TestServer, at, claim, created, cursor, moved, shown, sink, write};

#[tokio::test]
async fn a_killed_server_has_all_that_it_acknowledged() {
    let Some(mut test) = TestServer::start_own().await else {
        return;
    };
    let (mut sink, _) = test.opened(1).await;
    let mut from = Checkpoint::default();
    for n in 1..=2 {
        from = write(&mut sink, from, &[created(n, &format!("i{n}"))])
            .await
            .unwrap();
        let server = test.stand_in();
        server.kill9().unwrap();
        let written = write(&mut sink, from, &[created(n + 1, "next")]).await;
        let Err(SinkError::Unavailable { .. }) = written else {
            panic!("{written:?}");
        };
        server.restart().await.unwrap();
        assert_eq!(sink.open(&claim(1)).await, Ok(StoredCheckpoint::At(from)));
        assert_eq!(test.places().await.len(), usize::try_from(n).unwrap());
    }
}

#[tokio::test]
async fn a_silent_server_times_out_and_may_return() {
    let Some(mut test) = TestServer::start_own().await else {
        return;
    };
    let (mut sink, _) = test.opened(1).await;
    let server = test.stand_in();
    server.pause().unwrap();
    let events = [created(1, "a")];
    let written = write(&mut sink, Checkpoint::default(), &events).await;
    server.resume().unwrap();
    let Err(SinkError::Unavailable { reason, .. }) = written else {
        panic!("{written:?}");
    };
    assert!(reason.contains("took longer than 3s"), "{reason}");
    let checkpoint = sink.open(&claim(1)).await.unwrap();
    assert_eq!(checkpoint, StoredCheckpoint::Empty);
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restored_server_is_noticed_and_caught_up() {
    let Some(mut test) = TestServer::start_own().await else {
        return;
    };
    let (mut sink, _) = test.opened(1).await;
    let first = [created(1, "a")];
    let second = [moved(2, "a", "paid"), created(3, "b")];
    let from = write(&mut sink, Checkpoint::default(), &first)
        .await
        .unwrap();
    let server = test.stand_in();
    let yesterday = server.save().unwrap();
    let from = write(&mut sink, from, &second).await.unwrap();
    server.restore(&yesterday).await.unwrap();

    // The connection broke as well; a restore without that is Moved.
    let written = write(&mut sink, from, &[created(4, "c")]).await;
    assert!(written.is_err(), "{written:?}");
    assert_eq!(sink.open(&claim(1)).await, Ok(StoredCheckpoint::At(at(1))));
    write(&mut sink, at(1), &second).await.unwrap();
    assert_eq!(test.places().await, ["1-0", "2-0", "3-0"]);
    assert_eq!(
        test.instances().await,
        shown([("a", "paid", 2), ("b", "new", 3)])
    );
}

#[tokio::test]
async fn a_check_reports_each_step_and_leaves_nothing() {
    let test = TestServer::start().await;
    let steps = check(&mut test.sink()).await;
    let names: Vec<_> = steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(names, ["connect", "insert 3", "find one", "drop"]);
    assert!(steps.iter().all(|it| it.outcome().is_ok()), "{steps:?}");
    let left = test.database.list_collection_names().await.unwrap();
    assert_eq!(left, Vec::<String>::new());
    test.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_check_ends_with_the_step_that_fails() {
    let server = Scripted::start(|name, _| match name {
        "insert" => refusal(13, "not authorized"),
        _ => doc! { "ok": 1 },
    });
    let server = server.await;
    let mut sink = sink(&server.address(), "x", None);
    let steps = check(&mut sink).await;
    let names: Vec<_> = steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(names, ["connect", "insert 3"]);
    let reason = steps[1].outcome().unwrap_err();
    assert!(reason.contains("not authorized"), "{reason}");
}

#[tokio::test]
async fn wrong_credentials_and_missing_permissions_are_a_misconfiguration() {
    let server = Scripted::start(|name, _| match name {
        "saslStart" => refusal(18, "Authentication failed."),
        _ => doc! { "ok": 1 },
    })
    .await;
    let address = server.address().replace("//", "//ann@");
    let opened = sink(&address, "x", Some("hunter2")).open(&claim(1)).await;
    let Err(SinkError::Misconfigured { reason }) = opened else {
        panic!("{opened:?}");
    };
    assert!(reason.contains("Authentication failed"), "{reason}");
    assert!(!reason.contains("hunter2"), "{reason}");

    let server = Scripted::start(|_, _| refusal(13, "not authorized on x")).await;
    let opened = sink(&server.address(), "x", None).open(&claim(1)).await;
    let Err(SinkError::Misconfigured { reason }) = opened else {
        panic!("{opened:?}");
    };
    assert!(reason.contains("not authorized on x"), "{reason}");
}

#[tokio::test]
async fn the_error_code_of_a_document_decides_how_it_is_handled() {
    for (code, expected) in [
        (121, "rejected"),
        (17419, "rejected"),
        (14031, "unavailable"),
        (10107, "unavailable"),
        (8000, "misconfigured"),
    ] {
        for command in ["insert", "update"] {
            let server =
                Scripted::start(move |name, asked| answer(name, asked, command, code)).await;
            let mut sink = sink(&server.address(), "x", None);
            sink.open(&claim(1)).await.unwrap();
            let events = [created(1, "a"), created(2, "b")];
            let written = write(&mut sink, Checkpoint::default(), &events).await;
            let seen = match written.unwrap_err() {
                SinkError::Rejected { event, .. } => {
                    assert_eq!(event, Some(cursor(2)));
                    "rejected"
                }
                SinkError::Unavailable { .. } => "unavailable",
                SinkError::Misconfigured { .. } => "misconfigured",
                other => panic!("{other:?}"),
            };
            assert_eq!(seen, expected, "{code} to {command}");
        }
    }
}

#[tokio::test]
async fn a_server_that_stepped_down_is_retried() {
    let server = Scripted::start(|_, _| refusal(10107, "not primary")).await;
    let opened = sink(&server.address(), "x", None).open(&claim(1)).await;
    let Err(SinkError::Unavailable { .. }) = opened else {
        panic!("{opened:?}");
    };
}

#[tokio::test]
async fn an_unreachable_address_has_a_short_reason() {
    let port = lockstep_tests::ports::Port::free().unwrap();
    let mut sink = sink(&format!("mongodb://{}", port.address()), "x", None);
    let opened = sink.open(&claim(1)).await;
    let Err(SinkError::Unavailable { reason, .. }) = opened else {
        panic!("{opened:?}");
    };
    assert!(reason.contains("Connection refused"), "{reason}");
    assert!(reason.len() < 120, "{reason}");
}

fn refusal(code: i32, message: &str) -> Document {
    doc! { "ok": 0, "code": code, "codeName": "Named", "errmsg": message }
}

/// Answers of a server to a sink of term 1 that writes for the first time; it rejects the second document
/// of one command.
fn answer(name: &str, asked: &Document, command: &str, code: i32) -> Document {
    let collection = asked.get_str(name).unwrap_or_default();
    if name == command && collection != "sinks" {
        let error = doc! { "index": 1, "code": code, "errmsg": "no" };
        return doc! { "ok": 1, "n": 1, "writeErrors": [error] };
    }
    let of_us = doc! {
        "_id": "instances", "cluster": "c1", "sink": "reports", "history": "history", "term": 1_i64,
    };
    if name != "find" {
        return doc! { "ok": 1, "n": 1, "nModified": 1, "value": of_us };
    }
    let filter = asked.get_document("filter");
    let others = filter.is_ok_and(|filter| filter.contains_key("history"));
    let found = if others { vec![] } else { vec![of_us] };
    doc! { "ok": 1, "cursor": { "id": 0_i64, "ns": "x.sinks", "firstBatch": found } }
}
