//! `lockstep sink`.

use lockstep_proto::v1;
use lockstep_proto::v1::check_step::Result::{Failed, Seen};
use serde_json::json as object;

use crate::{code, done, failed, json, lockstep, stderr, stdout};
use lockstep_scripted::Node;
use lockstep_scripted::sinks::{
    checked, following, letter, letters, listed, troubled, unknown, unknown_letter,
};

/// A node with a sink that follows and one that does not.
async fn node() -> Node {
    let node = Node::start([]).await;
    node.on(|_: v1::ListSinksRequest| {
        let failing = v1::SinkPhase::Failing;
        let mail = troubled(
            "mail",
            failing,
            "password authentication\nfailed for lockstep",
        );
        Ok(listed([mail, following("reports")]))
    });
    node
}

fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn a_list_has_a_line_for_each_and_says_on_stderr_what_is_wrong() {
    let node = node().await;
    let output = lockstep(&format!("sink list -e {}", node.address)).await;
    assert_eq!(code(&output), Some(0));
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().map(columns).collect();
    let header = "NAME KIND PHASE LAG-EVENTS LAG-SECONDS DEAD-LETTERS WRITTEN";
    let written = "2023-11-14T22:13:21.000Z";
    assert_eq!(lines[0], columns(header));
    assert_eq!(
        lines[1],
        ["mail", "postgres", "failing", "9000", "61.0", "0", "-"]
    );
    assert_eq!(
        lines[2],
        ["reports", "postgres", "following", "3", "0.2", "0", written]
    );
    let said = "lockstep: mail is failing: password authentication failed for lockstep\n";
    assert_eq!(stderr(&output), said);

    let output = lockstep(&format!("sink list -o json -e {}", node.address)).await;
    let body = json(&done(&output));
    assert_eq!(body["node"], "node2");
    assert_eq!(body["sinks"][0]["phase"], "failing");
}

#[tokio::test]
async fn where_no_sink_is_configured_that_is_said() {
    let node = Node::start([]).await;
    node.on(|_: v1::ListSinksRequest| Ok(listed([])));
    let output = lockstep(&format!("sink list -e {}", node.address)).await;
    assert_eq!(code(&output), Some(0));
    let said = stderr(&output);
    assert_eq!(said, "lockstep: no sink is configured on node2\n");
}

#[tokio::test]
async fn a_status_says_everything_and_what_to_do() {
    let node = node().await;
    let shown = done(&lockstep(&format!("sink status reports -e {}", node.address)).await);
    for part in [
        "SINK               reports",
        "kind               postgres",
        "follows            order",
        "node               node2",
        "at revision        1204",
        "backfilled at revision  17",
        "lag                3 events, 0.2 s",
        "events written     1200",
    ] {
        let wanted = columns(part);
        let is_there = shown.lines().any(|line| columns(line) == wanted);
        assert!(is_there, "{part:?} is not in {shown}");
    }
    let output = lockstep(&format!("sink status mail -e {}", node.address)).await;
    assert_eq!(code(&output), Some(0));
    let text = stdout(&output);
    assert!(
        text.contains("password authentication failed for lockstep"),
        "{text}"
    );
    let said = stderr(&output);
    assert!(said.starts_with("try: fix it"), "{said}");
    assert!(said.contains("`lockstep sink check mail`"), "{said}");
}

#[tokio::test]
async fn a_status_in_json_has_the_fields_of_http() {
    let node = node().await;
    let arguments = format!("sink status reports -o json -e {}", node.address);
    assert_eq!(
        json(&done(&lockstep(&arguments).await)),
        object!({
            "name": "reports", "kind": "postgres",
            "address": "postgres://lockstep@db:5432/reports", "follows": ["order"],
            "phase": "following", "reason": null, "since": "2023-11-14T22:13:20.000Z",
            "revision": 1204, "seeded_revision": 17, "lag_events": 3, "lag_ms": 250,
            "events": 1200, "errors": 0, "dead_letters": 0,
            "written_at": "2023-11-14T22:13:21.000Z", "node": "node2"
        })
    );
}

