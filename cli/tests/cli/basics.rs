//! What needs one instance, and what every command shares.

use std::process::Stdio;
use std::time::Duration;

use crate::{code, command, failed, json, lockstep, stderr, stdout};
use lockstep_scripted::{Answer, Node, closed_port};

#[tokio::test]
async fn next_prints_the_new_state_alone() {
    let node = Node::start([Answer::Done]).await;
    let output = lockstep(&format!("next second -e {} --key k1", node.address)).await;
    assert_eq!(
        (
            code(&output),
            stdout(&output).as_str(),
            stderr(&output).as_str()
        ),
        (Some(0), "second\n", "")
    );
    assert_eq!(node.requests()[0].key.as_deref(), Some("k1"));
}

#[tokio::test]
async fn next_in_json_tells_the_whole_story() {
    let node = Node::start([Answer::Done]).await;
    let output = lockstep(&format!("-o json -e {} next second", node.address)).await;
    let story = json(&stdout(&output));
    assert_eq!(story["instance"], "triad/default");
    assert_eq!(
        (&story["from"], &story["state"]),
        (&"first".into(), &"second".into())
    );
    assert_eq!(
        (&story["revision"], &story["replayed"]),
        (&5.into(), &false.into())
    );
}

#[tokio::test]
async fn an_illegal_move_says_what_is_allowed_and_exits_1() {
    let node = Node::start([Answer::Rejected, Answer::Rejected]).await;
    let output = lockstep(&format!("next second -e {}", node.address)).await;
    assert_eq!((code(&output), stdout(&output).as_str()), (Some(1), ""));
    let said = stderr(&output);
    assert!(said.contains("allowed from \"third\": first"), "{said}");
    assert_eq!(said.matches("allowed").count(), 1, "{said}");

    let output = lockstep(&format!("next second -e {} -o json", node.address)).await;
    assert_eq!(code(&output), Some(1));
    let error = json(&stderr(&output))["error"].clone();
    assert_eq!(
        (&error["code"], &error["allowed"][0]),
        (&"illegal_transition".into(), &"first".into())
    );
}

#[tokio::test]
async fn get_shows_the_instance() {
    let node = Node::start([Answer::Done, Answer::Done]).await;
    let output = lockstep(&format!("get -e {}", node.address)).await;
    assert_eq!(code(&output), Some(0));
    let text = stdout(&output);
    assert!(
        text.contains("triad/default") && text.contains("2023-11-14T22:13:20.000Z"),
        "{text}"
    );
    let output = lockstep(&format!("get order/42 --stale -e {} -o json", node.address)).await;
    let read = json(&stdout(&output));
    assert_eq!(
        (&read["instance"], &read["applied_index"]),
        (&"order/42".into(), &42.into())
    );
}

#[tokio::test]
async fn without_a_node_it_exits_3_and_names_the_endpoints_it_tried() {
    let dead = closed_port();
    for arguments in ["next second", "get", "leader", "members", "status"] {
        let output = lockstep(&format!("{arguments} -e {dead} --timeout 300ms")).await;
        assert_eq!(code(&output), Some(3), "{arguments:?}");
        let said = stderr(&output);
        assert!(
            said.contains(&dead) && said.contains("refused"),
            "{arguments:?}: {said}"
        );
    }
}

#[tokio::test]
async fn an_unknown_outcome_exits_3_and_gives_the_key_to_repeat_with() {
    let node = Node::start([Answer::Hang]).await;
    let output = lockstep(&format!("next second -e {} --timeout 2s", node.address)).await;
    assert_eq!(code(&output), Some(3));
    let key = node.requests()[0].key.clone().expect("a key was drawn");
    assert!(stderr(&output).contains(&key), "{}", stderr(&output));
}

