//! `lockstep bench` against a cluster of this process.

use std::time::Duration;

use anyhow::{Context, Result};
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

/// The rate and the latencies in a report.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// Changes or reads, of which an operation may have several.
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Speed {
    pub fn of(report: &Value) -> Result<Self> {
        let total = &report["total"];
        Ok(Self {
            per_second: number(total, "items_per_second")?,
            p50_ms: number(&total["latency_us"], "p50")? / 1e3,
            p99_ms: number(&total["latency_us"], "p99")? / 1e3,
        })
    }
}

/// A number in a report.
pub fn number(report: &Value, field: &str) -> Result<f64> {
    let number = report[field].as_f64();
    number.with_context(|| format!("no {field} in {report}"))
}
