//! Three nodes in containers, behind a Consul: killed, frozen and cut off from their network.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_tests::containers::{ContainerCluster, READY_DEADLINE};
use lockstep_tests::docker::{Reaper, docker, image, labelled, skipped};
use lockstep_tests::http::after;
use lockstep_tests::traffic::{Writer, Written};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

/// A leader that is gone must be replaced, and writes must go on, within this.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);
/// For writes that nothing hinders.
const WRITES_DEADLINE: Duration = Duration::from_secs(30);

/// Every node answers with all that was acknowledged, and nothing more; all hold the same state.
async fn everything_is_there_once(cluster: &ContainerCluster, written: &Written) -> Result<()> {
    assert_eq!(written.revision, written.acknowledged);
    for node in &cluster.nodes {
        assert_eq!(
            node.api().instance().await?.1,
            written.revision,
            "read from {}",
            node.name
        );
    }
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_containers_find_each_other_and_leave_nothing_behind() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let cluster = ContainerCluster::start().await?;
    cluster.leader().await?;
    let first = cluster.nodes[0].api().cluster().await?;
    let names: Vec<_> = first
        .members
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["node1", "node2", "node3"]);
    for node in &cluster.nodes {
        let view = node.api().cluster().await?;
        assert_eq!(
            (&view.cluster_id, &view.members),
            (&first.cluster_id, &first.members)
        );
    }
    for (node, to) in cluster.nodes.iter().zip(["second", "third", "first"]) {
        node.api().next(to).await?.expect(StatusCode::OK)?;
        for reader in &cluster.nodes {
            assert_eq!(reader.api().state().await?, to, "read from {}", reader.name);
        }
    }
    cluster.agree().await?;

    // Both programs of the image work inside it.
    let (code, said) = cluster.nodes[1].exec(&["lockstepd", "health"]).await?;
    assert_eq!(code, 0, "{said}");
    let (code, said) = cluster.nodes[1]
        .exec(&["lockstep", "-e", "node3:4333", "next", "second"])
        .await?;
    assert_eq!((code, said.trim()), (0, "second"));

    let label = cluster.label();
    // Three nodes, Consul, two networks.
    assert_eq!(labelled(&label).await?.len(), 6);
    drop(cluster);
    assert_eq!(labelled(&label).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leaders_container_is_replaced_and_catches_up() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut cluster = ContainerCluster::start().await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
    writer.wait_for_more(50, WRITES_DEADLINE).await?;

    cluster.nodes[leader].kill9().await?;
    // One may have been on its way back already.
    let gap = writer.wait_for_more(2, FAILOVER_DEADLINE).await?;
    println!("writes went on after {gap:?}");
    writer.wait_for_more(50, WRITES_DEADLINE).await?;
    assert_ne!(cluster.leader_without(leader).await?, leader);

    cluster.nodes[leader].restart().await?;
    writer.wait_for_more(50, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    everything_is_there_once(&cluster, &written).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leaders_container_is_replaced_and_follows_when_it_thaws() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let cluster = ContainerCluster::start().await?;
    let leader = cluster.leader().await?;
    let writer = Writer::persistent(cluster.nodes[(leader + 1) % 3].api()).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;

    cluster.nodes[leader].pause().await?;
    writer.wait_for_more(20, FAILOVER_DEADLINE).await?;
    let replacement = cluster.leader_without(leader).await?;
    assert_ne!(replacement, leader);

    cluster.nodes[leader].resume().await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    // Reads through the one that slept among them: it must not answer from its old leadership.
    everything_is_there_once(&cluster, &written).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_its_peers_refuses_requests_and_the_others_continue() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let cluster = ContainerCluster::start().await?;
    let leader = cluster.leader().await?;
    let writer = Writer::persistent(cluster.nodes[(leader + 1) % 3].api()).await?;
    writer.wait_for_more(50, WRITES_DEADLINE).await?;

    cluster.nodes[leader].disconnect().await?;
    writer.wait_for_more(50, FAILOVER_DEADLINE).await?;
    assert_ne!(cluster.leader_without(leader).await?, leader);

    // At first, while it still takes itself for the leader, a write's outcome may be unknown to it.
    // Never may it acknowledge one, nor answer a read from what it last knew.
    let minority = cluster.nodes[leader].api();
    let stale = minority
        .get("/v1/machines/triad/instances/default?consistency=stale")
        .await?
        .expect(StatusCode::OK)?
        .json()?;
    let to = after(stale["state"].as_str().unwrap_or_default());
    wait_for("the minority's refusals", READY_DEADLINE, async || {
        let (write, read) = (minority.next(to).await?, minority.get("/").await?);
        for answer in [&write, &read] {
            assert!(
                answer.status.is_server_error(),
                "a minority served a request: {answer:?}"
            );
        }
        write.expect(StatusCode::SERVICE_UNAVAILABLE)?;
        read.expect(StatusCode::SERVICE_UNAVAILABLE)
    })
    .await?;
    minority
        .get("/readyz")
        .await?
        .expect(StatusCode::SERVICE_UNAVAILABLE)?;
    minority.get("/livez").await?.expect(StatusCode::OK)?;
    let (code, said) = cluster.nodes[leader].exec(&["lockstepd", "health"]).await?;
    assert_ne!(code, 0, "unhealthy, but it says: {said}");
    let (code, said) = cluster.nodes[leader]
        .exec(&["lockstep", "-e", "127.0.0.1:4333", "next", to])
        .await?;
    assert_eq!(code, 3, "{said}");

    // Requests that failed are not executed later: the writer would notice a skipped revision.
    cluster.nodes[leader].reconnect().await?;
    cluster.nodes[leader].wait_ready().await?;
    writer.wait_for_more(50, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    everything_is_there_once(&cluster, &written).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_cut_off_for_long_catches_up_without_unseating_the_leader() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    // Long election timeouts, so that only the partitioned follower could cause an election.
    let cluster = ContainerCluster::start_with(&[
        ("LOCKSTEP_RAFT_ELECTION_TIMEOUT_MIN", "1s"),
        ("LOCKSTEP_RAFT_ELECTION_TIMEOUT_MAX", "2s"),
    ])
    .await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let term = cluster.nodes[leader].api().cluster().await?.term;
    let writer = Writer::persistent(cluster.nodes[leader].api()).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;

    cluster.nodes[follower].disconnect().await?;
    let cut_at = cluster.nodes[follower].api().cluster().await?.applied_index;
    writer.wait_for_more(1000, WRITES_DEADLINE).await?;
    let behind = cluster.nodes[follower].api().cluster().await?;
    ensure!(
        behind.applied_index <= cut_at + 1,
        "it was not cut off: at {cut_at}, then at {}",
        behind.applied_index
    );

    cluster.nodes[follower].reconnect().await?;
    cluster.nodes[follower].wait_ready().await?;
    let written = writer.finish().await?;
    everything_is_there_once(&cluster, &written).await?;
    // Pre-vote: it asked before it stood for election, and learned that there is a leader.
    assert_eq!(cluster.leader().await?, leader);
    assert_eq!(cluster.nodes[leader].api().cluster().await?.term, term);
    Ok(())
}

#[tokio::test]
async fn a_second_container_on_a_volume_is_refused_and_the_first_continues() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let run = format!("lockstep-test-{:016x}", rand::random::<u64>());
    let label = format!("lockstep.test={run}");
    let _reaper = Reaper::of(&label)?;
    docker(&["volume", "create", "--label", &label, &run]).await?;
    let (volume, image) = (format!("{run}:/data"), image());
    let node = ["--env", "LOCKSTEP_NAME=node1", "--volume", &volume];
    let start = [&["run", "--label", &label][..], &node].concat();
    let names = ["first", "second"].map(|it| format!("{run}-{it}"));
    docker(&[&start[..], &["--detach", "--name", &names[0], &image]].concat()).await?;
    let healthy = async || docker(&["exec", &names[0], "lockstepd", "health"]).await;
    wait_for("the first to be healthy", READY_DEADLINE, healthy).await?;

    // Its process id is that of the other container: both have a process 1.
    let second = docker(&[&start[..], &["--name", &names[1], &image]].concat()).await;
    let refused = format!("{:#}", second.err().context("the second runs")?);
    ensure!(
        refused.contains("lockstepd: data folder /data is in use by process 1"),
        "{refused}"
    );
    healthy().await?;
    // The lock goes with the process that holds it.
    docker(&["kill", "--signal", "KILL", &names[0]]).await?;
    docker(&["start", &names[1]]).await?;
    let healthy = async || docker(&["exec", &names[1], "lockstepd", "health"]).await;
    wait_for("the second to be healthy", READY_DEADLINE, healthy).await?;
    Ok(())
}