#[tokio::test]
async fn an_unknown_sink_exits_1_and_names_those_there_are() {
    let node = node().await;
    node.on(|_: v1::CheckSinkRequest| Err(unknown()));
    node.on(|_: v1::ReseedSinkRequest| Err(unknown()));
    node.on(|_: v1::ListDeadLettersRequest| Err(unknown()));
    node.on(|_: v1::ReplayDeadLettersRequest| Err(unknown()));
    node.on(|_: v1::DiscardDeadLettersRequest| Err(unknown()));
    for command in [
        "status report",
        "check report",
        "reseed report",
        "dead-letters report",
        "replay report --all",
        "discard report 7-2",
    ] {
        let arguments = format!("sink {command} -e {}", node.address);
        let said = failed(&lockstep(&arguments).await, 1);
        assert!(
            said.contains("try: `lockstep sink list`"),
            "{command:?}: {said}"
        );
        let said = failed(&lockstep(&format!("{arguments} -o json")).await, 1);
        let error = &json(&said)["error"];
        assert_eq!(error["code"], "unknown_sink", "{command:?}");
        assert_eq!(error["known"], object!(["mail", "reports"]), "{command:?}");
    }
}

#[tokio::test]
async fn a_check_reports_each_step_with_its_time() {
    let node = Node::start([]).await;
    node.on(|_: v1::CheckSinkRequest| Ok(checked(Seen("3 rows".to_owned()))));
    let arguments = format!("sink check reports -e {}", node.address);
    let text = done(&lockstep(&arguments).await);
    let lines: Vec<_> = text.lines().map(columns).collect();
    assert_eq!(lines[0], ["STEP", "MS", "RESULT", "DETAIL"]);
    assert_eq!(lines[1], ["connect", "1.5", "ok", "PostgreSQL", "17.2"]);
    assert_eq!(lines[2], ["insert", "3", "0.8", "ok", "3", "rows"]);
    let sent = node.requests()[0].timeout.expect("the timeout is sent");
    assert!(
        sent.as_secs() > 50,
        "a check may take longer than other commands: {sent:?}"
    );
    assert_eq!(node.asked::<v1::CheckSinkRequest>()[0].sink, "reports");
}

#[tokio::test]
async fn a_check_that_fails_exits_1_with_all_steps_and_says_what_to_do() {
    let node = Node::start([]).await;
    node.on(|_: v1::CheckSinkRequest| Ok(checked(Failed("permission denied".to_owned()))));
    let arguments = format!("sink check reports -e {}", node.address);
    let output = lockstep(&arguments).await;
    assert_eq!(code(&output), Some(1));
    let (text, said) = (stdout(&output), stderr(&output));
    assert!(
        text.contains("PostgreSQL 17.2") && text.contains("failed"),
        "{text}"
    );
    let expected = "reports: \"insert 3\" failed, as seen from node2: permission denied\ntry: fix";
    assert!(said.contains(expected), "{said}");

    let output = lockstep(&format!("{arguments} -o json")).await;
    assert_eq!(code(&output), Some(1));
    let body = json(&stdout(&output));
    assert_eq!(
        (&body["ok"], &body["node"]),
        (&false.into(), &"node2".into())
    );
    let step =
        object!({"step": "insert 3", "took_ms": 0.82, "ok": false, "detail": "permission denied"});
    assert_eq!(body["steps"][1], step);
    assert_eq!(json(&stderr(&output))["error"]["code"], "check_failed");
}

#[tokio::test]
async fn a_reseed_says_what_will_happen() {
    let node = Node::start([]).await;
    node.on(|request: v1::ReseedSinkRequest| {
        use v1::reseed_sink_response::Outcome;
        let outcome = Some(Outcome::Requested(v1::SeedRequested { sink: request.sink }));
        Ok(v1::ReseedSinkResponse { outcome })
    });
    let arguments = format!("sink reseed reports -e {}", node.address);
    let text = done(&lockstep(&arguments).await);
    assert_eq!(
        text,
        "reports: the current states of all instances will be written\n"
    );
    let body = done(&lockstep(&format!("{arguments} -o json")).await);
    assert_eq!(json(&body), object!({ "sink": "reports" }));
}

/// Three dead letters, of which a page has two at most.
async fn node_with_letters() -> Node {
    let node = Node::start([]).await;
    node.on(|request: v1::ListDeadLettersRequest| {
        let first = [
            letter((7, 0), "value too\n  long"),
            letter((7, 1), "value too long"),
        ];
        Ok(match (request.cursor.as_deref(), request.limit) {
            (None, Some(1)) => letters(first.into_iter().take(1), Some("7-0")),
            (None, _) => letters(first, Some("7-1")),
            (Some("7-1"), _) => letters([letter((9, 0), "no such column")], None),
            (other, _) => panic!("{other:?}"),
        })
    });
    node
}

