//! `lockstep watch`.

use std::process::Stdio;
use std::time::Duration;

use lockstep_proto::v1;
use lockstep_proto::v1::watch_request::From;
use lockstep_proto::v1::watch_response::Message;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{code, command, done, failed, json, lockstep, metadata, stderr, stdout};
use lockstep_scripted::watching::{bookmark, ending, event, events, failing, no_longer_kept, open};
use lockstep_scripted::{Node, closed_port};

/// For what nothing hinders.
const DEADLINE: Duration = Duration::from_secs(30);

fn sent(events: Vec<v1::Event>) -> v1::WatchResponse {
    v1::WatchResponse {
        message: Some(Message::Events(v1::Events { events })),
        cluster_id: String::new(),
    }
}

#[tokio::test]
async fn every_change_is_a_line_that_says_what_happened() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| {
        let base = event((18, 0));
        Ok(open([sent(vec![
            v1::Event {
                kind: v1::EventKind::Defined.into(),
                id: None,
                from: None,
                to: None,
                ..event((17, 0))
            },
            v1::Event {
                event: Some("pay".to_owned()),
                metadata: metadata(&[("who", "ann")]),
                ..base.clone()
            },
            v1::Event {
                late_ms: Some(12),
                ..event((19, 0))
            },
            v1::Event {
                kind: v1::EventKind::Migrated.into(),
                from_version: Some(1),
                version: 2,
                ..event((20, 0))
            },
        ])]))
    });
    let watch = format!(
        "watch triad --prefix d --state second --from-revision 17 --count 4 -e {}",
        node.address
    );
    let at = "2023-11-14T22:13:20.000Z";
    assert_eq!(
        done(&lockstep(&watch).await),
        format!(
            "{at}  r17  triad  defined  version 1\n\
             {at}  r18  triad/default  transitioned  first -> second  by pay  who=ann\n\
             {at}  r19  triad/default  transitioned  first -> second  (timeout, 12 ms late)\n\
             {at}  r20  triad/default  migrated  first -> second  version 1 -> 2\n"
        )
    );
    let expected = v1::WatchRequest {
        machine: Some("triad".to_owned()),
        instance: None,
        prefix: Some("d".to_owned()),
        state: Some("second".to_owned()),
        from: Some(From::FromRevision(17)),
        cluster_id: None,
    };
    assert_eq!(node.asked::<v1::WatchRequest>(), [expected]);
}

#[tokio::test]
async fn in_json_every_change_is_a_line_with_the_fields_of_http() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| Ok(open([events(&[(18, 0), (18, 1)])])));
    let watch = format!("watch triad/default --count 2 -o json -e {}", node.address);
    let lines: Vec<_> = done(&lockstep(&watch).await).lines().map(json).collect();
    assert_eq!(
        lines[1],
        serde_json::json!({
            "revision": 18, "position": 1, "kind": "transitioned", "machine": "triad",
            "id": "triad/default", "version": 1, "from": "first", "to": "second",
            "instance_revision": 18, "at": "2023-11-14T22:13:20.000Z", "cause": "request",
        })
    );
    let asked = &node.asked::<v1::WatchRequest>()[0];
    assert_eq!(
        (asked.instance.as_deref(), &asked.from),
        (Some("default"), &None)
    );
}

#[tokio::test]
async fn it_continues_at_another_node_and_says_so_on_stderr() {
    let (first, second) = (Node::start([]).await, Node::start([]).await);
    first.on(|_: v1::WatchRequest| Ok(ending([events(&[(18, 0)])])));
    second.on(|_: v1::WatchRequest| Ok(open([events(&[(19, 0)])])));
    let both = format!("{},{}", first.address, second.address);
    let output = lockstep(&format!("watch --count 2 -e {both}")).await;
    assert_eq!(
        (code(&output), stdout(&output).lines().count()),
        (Some(0), 2)
    );
    let said = stderr(&output);
    assert!(
        said.contains(&format!("lost the connection to {}", first.address)),
        "{said}"
    );
    assert!(
        said.contains(&format!("resumed on {}", second.address)),
        "{said}"
    );
    let asked = second.asked::<v1::WatchRequest>();
    assert!(matches!(asked[0].from, Some(From::After(cursor)) if cursor.revision == 18));
}

#[tokio::test]
async fn a_gap_exits_3_and_prints_the_command_that_continues() {
    for (code, reads) in [("compacted", false), ("lagged", true)] {
        let node = Node::start([]).await;
        node.on(move |_: v1::WatchRequest| {
            let before = if reads { vec![bookmark(20)] } else { vec![] };
            Ok(failing(before, no_longer_kept(code, 90)))
        });
        let watch = format!(
            "watch triad --state second --from-revision 7 -e {}",
            node.address
        );
        let said = failed(&lockstep(&watch).await, 3);
        assert!(said.contains(code), "{said}");
        let resumed = "`lockstep watch triad --state second --from-revision 90`";
        assert!(
            said.contains(resumed) && said.contains("`lockstep instance list triad`"),
            "{said}"
        );
        let said = failed(&lockstep(&format!("{watch} -o json")).await, 3);
        let error = &json(&said)["error"];
        assert_eq!(
            (&error["code"], &error["oldest_revision"]),
            (&code.into(), &90.into())
        );
        if reads {
            assert_eq!(error["reached"], 20);
        }
    }
}

#[tokio::test]
async fn without_a_node_it_exits_3_at_once_and_later_after_its_timeout() {
    let said = failed(
        &lockstep(&format!("watch -e {} --timeout 300ms", closed_port())).await,
        3,
    );
    assert!(said.contains("refused"), "{said}");

    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| Ok(open([events(&[(18, 0)])])));
    let address = node.address.clone();
    let mut child = command()
        .args(["watch", "--timeout", "300ms", "-e", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = tokio::time::timeout(DEADLINE, lines.next_line())
        .await
        .expect("in time");
    assert!(
        line.expect("readable")
            .is_some_and(|line| line.contains("r18"))
    );
    node.kill().await;
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .expect("in time");
    let output = output.expect("it ends");
    assert_eq!(code(&output), Some(3));
    assert!(
        stderr(&output).contains("lockstep watch --from-revision 18"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn an_interrupt_is_the_way_to_end_it() {
    for signal in ["INT", "TERM"] {
        let node = Node::start([]).await;
        node.on(|_: v1::WatchRequest| Ok(open([events(&[(18, 0)])])));
        let mut child = command()
            .args(["watch", "-e", &node.address])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line())
            .await
            .expect("in time");
        assert!(line.expect("readable").is_some());
        let pid = child.id().expect("it runs").to_string();
        let sent = tokio::process::Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .await;
        assert!(sent.expect("kill runs").success());
        let status = tokio::time::timeout(DEADLINE, child.wait())
            .await
            .expect("in time");
        assert_eq!(status.expect("it ends").code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_a_usage_error() {
    for (arguments, part) in [
        ("watch a/b/c", "character 2 is '/'"),
        ("watch order --state a!b", "character 2 is '!'"),
        ("watch --from-revision x", "a whole number"),
        ("watch --count 0", "--count"),
        ("watch --timeout soon", "--timeout"),
    ] {
        let said = failed(&lockstep(arguments).await, 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
