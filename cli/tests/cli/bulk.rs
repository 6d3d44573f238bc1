//! `lockstep instance create --from` and `lockstep instance import`: many lines, some of them bad.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use lockstep_proto::v1;
use lockstep_proto::v1::create_instance_response::Outcome;
use lockstep_proto::v1::transition_request::Trigger;

use crate::{
    ORDER, code, failed, fed, json, lockstep, order_machine, rejection, stderr, stdout, written,
};
use lockstep_scripted::{Node, closed_port};

/// A node that creates orders in state `open`, each once.
async fn creating() -> Node {
    let node = Node::start([]).await;
    let known = Arc::new(Mutex::new(HashSet::new()));
    node.on(move |request: v1::CreateInstanceRequest| {
        let mut known = known.lock().expect("no test panics inside");
        let id = match request.id.contains('/') {
            true => request.id,
            false => format!("{}/made-{}", request.id, known.len()),
        };
        let outcome = match known.insert(id.clone()) {
            true => Outcome::Created(v1::Created {
                id,
                version: request.version.unwrap_or(2),
                state: "open".to_owned(),
                at_ms: 1_700_000_000_000,
            }),
            false => Outcome::Rejected(v1::Rejected {
                current_state: Some("paid".to_owned()),
                current_revision: Some(1),
                ..rejection(
                    "instance_exists",
                    &format!("{id} already exists, in state \"paid\""),
                )
            }),
        };
        Ok(v1::CreateInstanceResponse {
            outcome: Some(outcome),
            written: written(),
        })
    });
    node
}

#[tokio::test]
async fn every_good_line_is_done_and_every_bad_one_is_named_by_its_number() {
    let node = creating().await;
    let input = r#"{"id": "a", "metadata": {"customer": "ann"}, "version": 1}
{"id": "b"

{"id": "order/c"}
{"id": "d", "mettadata": {}}
{"id": "e", "metadata": {"x": "1", "x": "2"}}
{"id": "stock/f"}
{"id": "g", "id": "h"}
{"id": "a"}
{}"#;
    let create = format!("instance create order --from - -e {}", node.address);
    let output = fed(&create, input).await;
    assert_eq!(code(&output), Some(2));
    assert_eq!(stdout(&output), "order/a\norder/c\norder/made-2\n");
    let said = stderr(&output);
    for parts in [
        ["line 2: ", "it ends too early"],
        [
            "line 5: ",
            "there is no field \"mettadata\"; did you mean \"metadata\"?",
        ],
        ["line 6: ", "the key is given twice"],
        ["line 7: ", "stock/f is not an instance of order"],
        ["line 8: ", "the field \"id\" appears twice"],
        ["line 9: ", "order/a already exists"],
    ] {
        let line = said.lines().find(|line| line.contains(parts[0]));
        assert!(
            line.is_some_and(|line| line.contains(parts[1])),
            "{parts:?} is not in\n{said}"
        );
    }
    assert!(
        said.ends_with("3 created, 6 failed: lines 2, 5, 6, 7, 8, 9\n"),
        "{said}"
    );

    let asked = node.asked::<v1::CreateInstanceRequest>();
    let first = asked
        .iter()
        .find(|request| request.id == "order/a")
        .expect("it was asked for");
    assert_eq!((first.version, first.metadata.len()), (Some(1), 1));
    assert!(first.idempotency_key.is_some(), "a retry does it once");
}

#[tokio::test]
async fn in_json_the_good_and_the_bad_are_lines_of_their_own() {
    let node = creating().await;
    let create = format!("instance create order --from - -o json -e {}", node.address);
    let output = fed(&create, "{\"id\": \"a\"}\n[]\n").await;
    assert_eq!(json(&stdout(&output))["created"]["id"], "order/a");
    let said: Vec<_> = stderr(&output)
        .lines()
        .map(|line| json(line)["error"].clone())
        .collect();
    assert_eq!(
        (&said[0]["code"], &said[0]["line"]),
        (&"invalid_line".into(), &2.into())
    );
    assert_eq!(
        (&said[1]["code"], &said[1]["created"], &said[1]["failed"]),
        (&"incomplete".into(), &1.into(), &1.into())
    );
}

#[tokio::test]
async fn the_same_file_can_be_given_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.jsonl");
    std::fs::write(&file, "{\"id\": \"a\"}\n{\"id\": \"b\"}\n").expect("a file");
    let node = creating().await;
    let file = file.to_str().expect("text");
    let create = format!("instance create order --from {file} -e {}", node.address);
    let output = lockstep(&create).await;
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(0), "order/a\norder/b\n")
    );
    assert_eq!(stderr(&output), "lockstep: 2 created\n");

    let output = lockstep(&create).await;
    assert_eq!(code(&output), Some(1), "rejected by the machine");
    let output = lockstep(&format!("{create} --skip-existing")).await;
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(0), ""));
    assert_eq!(stderr(&output), "lockstep: 0 created, 2 already existed\n");
}