#[tokio::test]
async fn dead_letters_are_listed_with_their_reason_across_pages() {
    let node = node_with_letters().await;
    let arguments = format!("sink dead-letters reports -e {}", node.address);
    let text = done(&lockstep(&arguments).await);
    let lines: Vec<_> = text.lines().map(columns).collect();
    let header = "EVENT SUBJECT KIND ATTEMPTS REJECTED LAST-ATTEMPT REPLAY REASON";
    assert_eq!(lines[0], columns(header));
    let row = "7-0 triad/default transitioned 2 2023-11-14T22:13:22.000Z \
               2023-11-14T22:13:23.000Z - value too long";
    assert_eq!(lines[1], columns(row));
    assert_eq!(
        (lines[2][6], lines[3][0], lines.len()),
        ("wanted", "9-0", 4)
    );

    let body = json(&done(&lockstep(&format!("{arguments} -o json")).await));
    assert_eq!(body["next_cursor"], object!(null));
    let third = &body["dead_letters"][2];
    assert_eq!(
        (&third["cursor"], &third["attempts"]),
        (&"9-0".into(), &2.into())
    );
    assert_eq!(third["event"]["id"], "triad/default");
}

#[tokio::test]
async fn a_list_of_dead_letters_that_is_cut_says_so() {
    let node = node_with_letters().await;
    let limited = format!("sink dead-letters reports --limit 1 -e {}", node.address);
    let output = lockstep(&limited).await;
    assert_eq!(code(&output), Some(0));
    assert_eq!(stderr(&output), "lockstep: 1 shown; --all shows the rest\n");
    let body = json(&done(&lockstep(&format!("{limited} -o json")).await));
    assert_eq!(body["next_cursor"], "7-0");
    let behind = format!("sink dead-letters reports --cursor 7-1 -e {}", node.address);
    let text = done(&lockstep(&behind).await);
    assert!(text.contains("9-0") && !text.contains("7-0"), "{text}");
}

#[tokio::test]
async fn letters_are_replayed_and_discarded_one_or_all() {
    let node = Node::start([]).await;
    node.on(|request: v1::ReplayDeadLettersRequest| {
        use v1::replay_dead_letters_request::Which;
        use v1::replay_dead_letters_response::Outcome;
        let count = if request.which == Some(Which::All(true)) {
            3
        } else {
            1
        };
        let outcome = Some(Outcome::Marked(v1::DeadLettersMarked { count }));
        Ok(v1::ReplayDeadLettersResponse { outcome })
    });
    node.on(|request: v1::DiscardDeadLettersRequest| {
        use v1::discard_dead_letters_response::Outcome;
        let all = v1::discard_dead_letters_request::Which::All(true);
        let outcome = Some(match request.which {
            Some(which) if which == all => {
                Outcome::Discarded(v1::DeadLettersDiscarded { count: 0 })
            }
            _ => Outcome::Rejected(unknown_letter()),
        });
        Ok(v1::DiscardDeadLettersResponse { outcome })
    });
    let run = async |command: &str| lockstep(&format!("sink {command} -e {}", node.address)).await;
    for (which, line) in [
        ("7-2", "reports: 1 dead letter will be delivered again\n"),
        ("--all", "reports: 3 dead letters will be delivered again\n"),
    ] {
        assert_eq!(done(&run(&format!("replay reports {which}")).await), line);
    }
    let asked = node.asked::<v1::ReplayDeadLettersRequest>();
    let which: Vec<_> = asked.iter().filter_map(|it| it.which).collect();
    let one =
        v1::replay_dead_letters_request::Which::Event(lockstep_scripted::watching::cursor(7, 2));
    let all = v1::replay_dead_letters_request::Which::All(true);
    assert_eq!(which, [one, all]);
    let body = done(&run("replay reports --all -o json").await);
    assert_eq!(json(&body), object!({ "sink": "reports", "marked": 3 }));

    let text = done(&run("discard reports --all").await);
    assert_eq!(text, "reports: there are no dead letters\n");
    let said = failed(&run("discard reports 9-0").await, 1);
    assert!(said.contains("no dead letter of event 9-0"), "{said}");
    assert!(
        said.contains("try: `lockstep sink dead-letters NAME`"),
        "{said}"
    );
}

#[tokio::test]
async fn all_letters_are_never_meant_by_leaving_something_out() {
    for command in ["replay", "discard"] {
        for rest in ["", " 7-2 --all", " 7", " all"] {
            let arguments = format!("sink {command} reports{rest}");
            let said = failed(&lockstep(&arguments).await, 2);
            assert!(said.contains("EVENT"), "{arguments:?}: {said}");
        }
    }
}
