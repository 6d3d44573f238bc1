//! `lockstep txn`.

use std::fs;

use lockstep_proto::v1;
use lockstep_proto::v1::operation::Operation;
use lockstep_proto::v1::transact_response::Outcome;

use crate::{done, failed, fed, json, lockstep, rejection, written};
use lockstep_scripted::{Answer, Node};

const PAY: &str = "\
operations:
  - check: {id: stock/7, state: free}
  - create: {id: shipment/7, metadata: {order: '42'}}
  - transition: {id: order/42, event: pay, expect_revision: 3}
  - delete: {id: hold/42, expect_state: held}
";

#[tokio::test]
async fn a_transaction_says_what_became_of_each_operation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pay.yaml");
    fs::write(&file, PAY).expect("a file");
    let node = Node::start([Answer::Done, Answer::Done]).await;
    let file = file.to_str().expect("text");
    let txn = format!("txn {file} --idempotency-key k1 -e {}", node.address);
    assert_eq!(
        done(&lockstep(&txn).await),
        "OPERATION  INSTANCE    RESULT\n\
         0          stock/7     holds\n\
         1          shipment/7  created in first\n\
         2          order/42    first to second\n\
         3          hold/42     deleted in first\n"
    );
    let asked = node.asked::<v1::TransactRequest>();
    assert_eq!(asked[0].idempotency_key.as_deref(), Some("k1"));
    let operations: Vec<_> = asked[0]
        .operations
        .iter()
        .map(|it| it.operation.clone())
        .collect();
    assert!(
        matches!(&operations[2], Some(Operation::Transition(it)) if it.expect_revision == Some(3))
    );

    let body = json(&done(&lockstep(&format!("{txn} -o json")).await));
    assert_eq!(body["results"][0], serde_json::json!({"checked": true}));
    assert_eq!(body["results"][1]["created"]["id"], "shipment/7");
    assert_eq!(
        (&body["replayed"], &body["revision"]),
        (&false.into(), &17.into())
    );
}

#[tokio::test]
async fn a_rejection_names_the_operation_and_why() {
    let node = Node::start([]).await;
    node.on(|_: v1::TransactRequest| {
        let reason = v1::Rejected {
            current_state: Some("shipped".to_owned()),
            ..rejection(
                "unknown_event",
                "order/42 is in state \"shipped\", where event \"pay\" is not allowed",
            )
        };
        let rejected = v1::Rejected {
            operation: Some(2),
            message: format!("operation 2: {}", reason.message),
            reason: Some(Box::new(reason)),
            ..rejection("operation_failed", "")
        };
        Ok(v1::TransactResponse {
            outcome: Some(Outcome::Rejected(rejected)),
            written: written(),
        })
    });
    let txn = format!("txn - -e {}", node.address);
    let said = failed(&fed(&txn, PAY).await, 1);
    for part in [
        "operation 2: order/42 is in state \"shipped\", where event \"pay\" is not allowed",
        "the transition of order/42",
        "no operation of the transaction was executed",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let said = failed(&fed(&format!("{txn} -o json"), PAY).await, 1);
    let error = &json(&said)["error"];
    assert_eq!(
        (
            &error["code"],
            &error["operation"],
            &error["reason"]["code"]
        ),
        (
            &"operation_failed".into(),
            &2.into(),
            &"unknown_event".into()
        )
    );
}

#[tokio::test]
async fn a_document_that_is_none_is_rejected_with_its_place() {
    for (text, parts) in [
        ("", ["is empty", "standard input"]),
        (
            "{\"operations\": [}",
            ["line 1, column 17", "standard input"],
        ),
        ("operations:\n  - crate: {id: a/b}\n", ["crate", "line 2"]),
        (
            "operations:\n  - check: {id: a/b}\n",
            ["operations[0].check", "exactly one of"],
        ),
    ] {
        let said = failed(&fed("txn -", text).await, 2);
        assert!(
            parts.iter().all(|part| said.contains(part)),
            "{text}: {said}"
        );
    }
}