#[tokio::test]
async fn no_more_lines_are_worked_on_at_once_than_asked_for() {
    let node = creating().await;
    let input: String = (0..200).map(|n| format!("{{\"id\": \"{n}\"}}\n")).collect();
    let create = format!(
        "instance create order --concurrency 4 --from - -e {}",
        node.address
    );
    let output = fed(&create, &input).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let printed: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
    let expected: Vec<_> = (0..200).map(|n| format!("order/{n}")).collect();
    assert_eq!(printed, expected, "in the order of the lines");
    for bad in ["0", "257", "x"] {
        let arguments = format!("instance create order --from - --concurrency {bad}");
        let said = failed(&lockstep(&arguments).await, 2);
        assert!(said.contains("a whole number from 1 to 256"), "{said}");
    }
}

#[tokio::test]
async fn when_no_node_answers_it_gives_up_and_says_where() {
    let input: String = (0..1000)
        .map(|n| format!("{{\"id\": \"{n}\"}}\n"))
        .collect();
    let dead = closed_port();
    let create =
        format!("instance create order --concurrency 2 --timeout 200ms --from - -e {dead}");
    let output = fed(&create, &input).await;
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(3), ""));
    let said = stderr(&output);
    assert!(said.contains("given up after line"), "{said}");
    assert!(said.lines().count() < 20, "{said}");
}

#[tokio::test]
async fn what_makes_no_sense_in_bulk_is_a_usage_error() {
    for (arguments, part) in [
        ("instance create order/42 --from x", "use order instead"),
        ("instance create order --from /nowhere", "No such file"),
        (
            "instance create order --from x --meta a=b",
            "cannot be used with",
        ),
        ("instance create order --skip-existing", "--from"),
        ("instance import /nowhere", "No such file"),
        ("instance import", "FILE"),
    ] {
        let said = failed(&lockstep(arguments).await, 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

const EXPORTED: &str = r#"{"id":"order/1","version":2,"state":"open","revision":0,"created_at":null,"changed_at":null,"allowed":["paid"],"events":["pay"],"metadata":{"customer":"ann"},"deadline":"2023-11-14T22:13:20.000Z","timeout_to":"expired"}
{"id":"order/2","version":2,"state":"shipped","revision":2,"created_at":null,"changed_at":null,"allowed":[]}
{"id":"order/1","version":2,"state":"paid","revision":1,"created_at":null,"changed_at":null,"allowed":[]}
"#;

#[tokio::test]
async fn an_import_creates_what_is_not_there_and_says_where_the_state_differs() {
    let node = creating().await;
    let import = format!("instance import - -e {}", node.address);
    let output = fed(&import, EXPORTED).await;
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(1), "order/1\norder/2\n")
    );
    let said = stderr(&output);
    for part in [
        "line 2: order/2 was created in state \"open\", but was exported in state \"shipped\"",
        "2 created, 1 of them in another state than exported, 1 already existed: line 2",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let asked = node.asked::<v1::CreateInstanceRequest>();
    let first = asked
        .iter()
        .find(|request| request.id == "order/1")
        .expect("it was asked for");
    assert_eq!(first.version, Some(2));
    assert_eq!(
        first.metadata.get("customer").map(String::as_str),
        Some("ann")
    );
    assert!(node.asked::<v1::TransitionRequest>().is_empty());
}

#[tokio::test]
async fn an_import_that_walks_takes_real_transitions_and_marks_them() {
    let node = creating().await;
    node.on(|_: v1::GetMachineRequest| Ok(order_machine()));
    node.on(|request: v1::TransitionRequest| {
        let Some(Trigger::To(to)) = request.trigger else {
            return Err(tonic::Status::unimplemented("events"));
        };
        let made = v1::Transitioned {
            id: request.id,
            version: 2,
            from: request.expect_state.unwrap_or_default(),
            to,
            event: None,
            revision: 1,
            at_ms: 1_700_000_000_000,
        };
        Ok(v1::TransitionResponse {
            outcome: Some(v1::transition_response::Outcome::Transitioned(made)),
            written: written(),
        })
    });
    let import = format!("instance import - --walk -e {}", node.address);
    let output = fed(&import, EXPORTED).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let steps: Vec<_> = node
        .asked::<v1::TransitionRequest>()
        .into_iter()
        .map(|it| {
            (
                it.id,
                it.expect_state,
                it.trigger,
                it.metadata.get("import").cloned(),
            )
        })
        .collect();
    let step = |from: &str, to: &str| {
        let to = Some(Trigger::To(to.to_owned()));
        let mark = Some("walk to shipped".to_owned());
        ("order/2".to_owned(), Some(from.to_owned()), to, mark)
    };
    assert_eq!(steps, [step("open", "paid"), step("paid", "shipped")]);

    // A state that only a timeout leads to cannot be walked to.
    let expired = r#"{"id": "order/3", "state": "expired"}"#;
    let output = fed(&import, expired).await;
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(1), "order/3\n")
    );
    let said = stderr(&output);
    assert!(
        said.contains("no transitions lead to \"expired\""),
        "{said}"
    );
    assert!(ORDER.contains("expired"));
}

#[tokio::test]
async fn a_line_of_an_import_needs_an_id_and_knows_its_fields() {
    let node = creating().await;
    let import = format!("instance import - -e {}", node.address);
    let output = fed(
        &import,
        "{}\n{\"id\": \"42\"}\n{\"id\": \"a/b\", \"sate\": \"x\"}\n",
    )
    .await;
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(2), ""));
    let said = stderr(&output);
    for part in [
        "line 1: the field \"id\" is missing",
        "machine/name",
        "there is no field \"sate\"; did you mean \"state\"?",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}
