//! The command line `lockstep` against real clusters: what it prints where, and its exit codes.

mod bench;
mod bulk;
mod consul;
mod man;
mod order;
mod outages;
mod settings;
mod shown;
mod transitions;
mod usage;
mod watching;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::program::{self, Ended};
use serde_json::Value;

/// For a run of the program; more than its own default of 5 s.
const RUN_DEADLINE: Duration = Duration::from_secs(20);
/// Time for process start and exit on a busy machine, on top of the command's own deadline. Generous, because
/// it only serves to detect a hang.
const SLACK: Duration = Duration::from_secs(10);

async fn run(mut command: Command, arguments: &[&str]) -> Result<Ended> {
    command.args(arguments);
    program::run(command, RUN_DEADLINE).await
}

async fn lockstep(arguments: &[&str]) -> Result<Ended> {
    run(binaries::lockstep()?, arguments).await
}

/// The gRPC addresses of `nodes`, in this order, as a user lists them.
fn endpoints(cluster: &Cluster, nodes: impl IntoIterator<Item = usize>) -> String {
    let addresses: Vec<_> = nodes
        .into_iter()
        .map(|position| cluster.nodes[position].grpc_address().to_string())
        .collect();
    addresses.join(",")
}

/// A table's header and its rows, cell by cell: columns are two spaces apart.
fn table(text: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let cells = |line: &str| -> Vec<String> {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(String::from)
            .collect()
    };
    let mut lines = text.lines().map(cells);
    let header = lines.next().context("a table without a header")?;
    let rows: Vec<_> = lines.collect();
    for row in &rows {
        ensure!(row.len() == header.len(), "{row:?} under {header:?}");
    }
    Ok((header, rows))
}

/// An error as JSON: one document on standard error.
fn error(said: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(said).with_context(|| format!("{said:?}"))?;
    Ok(document["error"].clone())
}

/// Checks the fields of `value` that `expected` names.
#[track_caller]
fn assert_fields(value: &Value, expected: Value) {
    for (field, expected) in expected.as_object().into_iter().flatten() {
        assert_eq!(&value[field], expected, "{field:?} in {value}");
    }
}
