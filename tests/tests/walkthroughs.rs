//! The examples and the guide, typed as they are written.

use std::path::Path;

use anyhow::{Context, Result};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::postgres::{PASSWORD, Postgres, USER};
use lockstep_tests::walkthrough::{Terminal, examples, repository};

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
/// what the reader is told to set halfway.
#[tokio::test]
async fn the_guide_runs_as_written() -> Result<()> {
    let database = Postgres::start().await?;
    let plan = Plan::default()
        .with("LOCKSTEP_SINK_REPORTS_KIND", "postgres")
        .with("LOCKSTEP_SINK_REPORTS_ADDRESS", database.address())
        .with("LOCKSTEP_SINK_REPORTS_PASSWORD", PASSWORD);
    let cluster = Cluster::start_as(plan).await?;
    let terminal = terminal(&cluster)?
        .with("PGHOST", "127.0.0.1")
        .with("PGPORT", database.port().to_string())
        .with("PGUSER", USER)
        .with("PGPASSWORD", PASSWORD)
        .with("PSQLRC", "/dev/null");
    terminal.run(&repository()?.join("docs/GUIDE.md")).await?;
    cluster.agree().await
}

#[test]
fn every_example_has_a_test_here() -> Result<()> {
    let here = include_str!("walkthroughs.rs");
    for name in examples()?.keys() {
        assert!(here.contains(&format!("example(\"{name}\")")), "{name}");
    }
    Ok(())
}
