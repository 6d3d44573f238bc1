//! `lockstep bench` against a cluster of this process.

use std::time::Duration;

use anyhow::Result;
use lockstep_tests::binaries;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::program;
use serde_json::Value;

/// On top of the time of the load: to create instances, and to wait for those that were not answered.
const SLACK: Duration = Duration::from_secs(300);

/// Runs it for so long; returns its report. A failed operation is an error.
pub async fn bench(cluster: &Cluster, duration: Duration, options: &[String]) -> Result<Value> {
    let endpoints = cluster
        .running()
        .map(|node| node.grpc_address().to_string());
    let mut command = binaries::lockstep()?;
    command
        .args(["bench", "-o", "json"])
        .args(["--endpoint", &endpoints.collect::<Vec<_>>().join(",")])
        .args(["--duration", &format!("{}ms", duration.as_millis())])
        .args(options);
    program::run(command, duration + SLACK).await?.json()
}
