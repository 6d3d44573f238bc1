//! A data folder belongs to a name, and a renamed or moved node is shown as it is now.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::http::Api;
use lockstep_tests::ports::Port;
use lockstep_tests::program::run;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::Value;

/// For a program that does little.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(20);

/// Gives the stopped node another name and another gRPC port, for its next start.
fn rename(node: &mut Node, name: &str) -> Result<()> {
    node.name = name.to_owned();
    node.grpc = Port::free()?;
    node.set("LOCKSTEP_NAME", name);
    node.set("LOCKSTEP_GRPC_LISTEN", node.grpc_address());
    Ok(())
}

/// The names and gRPC addresses that a node shows: of itself, of the leader, and of all members.
async fn shown(api: &Api) -> Result<(String, String, Vec<String>)> {
    let status = api.read("/v1/cluster").await?;
    let one = |it: &Value| format!("{}={}", it["name"], it["grpc_address"]).replace('"', "");
    let members = status["members"].as_array().context("members")?;
    let leader = members.iter().find(|it| it["id"] == status["leader_id"]);
    Ok((
        one(&status["node"]),
        leader.map(one).context("no leader is known")?,
        members.iter().map(one).collect(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_belongs_to_a_name_until_the_node_is_renamed_on_purpose() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.api().next("second").await?.expect(StatusCode::OK)?;
    node.terminate().await?;

    rename(node, "other")?;
    node.set("LOCKSTEP_PEERS", format!("other={}", node.grpc_address()));
    node.start()?;
    let status = node.wait_ended(STOP_DEADLINE).await?;
    assert_eq!(status.code(), Some(1));
    let log = node.log();
    let said = log.lines().last().context("it says why")?;
    for part in ["\"node1\"", "\"other\"", "lockstepd rename --data-dir"] {
        assert!(said.contains(part), "{part} is not in {said:?}");
    }

    let said = run(node.lockstepd("rename")?, PROGRAM_DEADLINE)
        .await?
        .done()?;
    assert!(
        said.contains("\"other\"") && said.contains("\"node1\""),
        "{said}"
    );
    node.restart().await?;
    assert_eq!(node.api().state().await?, "second");
    let now = format!("other={}", node.grpc_address());
    wait_for(
        "the membership to have the new name",
        READY_DEADLINE,
        async || {
            let shown = shown(node.api()).await?;
            let expected = (now.clone(), now.clone(), vec![now.clone()]);
            ensure!(shown == expected, "{shown:?}");
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_renamed_and_moved_is_reached_and_shown_by_all() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let follower = cluster.follower().await?;
    cluster.nodes[follower].terminate().await?;
    rename(&mut cluster.nodes[follower], "moved")?;
    let peers = cluster.peers();
    for node in &mut cluster.nodes {
        node.set("LOCKSTEP_PEERS", &peers);
    }
    let renaming = cluster.nodes[follower].lockstepd("rename")?;
    run(renaming, PROGRAM_DEADLINE).await?.done()?;
    cluster.nodes[follower].start()?;
    // One node after another gets the new list.
    for other in (0..3).filter(|it| *it != follower) {
        cluster.nodes[other].terminate().await?;
        cluster.nodes[other].restart().await?;
    }
    let mut expected: Vec<_> = peers.split(',').map(str::to_owned).collect();
    expected.sort();
    wait_for(
        "all nodes to show the new name",
        READY_DEADLINE,
        async || {
            for node in &cluster.nodes {
                let (own, _, members) = shown(node.api()).await?;
                let now = format!("{}={}", node.name, node.grpc_address());
                ensure!(own == now && members == expected, "{own} {members:?}");
            }
            Ok(())
        },
    )
    .await?;
    cluster.nodes[follower]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    cluster.agree().await
}
