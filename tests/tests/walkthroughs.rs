//! The examples and the guide, typed as they are written.

use std::path::Path;

use anyhow::{Context, Result};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::walkthrough::{Terminal, examples, repository};

/// Runs a document on three new nodes.
async fn runs_as_written(document: &Path) -> Result<()> {
    let cluster = Cluster::start().await?;
    let nodes = cluster.nodes.iter();
    let nodes = nodes.map(|node| (node.http_address(), node.grpc_address()));
    Terminal::of(nodes)?.run(document).await?;
    cluster.agree().await
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

#[tokio::test]
async fn the_guide_runs_as_written() -> Result<()> {
    runs_as_written(&repository()?.join("docs/GUIDE.md")).await
}

#[test]
fn every_example_has_a_test_here() -> Result<()> {
    let here = include_str!("walkthroughs.rs");
    for name in examples()?.keys() {
        assert!(here.contains(&format!("example(\"{name}\")")), "{name}");
    }
    Ok(())
}