#[tokio::test]
async fn status_lists_the_reachable_and_the_unreachable() {
    let node = Node::start([]).await;
    node.set_status(
        6_917_529_027_641_081_857,
        7,
        Some((6_917_529_027_641_081_857, &node.address)),
    );
    let dead = closed_port();
    let endpoints = format!("{},{dead}", node.address);
    let output = lockstep(&format!("status --hash -e {endpoints}")).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let line = |endpoint: &str| {
        text.lines()
            .find(|line| line.starts_with(endpoint))
            .expect("it is listed")
    };
    assert!(
        line(&node.address).contains("leader") && line(&node.address).contains("0123456789abcdef"),
        "{text}"
    );
    assert!(line(&dead).contains("unreachable"), "{text}");

    let output = lockstep(&format!("status -e {endpoints} -o json")).await;
    let nodes = json(&stdout(&output))["nodes"].clone();
    assert_eq!(
        (&nodes[0]["reachable"], &nodes[1]["reachable"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        nodes[0]["leader_id"], "6917529027641081857",
        "all digits survive"
    );
}

#[tokio::test]
async fn leader_members_and_version_ask_the_cluster() {
    let node = Node::start([]).await;
    node.set_status(1, 7, Some((1, &node.address)));
    let output = lockstep(&format!("leader -e {} -o json", node.address)).await;
    assert_eq!(json(&stdout(&output))["leader"]["name"], "node1");
    let output = lockstep(&format!("members -e {}", node.address)).await;
    assert!(
        stdout(&output)
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("node1"))
    );
    let output = lockstep(&format!("version -e {}", node.address)).await;
    assert!(stdout(&output).contains("9.8.7"), "{}", stdout(&output));
    let output = lockstep(&format!("version -e {}", closed_port())).await;
    assert_eq!(code(&output), Some(0));
    assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn usage_errors_exit_2_and_name_the_fault() {
    for (arguments, part) in [
        ("next", "STATE"),
        ("next no!way", "character 3 is '!'"),
        ("next ", "it is empty"),
        ("next second --instance triad", "machine/name"),
        ("next second --expect-revision -1", "-1"),
        ("next second --key ", "empty"),
        ("get a/b/c", "instance name"),
        ("get -e nowhere", "host:port"),
        ("get -e a:1,,b:2", "it is empty"),
        ("get --timeout soon", "write it as 15m"),
        ("get --timeout 0s", "1ms to 1h"),
        ("get --timeout 1000000000years", "--timeout"),
        ("get --timeout 5", "no unit"),
        ("get -o yaml", "table, json"),
        ("get --consul not-a-url", "not-a-url"),
        ("discover", "--consul"),
        ("discover --service a!b", "a-z A-Z 0-9"),
        ("frobnicate", "frobnicate"),
        ("completions cmd", "bash"),
        ("machine show order -o xml", "table, json, yaml"),
        ("machine", "Usage"),
        ("instance", "Usage"),
        ("", "Usage"),
    ] {
        let output = lockstep(arguments).await;
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(part),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[tokio::test]
async fn usage_errors_are_json_on_request() {
    for (arguments, named) in [
        ("get --frobnicate -o json", "--frobnicate"),
        ("-ojson frobnicate", "frobnicate"),
        ("next --output=json", "STATE"),
        ("watch --count x -o json", "--count"),
        ("txn -o json", "FILE"),
    ] {
        let said = failed(&lockstep(arguments).await, 2);
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        let error = json(&said)["error"].clone();
        assert_eq!(error["code"], "usage", "{arguments:?}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(named), "{arguments:?}: {message}");
    }
}

#[tokio::test]
async fn usage_lines_do_not_depend_on_the_environment() {
    for arguments in ["get --frobnicate", "next", "frobnicate", "get --help"] {
        let plain = lockstep(arguments).await;
        let mut command = command();
        let set = command
            .env("LOCKSTEP_ENDPOINTS", "127.0.0.1:4333")
            .env("LOCKSTEP_CONSUL", "http://127.0.0.1:8500")
            .env("CONSUL_HTTP_TOKEN", "secret")
            .args(arguments.split(' '));
        let set = set.output().await.expect("the program starts");
        assert_eq!(set, plain, "{arguments:?}");
    }
}

#[tokio::test]
async fn endpoints_come_from_the_environment_too() {
    let node = Node::start([Answer::Done, Answer::Done]).await;
    let endpoints = format!("{},{}", closed_port(), node.address);
    let run = async |arguments: &str| {
        let mut command = command();
        command
            .env("LOCKSTEP_ENDPOINTS", &endpoints)
            .env("LOCKSTEP_CONSUL", "")
            .args(arguments.split(' '));
        command.output().await.expect("the program starts")
    };
    assert_eq!(stdout(&run("next second").await), "second\n");
    // What is typed wins.
    let output = run(&format!("next second -e {} --timeout 300ms", closed_port())).await;
    assert_eq!(code(&output), Some(3));
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    for argument in ["--help", "--version"] {
        let output = lockstep(argument).await;
        assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
        assert!(stdout(&output).contains("lockstep"));
    }
}

#[tokio::test]
async fn completions_are_a_script() {
    for shell in ["bash", "zsh", "fish"] {
        let output = lockstep(&format!("completions {shell}")).await;
        assert_eq!(code(&output), Some(0));
        assert!(stdout(&output).contains("expect-revision"), "{shell}");
    }
}

#[tokio::test]
async fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = command();
    command
        .args(["completions", "bash"])
        .stdout(writer)
        .stderr(Stdio::piped());
    let output = command.output().await.expect("the program starts");
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_command_that_waits_ends_when_nothing_reads_its_output() {
    for arguments in [
        "watch",
        "sink check reports",
        "instance list order",
        "instance export order",
        "instance create order --from -",
        "instance import -",
    ] {
        let node = Node::start([Answer::Hang]).await;
        let mut child = command()
            .args(arguments.split(' '))
            .args(["--timeout", "1h", "-e", &node.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let _input = child.stdin.take();
        drop(child.stdout.take());
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{arguments:?} still waits"));
        assert_eq!(status.expect("it ends").code(), Some(0), "{arguments:?}");
    }
}
