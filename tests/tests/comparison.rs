//! Nodes compare the hashes of their states by themselves, while they run.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

/// One more than the revisions between two hashes, so that a multiple of them is passed.
const MOVES: u64 = 4097;
/// For all the moves, one after the other, on a busy machine.
const WRITES_DEADLINE: Duration = Duration::from_secs(120);
/// Nodes compare every ten seconds.
const COMPARED_DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_node_finds_its_state_equal_to_its_peers() -> Result<()> {
    let cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let writer = Writer::strict(cluster.nodes[leader].api()).await?;
    writer.wait_for_more(MOVES, WRITES_DEADLINE).await?;
    writer.finish().await?;
    for node in &cluster.nodes {
        let what = format!("{} to compare its state with two others", node.name);
        wait_for(what, COMPARED_DEADLINE, async || {
            let name = "lockstep_state_comparisons_total";
            let compared = node.api().metric(name).await?;
            ensure!(compared >= 2.0, "{compared} comparisons so far");
            Ok(())
        })
        .await?;
        let name = "lockstep_state_differing_members";
        let differing = node.api().metric(name).await?;
        assert_eq!(differing, 0.0, "{}", node.name);
        node.api().get("/readyz").await?.expect(StatusCode::OK)?;
    }
    Ok(())
}
