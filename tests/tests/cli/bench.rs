//! `bench`: what it counts against what the cluster holds, and that nothing is left behind.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::Api;
use lockstep_tests::process::Process;
use lockstep_tests::program;
use lockstep_tests::wait::wait_for;
use serde_json::Value;

use super::{SLACK, endpoints, error, lockstep};

/// For a bench that is to end by itself.
const DEADLINE: Duration = Duration::from_secs(60);

async fn bench(cluster: &Cluster, options: &str) -> Result<Value> {
    let all = endpoints(cluster, 0..cluster.nodes.len());
    program::run(command(&all, options)?, DEADLINE)
        .await?
        .json()
}

fn command(endpoints: &str, options: &str) -> Result<Command> {
    let mut command = binaries::lockstep()?;
    command.args(["bench", "-o", "json", "-e", endpoints]);
    command.args(options.split(' '));
    Ok(command)
}

/// The instances whose names start with the prefix of a bench.
async fn instances(api: &Api, prefix: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/machines/triad/instances?limit=1000&prefix={prefix}");
    let page = api.read(&path).await?;
    Ok(page["instances"]
        .as_array()
        .context("no instances")?
        .clone())
}

/// How often they were changed.
fn changes(instances: &[Value]) -> u64 {
    let revisions = instances.iter().map(|it| it["revision"].as_u64());
    revisions
        .map(|it| it.expect("a revision is a number"))
        .sum()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// What an operation of a report has in this field.
fn of(report: &Value, operation: &str, field: &str) -> u64 {
    let all = report["operations"].as_array().expect("a list");
    let found = all.iter().find(|it| it["operation"] == operation);
    number(&found.unwrap_or_else(|| panic!("no {operation} in {report}"))[field])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_that_a_bench_counts_is_in_the_cluster() -> Result<()> {
    let cluster = Cluster::start().await?;
    let api = cluster.nodes[0].api();
    let mix = "--mix transition=3,transaction=1,read=1,stale-read=1";
    for options in [
        format!("--instances 10 {mix}"),
        format!("--via grpc --through all {mix}"),
        format!("--through followers --batch 5 {mix}"),
        "--via grpc --batch 7 --connections 2 --payload 100".to_owned(),
        format!("--via stream --instances 10 {mix}"),
        "--payload 1000".to_owned(),
    ] {
        let common = "--clients 4 --duration 1s --warm-up 0s --keep";
        let report = bench(&cluster, &format!("{common} {options}")).await?;
        let left = instances(api, report["prefix"].as_str().context("no prefix")?).await?;
        assert_eq!(left.len() as u64, number(&report["instances"]), "{options}");
        let mut changed = of(&report, "transition", "items");
        assert_eq!(
            changed,
            of(&report, "transition", "done") * number(&report["batch"])
        );
        if options.contains(mix) {
            changed += of(&report, "transaction", "done");
            for read in ["read", "stale-read"] {
                assert!(of(&report, read, "done") > 0, "{options}");
            }
        }
        assert!(changed > 0, "{options}");
        assert_eq!(changes(&left), changed, "{options}: {report}");
        assert_eq!(report["total"]["failed"], 0, "{options}");
        let name = left[0]["id"].as_str().context("no id")?;
        let name = name.strip_prefix("triad/").context("another machine")?;
        let path = format!("/v1/machines/triad/instances/{name}/history");
        let events = api.read(&path).await?["events"].clone();
        let last = events.as_array().and_then(|it| it.last());
        let payload = &last.context("no history")?["metadata"]["payload"];
        let sent = payload.as_str().map_or(0, str::len) as u64;
        assert_eq!(sent, number(&report["payload_bytes"]), "{options}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_counts_what_was_due_and_the_instances_are_deleted() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let folder = tempfile::tempdir()?;
    let plot = folder.path().join("latency.svg");
    let options = "--clients 8 --threads 2 --duration 1s --warm-up 0s --rate 200 --plot";
    let report = bench(&cluster, &format!("{options} {}", plot.display())).await?;
    assert_eq!(report["rate"], 200);
    assert_eq!(of(&report, "transition", "done"), 200);
    let latency = &report["operations"][0]["latency_us"];
    let of = |name: &str| number(&latency[name]);
    let ordered = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "max"].map(of);
    assert!(ordered.is_sorted() && ordered[0] > 0, "{latency}");
    let drawn = std::fs::read_to_string(&plot)?;
    assert!(drawn.contains("<polyline"), "{drawn}");
    let prefix = report["prefix"].as_str().context("no prefix")?;
    assert_eq!(instances(cluster.nodes[0].api(), prefix).await?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_continues_when_its_node_is_killed_and_counts_failures() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let all = endpoints(&cluster, 0..3);
    let options = "--prefix killed --clients 8 --duration 6s --warm-up 0s --rate 100";
    let running = program::run(command(&all, options)?, DEADLINE);
    let api = cluster.nodes[follower].api().clone();
    let kill = async {
        changed(&api, "killed-").await?;
        cluster.nodes[leader].kill9()
    };
    let (ended, killed) = tokio::join!(running, kill);
    killed?;
    let ended = ended?;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout)?;
    let total = &report["total"];
    // No client's connection survived, and each noticed.
    assert!(number(&total["failed"]) >= 1, "{total}");
    assert_eq!(number(&total["done"]) + number(&total["failed"]), 600);
    let by_code = total["errors"].as_object().context("no errors")?;
    let counted: u64 = by_code.values().map(number).sum();
    assert_eq!(number(&total["failed"]), counted);
    assert_eq!(error(&ended.stderr)?["failed"], total["failed"]);
    assert_eq!(instances(&api, "killed-").await?.len(), 0);
    Ok(())
}

/// Waits until an instance of the bench with this prefix has changed.
async fn changed(api: &Api, prefix: &str) -> Result<()> {
    wait_for("a change", DEADLINE, async || {
        ensure!(changes(&instances(api, prefix).await?) > 0, "no change yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bench_that_is_interrupted_reports_and_deletes_its_instances() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("bench.json");
    let options = "--prefix stopped --clients 4 --duration 1h --warm-up 0s";
    let command = command(&endpoints(&cluster, 0..1), options)?;
    let mut process = Process::spawn("bench", command, &log)?;
    changed(api, "stopped-").await?;
    process.signal(libc::SIGINT)?;
    let status = process.wait(SLACK).await?;
    assert_eq!(status.code(), Some(0), "{}", process.log());
    let report: Value = serde_json::from_str(&process.log())?;
    assert!(of(&report, "transition", "done") > 0, "{report}");
    assert_eq!(instances(api, "stopped-").await?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_does_not_allow_is_refused_before_anything_is_created() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = endpoints(&cluster, 0..1);
    for (options, exit, words) in [
        ("--batch 129", 2, "at most 128"),
        ("--through followers", 2, "the only node"),
        ("--prefix a/b", 2, "character 2 is '/'"),
        ("--http 127.0.0.1:1", 3, "127.0.0.1:1"),
    ] {
        let mut arguments = vec!["bench", "-e", &node, "--timeout", "5s"];
        arguments.extend(options.split(' '));
        let said = lockstep(&arguments).await?.failed(exit)?;
        assert!(said.contains(words), "{options}: {said}");
    }
    assert_eq!(instances(cluster.nodes[0].api(), "bench-").await?.len(), 0);
    Ok(())
}
