//! Nodes compare the hashes of their states by themselves, while they run, and one whose state is wrong stops
//! answering.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, STOP_DEADLINE};
use lockstep_tests::http::{Api, after};
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

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

/// Makes a node claim another state than it has.
const DIFFERS: &str = "LOCKSTEP_TEST_STATE_DIFFERS";

/// Makes so many changes that every node hashes its state once more. Few instances: the more there are, the
/// further apart the hashes.
async fn until_the_next_hash(api: &Api, prefix: &str) -> Result<()> {
    const WRITERS: u64 = 16;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, id) = (api.clone(), format!("{prefix}{writer}"));
        writers.spawn(async move {
            let instances = "/v1/machines/triad/instances";
            let created = api.post(instances, &json!({ "id": id })).await?;
            created.expect(StatusCode::CREATED)?;
            let transitions = format!("{instances}/{id}/transitions");
            let mut state = "first";
            for _ in 0..MOVES / WRITERS + 1 {
                state = after(state);
                let moved = api.post(&transitions, &json!({ "to": state })).await?;
                // The hash may have been taken and compared already.
                if moved.text.contains("state_differs") {
                    break;
                }
                moved.expect(StatusCode::OK)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// Waits until a node answers no requests, because of its state.
async fn wait_for_silence(node: &Node) -> Result<()> {
    let what = format!("{} to answer nothing", node.name);
    wait_for(what, COMPARED_DEADLINE, async || {
        let instance = "/v1/machines/triad/instances/default";
        let stale = format!("{instance}?consistency=stale");
        let requests = [
            node.api().get(instance).await?,
            node.api().get(&stale).await?,
            node.api()
                .post("/v1/machines/triad/instances", &json!({ "id": "x" }))
                .await?,
        ];
        for answer in requests {
            ensure!(
                answer.status == StatusCode::SERVICE_UNAVAILABLE,
                "{answer:?}"
            );
            ensure!(answer.json()?["code"] == "state_differs", "{answer:?}");
        }
        let ready = node.api().get("/readyz").await?;
        ensure!(ready.status == StatusCode::SERVICE_UNAVAILABLE, "{ready:?}");
        ensure!(ready.text.contains("lockstepd rejoin"), "{ready:?}");
        let distrusted = node.api().metric("lockstep_state_distrusted").await?;
        ensure!(distrusted == 1.0, "{distrusted}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_state_is_wrong_hands_over_and_answers_nothing_until_it_rejoins()
-> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    cluster.nodes[0].set(DIFFERS, 1);
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let transfer = json!({ "to": "node1" });
    let path = "/v1/cluster/transfer-leadership";
    let moved = cluster.nodes[1].api().post(path, &transfer).await?;
    moved.expect(StatusCode::OK)?;
    until_the_next_hash(cluster.nodes[1].api(), "a").await?;
    wait_for_silence(&cluster.nodes[0]).await?;
    // The others serve, and one of them leads.
    wait_for("another leader", COMPARED_DEADLINE, async || {
        let leader = cluster.leader().await?;
        ensure!(leader != 0, "node1 leads");
        Ok(())
    })
    .await?;
    for node in &cluster.nodes[1..] {
        node.api().get("/readyz").await?.expect(StatusCode::OK)?;
    }
    let refused = cluster.nodes[1].api().post(path, &transfer).await?;
    let refused = refused.expect(StatusCode::CONFLICT)?;
    ensure!(
        refused.text.contains("its state may be wrong"),
        "{refused:?}"
    );
    until_the_next_hash(cluster.nodes[2].api(), "b").await?;

    // A restart does not make the state right.
    cluster.nodes[0].terminate().await?;
    cluster.nodes[0].unset(DIFFERS);
    cluster.nodes[0].start()?;
    wait_for_silence(&cluster.nodes[0]).await?;
    cluster.nodes[0].terminate().await?;
    let mut rejoin = cluster.nodes[0].lockstepd("rejoin")?;
    rejoin.arg("--yes").arg("--data-dir");
    rejoin.arg(cluster.nodes[0].data());
    let rejoined = lockstep_tests::program::run(rejoin, STOP_DEADLINE).await?;
    ensure!(rejoined.code == Some(0), "{rejoined:?}");
    cluster.nodes[0].restart().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_that_differ_neither_answers_until_a_third_decides() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    cluster.nodes[0].set(DIFFERS, 1);
    cluster.start_all()?;
    cluster.wait_ready().await?;
    cluster.nodes[2].kill9()?;
    until_the_next_hash(cluster.nodes[1].api(), "a").await?;
    for node in &cluster.nodes[..2] {
        wait_for_silence(node).await?;
    }
    // It applies the entry after which the others took their hashes.
    cluster.nodes[2].start()?;
    for node in &mut cluster.nodes[1..] {
        node.wait_ready().await?;
    }
    wait_for_silence(&cluster.nodes[0]).await?;
    for (node, state) in cluster.nodes[1..].iter().zip(["second", "third"]) {
        node.api().next(state).await?.expect(StatusCode::OK)?;
    }
    Ok(())
}
