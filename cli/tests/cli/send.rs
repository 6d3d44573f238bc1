//! `lockstep send`.

use lockstep_proto::v1;
use lockstep_proto::v1::transition_request::Trigger;
use lockstep_proto::v1::transition_response::Outcome;

use crate::{done, failed, json, lockstep, metadata, rejection, written};
use lockstep_scripted::{Answer, Node};

#[tokio::test]
async fn an_event_moves_the_instance_and_the_new_state_is_printed_alone() {
    let node = Node::start([Answer::Done]).await;
    let arguments = format!(
        "send order/42 --event pay --expect-state open --expect-revision 3 \
                     --meta who=ann --meta why=a=b --idempotency-key k1 -e {}",
        node.address
    );
    assert_eq!(done(&lockstep(&arguments).await), "second\n");
    let expected = v1::TransitionRequest {
        id: "order/42".to_owned(),
        trigger: Some(Trigger::Event("pay".to_owned())),
        expect_state: Some("open".to_owned()),
        expect_revision: Some(3),
        idempotency_key: Some("k1".to_owned()),
        metadata: metadata(&[("who", "ann"), ("why", "a=b")]),
    };
    assert_eq!(node.asked::<v1::TransitionRequest>(), [expected]);
}

#[tokio::test]
async fn its_json_is_that_of_http() {
    let node = Node::start([Answer::Replayed]).await;
    let output = lockstep(&format!(
        "send order/42 --to paid -e {} -o json",
        node.address
    ))
    .await;
    assert_eq!(
        json(&done(&output)),
        serde_json::json!({
            "transitioned": {
                "id": "order/42", "version": 1, "from": "first", "to": "paid", "event": null,
                "revision": 5, "at": "2023-11-14T22:13:20.000Z",
            },
            "replayed": true, "revision": 17,
        })
    );
}

#[tokio::test]
async fn an_event_that_is_not_allowed_is_refused_with_those_that_are() {
    let node = Node::start([]).await;
    node.on(|_: v1::TransitionRequest| {
        let rejected = v1::Rejected {
            current_state: Some("open".to_owned()),
            current_revision: Some(1),
            events: vec!["pay".to_owned()],
            ..rejection(
                "unknown_event",
                "order/42 is in state \"open\", where event \"ship\" is not allowed; allowed events: pay",
            )
        };
        Ok(v1::TransitionResponse {
            outcome: Some(Outcome::Rejected(rejected)),
            written: written(),
        })
    });
    let arguments = format!("send order/42 --event ship -e {}", node.address);
    let said = failed(&lockstep(&arguments).await, 1);
    assert!(said.contains("allowed events: pay"), "{said}");

    let said = failed(&lockstep(&format!("{arguments} -o json")).await, 1);
    let error = &json(&said)["error"];
    assert_eq!(
        (&error["code"], &error["events"][0]),
        (&"unknown_event".into(), &"pay".into())
    );
}

#[tokio::test]
async fn what_it_cannot_send_is_a_usage_error() {
    for (arguments, part) in [
        ("send order/42", "--event"),
        ("send order/42 --event pay --to paid", "cannot be used with"),
        ("send order --event pay", "machine/name"),
        ("send order/42 --event p!y", "character 2 is '!'"),
        ("send order/42 --event pay --meta who", "KEY=VALUE"),
        ("send order/42 --event pay --meta a=1 --meta a=2", "twice"),
        ("send order/42 --event pay --idempotency-key ", "empty"),
    ] {
        let said = failed(&lockstep(arguments).await, 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
