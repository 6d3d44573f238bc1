//! `lockstep instance`, one at a time and in lists.

use std::fs;

use lockstep_proto::v1;
use serde_json::json as object;

use crate::{
    code, done, failed, json, lockstep, metadata, order, read_at, rejection, stderr, stdout,
    written,
};
use lockstep_scripted::{Answer, Node, coded};
use tonic::Code;

#[tokio::test]
async fn create_prints_the_id_and_makes_one_if_none_is_given() {
    let node = Node::start([Answer::Done, Answer::Done, Answer::Done]).await;
    let create = format!("instance create order -e {}", node.address);
    assert_eq!(done(&lockstep(&create).await), "order/01hx\n");
    let arguments = format!(
        "instance create order/42 --meta customer=ann --version 2 --key k1 -e {}",
        node.address
    );
    assert_eq!(done(&lockstep(&arguments).await), "order/42\n");
    let expected = v1::CreateInstanceRequest {
        id: "order/42".to_owned(),
        version: Some(2),
        metadata: metadata(&[("customer", "ann")]),
        idempotency_key: Some("k1".to_owned()),
    };
    assert_eq!(node.asked::<v1::CreateInstanceRequest>()[1], expected);
    let output = lockstep(&format!("{create} -o json")).await;
    assert_eq!(
        json(&done(&output)),
        object!({
            "created": {"id": "order/01hx", "version": 1, "state": "first", "at": "2023-11-14T22:13:20.000Z"},
            "replayed": false, "revision": 17,
        })
    );
}

