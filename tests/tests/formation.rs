//! What keeps nodes from forming a cluster is said: in the log, and in `/readyz`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE};
use lockstep_tests::ports::Port;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

/// Waits until a node says all of this in `/readyz` and, as a warning, in its log.
async fn says(node: &Node, parts: &[&str]) -> Result<()> {
    let what = format!("{} to say {parts:?}", node.name);
    wait_for(what, READY_DEADLINE, async || {
        let answer = node.api().get("/readyz?verbose").await?;
        let problem = answer.expect(StatusCode::SERVICE_UNAVAILABLE)?.problem()?;
        let detail = problem["detail"].as_str().context("a detail")?;
        let has = |line: &str| parts.iter().all(|part| line.contains(part));
        ensure!(has(detail), "{detail}");
        let log = node.log();
        let warned = log
            .lines()
            .filter(|line| line.contains("WARN") && has(line));
        let reasons: Vec<_> = warned.filter_map(|it| it.split_once("reason=")).collect();
        ensure!(!reasons.is_empty(), "no warning in\n{log}");
        // It looks several times a second, and says the same once a minute.
        let unique: BTreeSet<_> = reasons.iter().map(|(_, reason)| reason).collect();
        ensure!(unique.len() == reasons.len(), "it repeats itself:\n{log}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_disagree_about_the_list_of_peers_say_what_differs() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    let peers = cluster.peers();
    let two = peers.rsplit_once(',').context("three")?.0.to_owned();
    cluster.nodes[0].set("LOCKSTEP_PEERS", &two);
    cluster.start_all()?;
    let address = |node: usize| cluster.nodes[node].grpc_address().to_string();
    let (first, second) = (address(0), address(1));
    says(&cluster.nodes[0], &["node2", &second, "also lists node3"]).await?;
    says(&cluster.nodes[1], &["node1", &first, "does not list node3"]).await?;
    says(&cluster.nodes[2], &["node1", &first, "does not list node3"]).await?;

    cluster.nodes[0].terminate().await?;
    cluster.nodes[0].set("LOCKSTEP_PEERS", &peers);
    cluster.nodes[0].start()?;
    cluster.wait_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_a_taken_name_says_where_the_other_is() -> Result<()> {
    let cluster = Cluster::start().await?;
    let folder = tempfile::tempdir()?;
    let mut second = Node::lay_out("node2", folder.path())?;
    second.set("LOCKSTEP_PEERS", cluster.peers());
    second.start()?;
    let taken = cluster.nodes[1].grpc_address().to_string();
    says(&second, &["node2", "another name", &taken]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_host_name_does_not_resolve_is_named() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    let absent = Port::free()?.address().port();
    let third = format!("node3=nowhere.invalid:{absent}");
    let peers = cluster.peers();
    let peers = format!("{},{third}", peers.rsplit_once(',').context("three")?.0);
    for node in &mut cluster.nodes[..2] {
        node.set("LOCKSTEP_PEERS", &peers);
        node.start()?;
    }
    for node in &cluster.nodes[..2] {
        says(node, &["node3", "nowhere.invalid", "does not resolve"]).await?;
    }
    Ok(())
}
