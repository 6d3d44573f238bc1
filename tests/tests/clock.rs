//! Clocks that are wrong: one that was set back is reported, and one that is ahead does not move cluster time.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE};
use lockstep_tests::http::{after, answer};
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The library that shifts the wall clock of a process; of Debian's package `faketime`.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut libraries = folders
        .filter_map(Result::ok)
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

/// What `/readyz?verbose` of a node that is ready says about cluster time.
async fn check(node: &Node) -> Result<Value> {
    let ready = node.api().get("/readyz?verbose").await?;
    let checks = ready.expect(StatusCode::OK)?.json()?["checks"].clone();
    Ok(checks["cluster_time"].clone())
}

async fn metric(node: &Node) -> Result<f64> {
    let name = "lockstep_cluster_time_ahead_seconds";
    node.api().metric(name).await
}

/// Shifts a node's wall clock from the next start on; timers measure on the monotonic one.
fn shift(node: &mut Node, library: &Path, by: &str) {
    node.set("LD_PRELOAD", library.display());
    node.set("FAKETIME_DONT_FAKE_MONOTONIC", 1);
    node.set("FAKETIME", by);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_is_seen_in_the_metric_the_log_and_the_verbose_readiness() -> Result<()> {
    let Some(library) = faketime() else {
        println!("skipped: there is no libfaketime; it is in the package faketime");
        return Ok(());
    };
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.api().next("second").await?.expect(StatusCode::OK)?;
    assert_eq!(check(node).await?, json!({ "ahead_ms": 0, "ok": true }));
    node.terminate().await?;

    shift(node, &library, "-1h");
    node.restart().await?;
    wait_for(
        "cluster time to be seen ahead",
        READY_DEADLINE,
        async || {
            let check = check(node).await?;
            let ahead = check["ahead_ms"].as_u64().context("a number")?;
            ensure!(check["ok"] == false && ahead > 3_500_000, "{check}");
            let metric = metric(node).await?;
            ensure!(metric > 3500.0, "{metric}");
            let log = node.log();
            ensure!(
                log.contains("cluster time is ahead of this node's clock"),
                "{log}"
            );
            Ok(())
        },
    )
    .await?;
    node.terminate().await?;

    node.set("FAKETIME", "+0");
    node.restart().await?;
    wait_for("the clock to have caught up", READY_DEADLINE, async || {
        let check = check(node).await?;
        ensure!(check["ok"] == true, "{check}");
        ensure!(metric(node).await? < 5.0);
        Ok(())
    })
    .await
}

/// When the built-in instance was moved to `state` through a node, by cluster time.
async fn moved_at(node: &Node, state: &str) -> Result<SystemTime> {
    let moved = node.api().transition(state, None, json!({})).await?;
    let moved = moved.expect(StatusCode::OK)?.json()?;
    let at = moved["transitioned"]["at"]
        .as_str()
        .or(moved["at"].as_str());
    let at = at.with_context(|| format!("no time in {moved}"))?;
    Ok(humantime::parse_rfc3339(at)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_a_day_ahead_hands_over_and_does_not_move_cluster_time()
-> Result<()> {
    let Some(library) = faketime() else {
        println!("skipped: there is no libfaketime; it is in the package faketime");
        return Ok(());
    };
    let mut cluster = Cluster::lay_out(Plan::default())?;
    shift(&mut cluster.nodes[0], &library, "+1d");
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let an_hour_on = || SystemTime::now() + Duration::from_secs(3600);
    // Of two voters, the one that does not lead takes over, whatever its clock shows; of three, it would be node2.
    let demote = "/v1/cluster/members/node3/demote";
    let demote = cluster.nodes[1].api().request(Method::POST, demote);
    answer(demote).await?.expect(StatusCode::OK)?;
    let path = "/v1/cluster/transfer-leadership";
    wait_for("node1 to be refused by name", READY_DEADLINE, async || {
        ensure!(cluster.leader().await? == 1, "node2 does not lead");
        let named = json!({ "to": "node1" });
        let refused = cluster.nodes[1].api().post(path, &named).await?;
        let refused = refused.expect(StatusCode::CONFLICT)?;
        ensure!(refused.text.contains("its clock is off"), "{refused:?}");
        Ok(())
    })
    .await?;
    let mut state = "first";
    for _ in 0..5 {
        let moved = cluster.nodes[1].api().post(path, &json!({})).await?;
        moved.expect(StatusCode::OK)?;
        state = after(state);
        let at = moved_at(&cluster.nodes[0], state).await?;
        ensure!(at < an_hour_on(), "cluster time jumped to {at:?}");
        wait_for("node1 to hand over", READY_DEADLINE, async || {
            ensure!(cluster.leader().await? != 0, "node1 leads");
            Ok(())
        })
        .await?;
    }
    let skews = "lockstep_clock_skews_total";
    ensure!(cluster.nodes[0].api().metric(skews).await? >= 1.0);
    let log = cluster.nodes[0].log();
    ensure!(log.contains("raft.clock_skew_max: correct it"), "{log}");
    for node in &cluster.nodes[1..] {
        assert_eq!(node.api().metric(skews).await?, 0.0);
        // The bound is ten seconds.
        let check = check(node).await?;
        ensure!(check["ahead_ms"].as_u64() < Some(15_000), "{check}");
    }
    Ok(())
}
