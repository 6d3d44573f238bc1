//! Nodes that are dead, silent or too few.

use std::time::Duration;

use anyhow::Result;
use lockstep_tests::binaries;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::ports::Port;
use serde_json::json;

use super::{SLACK, assert_fields, endpoints, error, lockstep, run, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_succeeds_although_the_leader_is_dead_or_hangs() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let leader_first = |leader: usize| (0..3).map(move |offset| (leader + offset) % 3);
    let all = endpoints(&cluster, leader_first(leader));

    cluster.nodes[leader].kill9()?;
    // While there is no leader yet. Two busy cores may have an election be repeated.
    let patient = ["--timeout", "10s", "-e", &all];
    let next = ["next", "second", "-o", "json"];
    let moved = lockstep(&[&next[..], &patient].concat()).await?.json()?;
    // Done once, however often it had to be sent.
    assert_fields(&moved, json!({ "state": "second", "revision": 1 }));
    let shown = lockstep(&["status", "-e", &all]).await?;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let (_, rows) = table(&shown.stdout)?;
    let dead = cluster.nodes[leader].grpc_address().to_string();
    assert_eq!(
        (rows[0][0].as_str(), rows[0][3].as_str()),
        (dead.as_str(), "unreachable")
    );
    assert!(
        shown.stderr.contains(&dead) && shown.stderr.contains("refused"),
        "why it has no line of its own: {shown:?}"
    );
    cluster.nodes[leader].restart().await?;

    // One whose connections open and stay silent.
    let leader = cluster.leader().await?;
    let all = endpoints(&cluster, leader_first(leader));
    cluster.nodes[leader].pause()?;
    let next = ["next", "third", "--timeout", "10s", "-e", &all];
    assert_eq!(lockstep(&next).await?.done()?, "third\n");
    cluster.nodes[leader].resume()?;
    let agreed = cluster.nodes[leader].api().instance().await?;
    assert_eq!(agreed, ("third".to_owned(), 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_command_is_unavailable_and_its_key_makes_the_retry_safe() -> Result<()>
{
    let mut cluster = Cluster::start().await?;
    let all = endpoints(&cluster, 0..3);
    let leader = cluster.leader().await?;
    let (survivor, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // In this order: the survivor wins no election in between.
    cluster.nodes[other].kill9()?;
    cluster.nodes[leader].kill9()?;

    let keyed = ["next", "second", "--key", "bridge", "-e", &all];
    for arguments in [
        &keyed[..],
        &["next", "third", "-e", &all],
        &["get", "-e", &all],
    ] {
        let ended = lockstep(&[arguments, &["--timeout", "1500ms"]].concat()).await?;
        assert!(
            ended.took < Duration::from_millis(1500) + SLACK,
            "{arguments:?} took {:?}",
            ended.took
        );
        let said = ended.failed(3)?;
        assert!(
            said.contains(&cluster.nodes[other].grpc_address().to_string()),
            "{arguments:?}: it does not say whom it tried: {said}"
        );
    }
    let ended = lockstep(&["get", "-e", &all, "--timeout", "1s", "-o", "json"]).await?;
    assert_eq!(error(&ended.failed(3)?)?["code"], "unavailable");

    // A node still answers requests that need no other node.
    let alone = endpoints(&cluster, [survivor]);
    let read = lockstep(&["get", "--stale", "-e", &alone, "-o", "json"])
        .await?
        .json()?;
    assert_fields(&read, json!({ "state": "first", "revision": 0 }));
    let seen = lockstep(&["status", "-e", &all, "-o", "json"])
        .await?
        .json()?;
    let reachable = |position: usize| seen["nodes"][position]["reachable"].as_bool();
    assert_eq!(
        [leader, survivor, other].map(reachable),
        [Some(false), Some(true), Some(false)]
    );

    cluster.nodes[other].restart().await?;
    assert_eq!(lockstep(&keyed).await?.done()?, "second\n");
    assert_eq!(
        cluster.nodes[survivor].api().instance().await?,
        ("second".to_owned(), 1)
    );
    Ok(())
}

#[tokio::test]
async fn without_any_listener_a_command_is_unavailable_at_the_deadline() -> Result<()> {
    // Kept, and never listened on.
    let closed = [Port::free()?, Port::free()?];
    let [first, second] = closed.each_ref().map(|port| port.address().to_string());
    let list = format!("{first},{second}");
    for arguments in [
        &["next", "second"][..],
        &["get"],
        &["get", "--stale"],
        &["leader"],
        &["members"],
    ] {
        let ended = lockstep(&[arguments, &["-e", &list, "--timeout", "500ms"]].concat()).await?;
        assert!(
            ended.took < Duration::from_millis(500) + SLACK,
            "{arguments:?} took {:?}",
            ended.took
        );
        let said = ended.failed(3)?;
        for part in [first.as_str(), &second, "refused"] {
            assert!(said.contains(part), "{arguments:?}: no {part:?} in {said}");
        }
    }
    // The environment is where endpoints come from when none is typed.
    let mut command = binaries::lockstep()?;
    command.env("LOCKSTEP_ENDPOINTS", &first);
    let said = run(command, &["get", "--timeout", "300ms", "-o", "json"])
        .await?
        .failed(3)?;
    let failure = error(&said)?;
    assert_eq!(failure["code"], "unavailable");
    assert!(
        failure["message"]
            .as_str()
            .is_some_and(|text| text.contains(&first)),
        "{failure}"
    );
    Ok(())
}
