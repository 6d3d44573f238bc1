//! The examples and the guide, typed as they are written.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::postgres::{PASSWORD, Postgres, USER};
use lockstep_tests::walkthrough::{Terminal, examples, repository};
use tempfile::TempDir;

/// Runs a document on three new nodes.
async fn runs_as_written(document: &Path) -> Result<()> {
    let cluster = Cluster::start().await?;
    terminal(&cluster)?.run(document).await?;
    cluster.agree().await
}

fn terminal(cluster: &Cluster) -> Result<Terminal> {
    let nodes = cluster.nodes.iter();
    Terminal::of(nodes.map(|node| (node.http_address(), node.grpc_address())))
}

async fn example(name: &str) -> Result<()> {
    let found = examples()?;
    let document = found.get(name).with_context(|| format!("no {name}"))?;
    runs_as_written(document).await
}

#[tokio::test]
async fn the_order_with_a_payment_timeout_runs_as_written() -> Result<()> {
    example("order").await
}

#[tokio::test]
async fn the_deployment_with_approvals_runs_as_written() -> Result<()> {
    example("deployment").await
}

#[tokio::test]
async fn the_life_of_a_device_runs_as_written() -> Result<()> {
    example("device").await
}

#[tokio::test]
async fn the_trip_with_compensation_runs_as_written() -> Result<()> {
    example("trip").await
}

/// Beside a database that psql finds by its own variables, and that the nodes follow from the start:
/// what the reader sets halfway.
#[tokio::test]
async fn the_guide_runs_as_written() -> Result<()> {
    let database = Postgres::start().await?;
    let plan = Plan::default()
        .with("LOCKSTEP_SINK_REPORTS_KIND", "postgres")
        .with("LOCKSTEP_SINK_REPORTS_ADDRESS", database.address())
        .with("LOCKSTEP_SINK_REPORTS_PASSWORD", PASSWORD);
    let cluster = Cluster::start_as(plan).await?;
    let patient = patient_psql()?;
    let mut path = patient.path().as_os_str().to_owned();
    path.push(":");
    path.push(binaries::search_path()?);
    let terminal = terminal(&cluster)?
        .with("PATH", path)
        .with("PGHOST", "127.0.0.1")
        .with("PGPORT", database.port().to_string())
        .with("PGUSER", USER)
        .with("PGPASSWORD", PASSWORD)
        .with("PSQLRC", "/dev/null");
    terminal.run(&repository()?.join("docs/GUIDE.md")).await?;
    cluster.agree().await
}

/// A folder with a `psql` that first waits for the sink: the reader, who starts the nodes anew before,
/// does so, too.
fn patient_psql() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let psql = folder.path().join("psql");
    let script = "#!/bin/sh\n\
        until lockstep sink list -o json | grep -q '\"lag_events\": *0[^0-9]'; do sleep 0.1; done\n\
        PATH=${PATH#*:} exec psql \"$@\"\n";
    fs::write(&psql, script)?;
    fs::set_permissions(&psql, Permissions::from_mode(0o755))?;
    Ok(folder)
}

#[test]
fn every_example_has_a_test_here() -> Result<()> {
    let here = include_str!("walkthroughs.rs");
    for name in examples()?.keys() {
        assert!(here.contains(&format!("example(\"{name}\")")), "{name}");
    }
    Ok(())
}
