//! A clock that was set back: cluster time is then ahead of it, and the node says so.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
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
    let metrics = node.api().get("/metrics").await?.text;
    let value = |line: &str| {
        line.strip_prefix("lockstep_cluster_time_ahead_seconds ")?
            .parse()
            .ok()
    };
    metrics.lines().find_map(value).context("the metric")
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

    // Only the wall clock: timers measure on the monotonic one.
    node.set("LD_PRELOAD", library.display());
    node.set("FAKETIME_DONT_FAKE_MONOTONIC", 1);
    node.set("FAKETIME", "-1h");
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
