//! A bootstrap plan that outlives its cluster keeps all nodes waiting, until it is deleted on purpose.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::cluster::Node;
use lockstep_tests::consul::ConsulAgent;
use lockstep_tests::program::{Ended, run};
use lockstep_tests::walkthrough::{Terminal, repository};
use reqwest::StatusCode;
use tempfile::NamedTempFile;

use super::{PLAN_KEY, SERVICE, cluster_id, planned, says, three_nodes};

/// For a program that asks Consul and three nodes.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(20);

async fn forget(node: &Node, arguments: &[&str]) -> Result<Ended> {
    let mut command = node.lockstepd("forget-cluster")?;
    command.args(arguments);
    run(command, PROGRAM_DEADLINE).await
}

/// A file with the settings of a node that concern Consul.
fn configuration(node: &Node, agent: &ConsulAgent) -> Result<NamedTempFile> {
    let file = NamedTempFile::with_suffix(".toml")?;
    let settings = format!(
        "name = {:?}\ndata_dir = {:?}\ndiscovery.kind = \"consul\"\nconsul.address = {:?}\nconsul.service = {SERVICE:?}\n",
        node.name,
        node.data(),
        agent.url(),
    );
    fs::write(file.path(), settings)?;
    Ok(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_can_be_forgotten_and_one_that_answers_cannot() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    let first = cluster_id(&cluster).await?;

    // Even one node of three keeps it.
    for node in &mut cluster.nodes[1..] {
        node.kill9()?;
    }
    let refused = forget(&cluster.nodes[0], &["--yes"]).await?.failed(1)?;
    for part in [&first, "\"node1\"", "answers at", "nothing was forgotten"] {
        ensure!(refused.contains(part), "{part} is not in {refused}");
    }
    assert_eq!(planned(&agent)?, Some(first.clone()));

    cluster.nodes[0].kill9()?;
    let mut began = Vec::new();
    for node in &mut cluster.nodes {
        node.lose_disk()?;
        began.push(node.log().len());
    }
    cluster.start_all()?;
    let key = PLAN_KEY.trim_start_matches("/v1/kv/");
    for (node, began) in cluster.nodes.iter().zip(began) {
        says(node, began, &format!("the key {key} in Consul")).await?;
        says(node, began, "lockstepd forget-cluster").await?;
    }
    // Without an answer to its question, it does nothing.
    let asked = forget(&cluster.nodes[0], &[]).await?.failed(1)?;
    ensure!(
        asked.contains(&first) && asked.contains("nothing was forgotten"),
        "{asked}"
    );
    assert_eq!(planned(&agent)?, Some(first.clone()));
    let settings = configuration(&cluster.nodes[0], &agent)?;
    Terminal::of([])?
        .renaming("/etc/lockstep.toml", settings.path().display())
        .run_section(
            &repository()?.join("docs/OPERATIONS.md"),
            "A node waits with \"was bootstrapped without this node, and none of its nodes answers\"",
        )
        .await?;
    cluster.wait_ready().await?;
    let second = cluster_id(&cluster).await?;
    assert_ne!(second, first);
    assert_eq!(planned(&agent)?, Some(second));
    let api = cluster.nodes[0].api();
    api.next("second").await?.expect(StatusCode::OK)?;
    cluster.agree().await?;

    // Deleted by hand: there is nothing left to forget.
    let (status, answer) = agent.request("DELETE", PLAN_KEY, "")?;
    assert_eq!(status, 200, "{answer}");
    let nothing = forget(&cluster.nodes[0], &["--yes"]).await?.failed(1)?;
    ensure!(nothing.contains("nothing to forget"), "{nothing}");
    Ok(())
}
