//! docs/OPERATIONS.md: the commands of every section, run as written in the situation that the section is
//! about, and the effect that the section promises.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan};
use lockstep_tests::members::{CHANGE_DEADLINE, wait_for_voters};
use lockstep_tests::traffic::Writer;
use lockstep_tests::walkthrough::{Terminal, repository, sections};
use reqwest::{Method, StatusCode};
use tempfile::NamedTempFile;

fn document() -> Result<PathBuf> {
    Ok(repository()?.join("docs/OPERATIONS.md"))
}

fn terminal(cluster: &Cluster) -> Result<Terminal> {
    let nodes = cluster.nodes.iter();
    Terminal::of(nodes.map(|node| (node.http_address(), node.grpc_address())))
}

#[test]
fn every_section_with_commands_has_a_test_here() -> Result<()> {
    let here = concat!(
        include_str!("operations.rs"),
        include_str!("consul_cluster/forgetting.rs")
    );
    for section in sections(&document()?)? {
        ensure!(here.contains(&format!("{section:?}")), "{section}");
    }
    Ok(())
}

#[tokio::test]
async fn the_members_are_listed() -> Result<()> {
    let cluster = Cluster::start().await?;
    terminal(&cluster)?
        .run_section(&document()?, "Operations")
        .await
}

#[tokio::test]
async fn a_node_that_lost_its_disk_waits_until_the_old_member_is_removed() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_CLUSTER_AUTO_REPLACE", "false");
    let mut cluster = Cluster::start_as(plan).await?;
    let terminal = terminal(&cluster)?;
    cluster.nodes[1].kill9()?;
    cluster.nodes[1].lose_disk()?;
    cluster.nodes[1].start()?;
    terminal
        .run_section(&document()?, "A node lost its disk")
        .await?;
    cluster.nodes[1].wait_ready().await?;
    wait_for_voters(cluster.nodes[0].api(), &["node1", "node2", "node3"]).await?;
    cluster.agree().await
}

#[tokio::test]
async fn a_damaged_node_joins_again() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let node = &mut cluster.nodes[2];
    node.terminate().await?;
    fs::write(node.data().join("identity.json"), "damaged")?;
    node.start()?;
    let status = node.wait_ended(CHANGE_DEADLINE).await?;
    ensure!(!status.success(), "it started on a damaged disk");
    ensure!(node.log().contains("lockstepd rejoin"), "{}", node.log());
    let data = cluster.nodes[2].data().display().to_string();
    terminal(&cluster)?
        .renaming("/var/lib/lockstep", data)
        .run_section(
            &document()?,
            "A node does not start, because its data is damaged",
        )
        .await?;
    cluster.nodes[2].restart().await?;
    wait_for_voters(cluster.nodes[0].api(), &["node1", "node2", "node3"]).await?;
    cluster.agree().await
}

#[tokio::test]
async fn nodes_are_added() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let voter = cluster.lay_out_another()?;
    let learner = cluster.lay_out_another()?;
    let [to_vote, to_learn] = [voter, learner].map(|at| cluster.nodes[at].grpc_address());
    let terminal = terminal(&cluster)?
        .renaming("10.0.0.4:4333", to_vote)
        .renaming("10.0.0.5:4333", to_learn);
    for position in [voter, learner] {
        let node = &mut cluster.nodes[position];
        let itself = format!("{}={}", node.name, node.grpc_address());
        node.set("LOCKSTEP_PEERS", itself);
        node.set("LOCKSTEP_CLUSTER_BOOTSTRAP", "false");
        node.start()?;
    }
    terminal.run_section(&document()?, "Add a node").await?;
    cluster.nodes[voter].wait_ready().await?;
    cluster.nodes[learner].wait_ready().await?;
    wait_for_voters(
        cluster.nodes[0].api(),
        &["node1", "node2", "node3", "node4"],
    )
    .await?;
    cluster.agree().await
}

