//! docs/GUARANTEES.md: guarantees that no other test covers, and a check that the tests it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::wait::wait_for;
use lockstep_tests::walkthrough::repository;
use reqwest::StatusCode;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(30);

/// docs/ARCHITECTURE.md draws the crates and modules from their imports, which form no cycle.
#[test]
fn the_architecture_diagrams_match_the_imports() -> Result<()> {
    let check = Command::new(repository()?.join("scripts/architecture"))
        .arg("--check")
        .output()
        .context("scripts/architecture needs python3 3.11 or newer")?;
    ensure!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_that_names_a_revision_sees_that_write_on_every_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let instances = "/v1/machines/triad/instances";
    for round in 0..20 {
        let id = format!("n{round}");
        let writer = cluster.nodes[round % 3].api();
        let written = writer.post(instances, &json!({ "id": id })).await?.json()?;
        let revision = written["revision"].as_u64().context("a revision")?;
        for node in &cluster.nodes {
            let path = format!("{instances}/{id}?consistency=stale&min_revision={revision}");
            assert_eq!(node.api().read(&path).await?["state"], "first");
        }
    }
    // One that the cluster has not got to was never answered to a write.
    let ahead = format!("{instances}/default?consistency=stale&min_revision=1000000");
    let refused = cluster.nodes[0].api().get(&ahead).await?;
    let refused = refused.expect(StatusCode::CONFLICT)?;
    assert_eq!(refused.problem()?["code"], "revision_ahead");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_due_while_all_nodes_were_down_fires_when_they_return() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let api = cluster.nodes[1].api().clone();
    let lease = json!({
        "name": "lease", "initial": "held",
        "states": { "held": { "timeout": { "after": "5s", "to": "lost" } }, "lost": { "final": true } },
        "transitions": [],
    });
    api.post("/v1/machines", &lease)
        .await?
        .expect(StatusCode::CREATED)?;
    api.post("/v1/machines/lease/instances", &json!({ "id": "a" }))
        .await?
        .expect(StatusCode::CREATED)?;
    // It was created before this, so that it is due well before that. Not so soon, though, that it
    // could fire before the last node is killed, were the cores busy.
    let due = Instant::now() + Duration::from_millis(5500);
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    wait_for("the deadline to pass", DEADLINE, async || {
        ensure!(Instant::now() > due, "not yet");
        Ok(())
    })
    .await?;
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let history = wait_for("the timeout", DEADLINE, async || {
        let history = api.read("/v1/machines/lease/instances/a/history").await?;
        ensure!(history["instance_revision"] == 1, "{history}");
        Ok(history)
    })
    .await?;
    let event = &history["events"][0];
    assert_eq!(
        (&event["to"], &event["cause"]),
        (&json!("lost"), &json!("timeout"))
    );
    assert!(
        event["late_ms"].as_u64().is_some_and(|late| late >= 500),
        "{event}"
    );
    cluster.agree().await
}

/// Every `file::test` that the page names.
fn named(page: &str) -> BTreeSet<(&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once("::")).collect()
}

/// The names of the tests in a source file.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line);
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((name, _)) = function
            .strip_prefix("fn ")
            .and_then(|it| it.split_once('('))
            && marked
        {
            tests.insert(name);
            marked = false;
        }
    }
    tests
}

/// Every source file of the repository's rooms.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_test_that_the_page_names_exists() -> Result<()> {
    let repository = repository()?;
    let page = fs::read_to_string(repository.join("docs/GUARANTEES.md"))?;
    let mut missing = named(&page);
    assert!(missing.len() > 30, "only these are named: {missing:?}");
    let mut files = Vec::new();
    for room in [
        "machine", "document", "proto", "raft", "consul", "client", "cli", "node", "tests",
    ] {
        sources(&repository.join(room), &mut files)?;
    }
    for file in files {
        let source = fs::read_to_string(&file)?;
        let tests = tests_in(&source);
        // A file is called by its name, or by its folder's when that says more.
        let within: BTreeSet<_> = file
            .with_extension("")
            .iter()
            .filter_map(|part| part.to_str().map(str::to_owned))
            .collect();
        missing.retain(|(file, test)| !(within.contains(*file) && tests.contains(test)));
    }
    assert!(
        missing.is_empty(),
        "named, but nowhere to be found: {missing:?}"
    );
    Ok(())
}