#[tokio::test]
async fn get_shows_metadata_and_the_timeout_that_is_due() {
    let node = Node::start([]).await;
    node.on(|_: v1::GetInstanceRequest| {
        let instance = v1::Instance {
            deadline_ms: Some(1_700_000_900_000),
            timeout_to: Some("expired".to_owned()),
            events: vec!["cancel".to_owned(), "pay".to_owned()],
            ..order("42", "open")
        };
        Ok(v1::GetInstanceResponse {
            instance: Some(instance),
            read_at: read_at(),
        })
    });
    let get = format!("instance get order/42 --min-revision 9 -e {}", node.address);
    let table = done(&lockstep(&get).await);
    for part in [
        "order/42  open",
        "2023-11-14T22:13:21.000Z",
        "EVENTS",
        "cancel, pay",
        "TIMEOUT",
        "expired due",
        "customer=ann",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    let freshness = node.asked::<v1::GetInstanceRequest>()[0].freshness;
    assert_eq!(freshness.and_then(|it| it.min_revision), Some(9));
    let body = json(&done(&lockstep(&format!("{get} -o json")).await));
    for (field, value) in [
        ("id", object!("order/42")),
        ("created_at", object!("2023-11-14T22:13:20.000Z")),
        ("deadline", object!("2023-11-14T22:28:20.000Z")),
        ("timeout_to", object!("expired")),
        ("events", object!(["cancel", "pay"])),
        ("metadata", object!({"customer": "ann"})),
        ("cluster_revision", object!(17)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
}

#[tokio::test]
async fn a_missing_instance_is_rejected_with_the_next_step() {
    let node = Node::start([]).await;
    node.on(|_: v1::GetInstanceRequest| Err(coded(Code::NotFound, "unknown_instance")));
    let said = failed(
        &lockstep(&format!("instance get order/7 -e {}", node.address)).await,
        1,
    );
    assert!(said.contains("try: `lockstep instance list"), "{said}");
}

/// Three pages of two orders each, and a total.
fn in_pages(request: v1::ListInstancesRequest) -> Result<v1::ListInstancesResponse, tonic::Status> {
    let page: u64 = request
        .cursor
        .as_deref()
        .unwrap_or("0")
        .parse()
        .expect("a page");
    let instances = [2 * page, 2 * page + 1].map(|name| order(&name.to_string(), "paid"));
    Ok(v1::ListInstancesResponse {
        instances: instances
            .into_iter()
            .take(request.limit.unwrap_or(2) as usize)
            .collect(),
        next_cursor: (page < 2).then(|| (page + 1).to_string()),
        total: 6,
        read_at: Some(v1::ReadAt {
            applied_index: 42,
            revision: 17 + page,
        }),
    })
}

#[tokio::test]
async fn a_list_is_one_table_however_many_pages_it_takes() {
    let node = Node::start([]).await;
    node.on(in_pages);
    let filter = "--all --state paid --prefix 1 --label a=b=c";
    let list = format!("instance list order {filter} -e {}", node.address);
    let table = done(&lockstep(&list).await);
    let rows: Vec<_> = table.lines().map(|line| &line[..8]).collect();
    assert_eq!(rows[0], "INSTANCE");
    assert_eq!(
        rows[1..],
        [
            "order/0 ", "order/1 ", "order/2 ", "order/3 ", "order/4 ", "order/5 "
        ]
    );
    let asked = node.asked::<v1::ListInstancesRequest>();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        (asked[0].limit, asked[2].cursor.as_deref()),
        (Some(1000), Some("2"))
    );
    let label = v1::Label {
        key: "a".to_owned(),
        value: "b=c".to_owned(),
    };
    assert_eq!(asked[2].label, Some(label));
    assert_eq!(
        (asked[2].state.as_deref(), asked[2].prefix.as_str()),
        (Some("paid"), "1")
    );
    // Later pages are not older than the first.
    assert_eq!(asked[2].freshness.and_then(|it| it.min_revision), Some(18));
}

#[tokio::test]
async fn a_list_that_is_not_whole_says_so_on_stderr() {
    let node = Node::start([]).await;
    node.on(in_pages);
    let list = format!("instance list order --limit 3 -e {}", node.address);
    let output = lockstep(&list).await;
    assert_eq!(
        (code(&output), stdout(&output).lines().count()),
        (Some(0), 4)
    );
    assert_eq!(
        stderr(&output),
        "lockstep: 3 shown; order has 6 instances; --all shows the rest\n"
    );
    assert_eq!(node.asked::<v1::ListInstancesRequest>()[1].limit, Some(1));
}

#[tokio::test]
async fn a_list_in_json_is_one_document() {
    let node = Node::start([]).await;
    node.on(in_pages);
    let list = format!("instance list order --all -o json -e {}", node.address);
    let body = json(&done(&lockstep(&list).await));
    assert_eq!(body["instances"].as_array().map(Vec::len), Some(6));
    assert_eq!(body["instances"][5]["id"], "order/5");
    assert_eq!(
        (&body["total"], &body["next_cursor"], &body["revision"]),
        (&6.into(), &object!(null), &19.into())
    );

    let empty = Node::start([]).await;
    empty.on(|_: v1::ListInstancesRequest| {
        let read_at = read_at();
        Ok(v1::ListInstancesResponse {
            read_at,
            ..Default::default()
        })
    });
    let list = format!("instance list order -o json -e {}", empty.address);
    assert_eq!(
        json(&done(&lockstep(&list).await))["instances"],
        object!([])
    );
}

#[tokio::test]
async fn history_says_what_happened_and_what_is_forgotten() {
    let node = Node::start([]).await;
    node.on(|request: v1::GetHistoryRequest| {
        let event = |revision, late_ms, event: Option<&str>| v1::Event {
            cursor: Some(v1::EventCursor {
                revision: 100 + revision,
                position: 0,
            }),
            kind: v1::EventKind::Transitioned.into(),
            machine: "order".to_owned(),
            id: Some("order/42".to_owned()),
            version: 2,
            from: Some("open".to_owned()),
            to: Some("paid".to_owned()),
            event: event.map(str::to_owned),
            instance_revision: revision,
            late_ms,
            at_ms: 1_700_000_000_000,
            metadata: metadata(&[("why", "paid in cash")]),
            ..Default::default()
        };
        Ok(v1::GetHistoryResponse {
            id: request.id,
            instance_revision: 6,
            oldest_revision: Some(5),
            events: vec![event(5, None, Some("pay")), event(6, Some(12), None)],
            read_at: read_at(),
        })
    });
    let history = format!("instance history order/42 -e {}", node.address);
    let output = lockstep(&history).await;
    assert_eq!(code(&output), Some(0));
    assert!(
        stderr(&output).contains("before revision 5"),
        "{}",
        stderr(&output)
    );
    let table = stdout(&output);
    for part in [
        "transitioned  open  paid  pay",
        "(timeout)",
        "why=\"paid in cash\"",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    let body = json(&done(&lockstep(&format!("{history} -o json")).await));
    assert_eq!(
        (&body["oldest_revision"], &body["events"][1]["cause"]),
        (&5.into(), &"timeout".into())
    );
}

#[tokio::test]
async fn delete_and_migrate_say_what_they_did_or_would_do() {
    let node = Node::start([Answer::Done, Answer::Done]).await;
    let delete = format!(
        "instance delete order/42 --expect-state first -e {}",
        node.address
    );
    assert_eq!(
        done(&lockstep(&delete).await),
        "order/42: deleted in state first at revision 5\n"
    );
    let migrate = format!(
        "instance migrate order/42 --version 3 --map first=second --map a=b --dry-run -e {}",
        node.address
    );
    assert_eq!(
        done(&lockstep(&migrate).await),
        "order/42: would go from version 1 to 3, from state first to second\n"
    );
    let asked = node.asked::<v1::MigrateInstanceRequest>();
    assert_eq!(
        asked[0].states,
        metadata(&[("first", "second"), ("a", "b")])
    );
    assert!(asked[0].dry_run);

    let twice = "instance migrate order/42 --map a=b --map a=c";
    assert!(failed(&lockstep(twice).await, 2).contains("mapped twice"));
    let odd = "instance migrate order/42 --map a";
    assert!(failed(&lockstep(odd).await, 2).contains("FROM=TO"));
    let none = "instance migrate order/42 --version 0";
    assert!(failed(&lockstep(none).await, 2).contains("a whole number from 1"));
}

#[tokio::test]
async fn a_migration_without_its_state_says_which_there_are() {
    let node = Node::start([]).await;
    node.on(|_: v1::MigrateInstanceRequest| {
        let rejected = v1::Rejected {
            known: vec!["settled".to_owned()],
            ..rejection("unmapped_state", "map \"paid\" to one of settled")
        };
        Ok(v1::MigrateInstanceResponse {
            outcome: Some(v1::migrate_instance_response::Outcome::Rejected(rejected)),
            written: written(),
        })
    });
    let migrate = format!("instance migrate order/42 -e {}", node.address);
    let said = failed(&lockstep(&migrate).await, 1);
    assert!(
        said.contains("settled") && said.contains("--map FROM=TO"),
        "{said}"
    );
    let said = failed(&lockstep(&format!("{migrate} -o json")).await, 1);
    assert_eq!(json(&said)["error"]["known"][0], "settled");
}

#[tokio::test]
async fn an_export_is_json_lines_of_every_page() {
    let node = Node::start([]).await;
    node.on(in_pages);
    let export = format!("instance export order -e {}", node.address);
    let output = lockstep(&export).await;
    assert_eq!(code(&output), Some(0));
    let lines = stdout(&output);
    assert_eq!(lines.lines().count(), 6);
    let first = lines.lines().next().map(json).expect("a line");
    assert_eq!(
        first,
        object!({
            "id": "order/0", "version": 2, "state": "paid", "revision": 1, "allowed": ["shipped"], "events": [],
            "created_at": "2023-11-14T22:13:20.000Z", "changed_at": "2023-11-14T22:13:21.000Z",
            "metadata": {"customer": "ann"},
        })
    );
    let said = stderr(&output);
    assert!(
        said.contains("6 instances") && said.contains("watch order --from-revision 18"),
        "{said}"
    );

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.jsonl");
    let output = lockstep(&format!("{export} --out {}", file.display())).await;
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(&file).expect("the file is there"), lines);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[tokio::test]
async fn an_export_that_breaks_off_leaves_the_file_of_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.jsonl");
    fs::write(&file, "before\n").expect("a file");
    let node = Node::start([]).await;
    node.on(|request: v1::ListInstancesRequest| match request.cursor {
        None => in_pages(request),
        Some(_) => Err(coded(Code::Unavailable, "unavailable")),
    });
    let export = format!(
        "instance export order --timeout 300ms --out {} -e {}",
        file.to_str().expect("text"),
        node.address
    );
    failed(&lockstep(&export).await, 3);
    assert_eq!(
        fs::read_to_string(&file).expect("the file is there"),
        "before\n"
    );
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}
