//! Rolling upgrades: nodes of two releases form one cluster, and the feature level rises once all run the newer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries::previous_release;
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::http::{Answer, Api, answer};
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::json;

/// Makes a node support no higher level, as if it ran an older release.
const SUPPORTED: &str = "LOCKSTEP_TEST_FEATURE_LEVEL";
/// For so many writes to be acknowledged while two cores do everything.
const WRITES_DEADLINE: Duration = Duration::from_secs(40);

/// The feature level that a node has applied, and what it says keeps the level there.
async fn level(api: &Api) -> Result<(u64, String)> {
    let status = api.read("/v1/cluster").await?;
    let level = status["feature_level"].as_u64().context("no level")?;
    Ok((level, status["feature_level_waits_for"].to_string()))
}

/// The highest feature level that each member supports.
async fn supported(api: &Api) -> Result<Vec<u64>> {
    let members = api.members().await?;
    let supported = members
        .iter()
        .map(|it| it["report"]["feature_level_max"].as_u64());
    supported
        .collect::<Option<_>>()
        .context("a member does not answer")
}

/// Waits until a node says that the level waits for something, in these words.
async fn wait_for_reason(api: &Api, reason: &str) -> Result<()> {
    wait_for(
        format!("the level to wait: {reason}"),
        READY_DEADLINE,
        async || {
            let (level, reasons) = level(api).await?;
            ensure!(
                level == 1 && reasons.contains(reason),
                "level {level}: {reasons}"
            );
            Ok(())
        },
    )
    .await
}

/// Waits until a node has applied level 2.
async fn wait_for_level_2(node: &Node) -> Result<()> {
    wait_for("the level to rise", READY_DEADLINE, async || {
        let (level, reasons) = level(node.api()).await?;
        ensure!(level == 2, "level {level}: {reasons}");
        Ok(())
    })
    .await
}

/// Sends what needs level 2.
async fn use_level_2(api: &Api) -> Result<Answer> {
    let request = api.request(Method::PATCH, "/v1/cluster/settings");
    answer(request.json(&json!({ "feature_level_max": 9 }))).await
}

async fn refused_because(api: &Api, reason: &str) -> Result<()> {
    let refused = use_level_2(api).await?.expect(StatusCode::CONFLICT)?;
    let problem = refused.json()?;
    ensure!(problem["code"] == "not_supported_yet", "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains("needs feature level 2, and the cluster is at level 1")
            && detail.contains(reason),
        "{detail}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_does_not_support_is_refused_until_it_is_upgraded() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    cluster.nodes[1].set(SUPPORTED, 1);
    cluster.start_all()?;
    cluster.wait_ready().await?;
    for node in [0, 2] {
        wait_for_reason(cluster.nodes[node].api(), "node2 runs release").await?;
        let api = cluster.nodes[node].api();
        refused_because(api, "node2 runs release").await?;
    }
    assert_eq!(supported(cluster.nodes[0].api()).await?, [2, 1, 2]);
    // While a member is down, its release is not known.
    cluster.nodes[1].terminate().await?;
    wait_for_reason(cluster.nodes[0].api(), "node2 does not answer").await?;

    cluster.nodes[1].unset(SUPPORTED);
    cluster.nodes[1].restart().await?;
    for node in &cluster.nodes {
        wait_for_level_2(node).await?;
    }
    let api = cluster.nodes[1].api();
    use_level_2(api).await?.expect(StatusCode::OK)?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_support_the_clusters_level_does_not_join_or_start() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    for node in &cluster.nodes {
        wait_for_level_2(node).await?;
    }
    let older = cluster.lay_out_another()?;
    cluster.nodes[older].set(SUPPORTED, 1);
    cluster.nodes[older].start()?;
    let name_both = "supports feature levels up to 1, and the cluster is at level 2";
    wait_for("the node to be refused", READY_DEADLINE, async || {
        let log = cluster.nodes[older].log();
        ensure!(log.contains(name_both), "{log}");
        Ok(())
    })
    .await?;
    let members = cluster.nodes[0].api().read("/v1/cluster/members").await?;
    assert_eq!(members["members"].as_array().map(Vec::len), Some(3));

    cluster.nodes[1].terminate().await?;
    cluster.nodes[1].set(SUPPORTED, 1);
    refuses_to_start(
        &mut cluster.nodes[1],
        "is at feature level 2; this build supports levels up to 1",
    )
    .await?;
    cluster.nodes[1].unset(SUPPORTED);
    cluster.nodes[1].restart().await
}

/// Starts a node that must end by itself, for this reason.
async fn refuses_to_start(node: &mut Node, reason: &str) -> Result<()> {
    node.start()?;
    let status = node.wait_ended(STOP_DEADLINE).await?;
    ensure!(!status.success(), "it ended with {status}");
    let log = node.log();
    ensure!(log.contains(reason), "{log}");
    ensure!(!log.contains("corrupt"), "{log}");
    Ok(())
}

/// Stops a node and starts it with another release, while `writer` goes on.
async fn switch(node: &mut Node, release: Option<&Path>, writer: &Writer) -> Result<()> {
    node.terminate().await?;
    node.run_release(release);
    node.restart().await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_node_by_node_under_load_and_back_until_the_level_rises() -> Result<()>
{
    let Some(previous) = previous_release() else {
        println!(
            "skipped: LOCKSTEP_TEST_PREVIOUS does not name a build of the previous release; scripts/previous-release makes one"
        );
        return Ok(());
    };
    let previous = previous.as_path();
    let mut cluster = Cluster::lay_out(Plan::default())?;
    for node in &mut cluster.nodes {
        node.run_release(Some(previous));
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    // It is among the nodes that are restarted: its requests fail meanwhile and are repeated.
    let writer = Writer::persistent(cluster.nodes[0].api()).await?;
    for node in [0, 1] {
        switch(&mut cluster.nodes[node], None, &writer).await?;
    }
    // A release need not add a level.
    let supported = supported(cluster.nodes[0].api()).await?;
    let adds_a_level = supported[2] < supported[0];
    if adds_a_level {
        wait_for_reason(cluster.nodes[0].api(), "node3 runs release").await?;
        refused_because(cluster.nodes[1].api(), "node3 runs release").await?;
    }

    // Nothing that the previous release does not know has been written: a downgrade is still possible.
    for node in [1, 0] {
        switch(&mut cluster.nodes[node], Some(previous), &writer).await?;
    }
    for node in &mut cluster.nodes {
        switch(node, None, &writer).await?;
    }
    for node in &cluster.nodes {
        wait_for_level_2(node).await?;
    }
    use_level_2(cluster.nodes[2].api())
        .await?
        .expect(StatusCode::OK)?;
    if adds_a_level {
        cluster.nodes[1].terminate().await?;
        cluster.nodes[1].run_release(Some(previous));
        refuses_to_start(&mut cluster.nodes[1], "this build does not know").await?;
        cluster.nodes[1].run_release(None);
        cluster.nodes[1].restart().await?;
    }

    let written = writer.finish().await?;
    println!("longest pause {:?}", written.longest_gap);
    let (_, revision) = cluster.nodes[1].api().instance().await?;
    assert_eq!(revision, written.revision);
    cluster.agree().await
}