#[tokio::test]
async fn a_node_is_removed() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    terminal(&cluster)?
        .run_section(&document()?, "Remove a node")
        .await?;
    cluster.nodes[2].wait_ended(CHANGE_DEADLINE).await?;
    wait_for_voters(cluster.nodes[0].api(), &["node1", "node2"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_replaced_under_load() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let new = cluster.lay_out_another()?;
    let terminal = terminal(&cluster)?.renaming("10.0.0.7:4333", cluster.nodes[new].grpc_address());
    let writer = Writer::persistent(cluster.nodes[0].api()).await?;
    cluster.nodes[new].start()?;
    terminal.run_section(&document()?, "Replace a node").await?;
    cluster.nodes[2].wait_ended(CHANGE_DEADLINE).await?;
    wait_for_voters(cluster.nodes[0].api(), &["node1", "node2", "node4"]).await?;
    writer.wait_for_more(20, CHANGE_DEADLINE).await?;
    writer.finish().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let terminal = terminal(&cluster)?;
    let section = "Restart all nodes, one after the other";
    terminal.run_section(&document()?, section).await?;
    // Each node in turn; the writer uses one of the others.
    for restarted in 0..3 {
        let through = cluster.nodes[(restarted + 1) % 3].api().clone();
        let writer = Writer::strict(&through).await?;
        writer.wait_for_more(20, CHANGE_DEADLINE).await?;
        let status = cluster.nodes[restarted].terminate().await?;
        ensure!(status.success(), "it ended with {status}");
        cluster.nodes[restarted].restart().await?;
        writer.wait_for_more(20, CHANGE_DEADLINE).await?;
        let written = writer.finish().await.context("a request failed")?;
        println!("longest pause {:?}", written.longest_gap);
    }
    cluster.agree().await
}

#[tokio::test]
async fn a_disk_is_checked() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    terminal(&cluster)?
        .renaming("/var/lib/lockstep", cluster.nodes[0].data().display())
        .run_section(&document()?, "Check a disk")
        .await
}

#[tokio::test]
async fn a_cluster_is_backed_up() -> Result<()> {
    let cluster = Cluster::start().await?;
    terminal(&cluster)?
        .run_section(&document()?, "Back up")
        .await
}

/// A file with the settings of a node.
fn configuration(node: &Node, peers: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::with_suffix(".toml")?;
    let settings = format!(
        "name = {:?}\ndata_dir = {:?}\nhttp.listen = \"{}\"\ngrpc.listen = \"{}\"\ndiscovery.peers = {:?}\n",
        node.name,
        node.data(),
        node.http_address(),
        node.grpc_address(),
        peers.split(',').collect::<Vec<_>>(),
    );
    fs::write(file.path(), settings)?;
    Ok(file)
}

#[tokio::test]
async fn a_backup_is_restored_into_a_new_cluster() -> Result<()> {
    let old = Cluster::start_as(Plan::single()).await?;
    old.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    let backup = NamedTempFile::new()?;
    let answer = old.nodes[0]
        .api()
        .request(Method::GET, "/v1/cluster/backup");
    fs::write(backup.path(), answer.send().await?.bytes().await?)?;
    drop(old);

    let mut cluster = Cluster::lay_out(Plan::default())?;
    let configured = configuration(&cluster.nodes[0], &cluster.peers())?;
    terminal(&cluster)?
        .renaming("lockstep.backup", backup.path().display())
        .renaming("/etc/lockstep.toml", configured.path().display())
        .renaming("/var/lib/lockstep", cluster.nodes[0].data().display())
        .run_section(&document()?, "Restore")
        .await?;
    grow(&mut cluster, 0).await?;
    assert_eq!(cluster.nodes[2].api().state().await?, "second");
    cluster.agree().await
}

/// Starts the node that has the data, then the others with empty folders.
async fn grow(cluster: &mut Cluster, first: usize) -> Result<()> {
    cluster.nodes[first].restart().await?;
    cluster.start_all()?;
    let api = cluster.nodes[first].api();
    wait_for_voters(api, &["node1", "node2", "node3"]).await?;
    cluster.wait_ready().await
}

#[tokio::test]
async fn a_cluster_that_lost_its_majority_is_recovered_from_one_node() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let api = cluster.nodes[0].api();
    api.next("second").await?.expect(StatusCode::OK)?;
    cluster.agree().await?;
    let status = cluster.nodes[0].api().read("/v1/cluster").await?;
    let id = status["cluster_id"]
        .as_str()
        .context("a cluster id")?
        .to_owned();
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    for lost in [0, 2] {
        cluster.nodes[lost].lose_disk()?;
    }
    terminal(&cluster)?
        .renaming("/var/lib/lockstep", cluster.nodes[1].data().display())
        .renaming("3584844cf6683eb5", id)
        .run_section(&document()?, "Recover after losing the majority")
        .await?;
    grow(&mut cluster, 1).await?;
    assert_eq!(cluster.nodes[0].api().state().await?, "second");
    cluster.agree().await
}
