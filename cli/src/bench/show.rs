//! What a run shows.

use std::time::Duration;

use lockstep_load::{OperationReport, Record, Report};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{Bench, Via};
use crate::output;

/// What was run.
pub(super) struct Shown {
    fields: Value,
    line: String,
}

impl Shown {
    pub(super) fn new(bench: &Bench, cluster: &Cluster) -> Self {
        let nodes: Vec<_> = cluster
            .nodes
            .iter()
            .take(cluster.starts)
            .map(ToString::to_string)
            .collect();
        let via = match bench.via {
            Via::Http => "http",
            Via::Grpc => "grpc",
            Via::Stream => "stream",
        };
        let mut line = format!(
            "{} over {via}, {}",
            output::count(bench.clients.into(), "client"),
            bench.mix
        );
        if bench.batch > 1 {
            line.push_str(&format!(" in batches of {}", bench.batch));
        }
        if bench.payload > 0 {
            line.push_str(&format!(" with {} B of metadata", bench.payload));
        }
        if let Some(rate) = bench.rate {
            line.push_str(&format!(", {rate} operations per second"));
        }
        let fields = json!({
            "clients": bench.clients,
            "rate": bench.rate,
            "mix": bench.mix.to_string(),
            "batch": bench.batch,
            "payload_bytes": bench.payload,
            "via": via,
            "nodes": nodes,
            "instances": cluster.instances.count,
            "prefix": cluster.instances.prefix,
            "kept": bench.keep,
            "warm_up_ms": milliseconds(bench.warm_up),
            "duration_ms": milliseconds(bench.duration),
        });
        Self { fields, line }
    }

    /// In one line.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    pub(super) fn json(&self, report: &Report) -> Value {
        let mut all = self.fields.clone();
        if let (Some(all), Value::Object(report)) = (all.as_object_mut(), json!(report)) {
            all.extend(report);
        }
        all
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// A row for each operation, and one for all if there are several; below them, the errors.
pub(super) fn table(report: &Report) -> String {
    let mut rows: Vec<_> = report.operations.iter().collect();
    if rows.len() != 1 {
        rows.push(&report.total);
    }
    let mut text = output::columns!(rows, |row| {
        "OPERATION": row.operation.map_or("all", |it| it.name()),
        "DONE": row.done,
        "FAILED": row.failed,
        "PER SECOND": row.per_second.round(),
        "ITEMS PER SECOND": row.items_per_second.round(),
        "P50": latency(row, |it| it.p50),
        "P90": latency(row, |it| it.p90),
        "P99": latency(row, |it| it.p99),
        "P99.9": latency(row, |it| it.p999),
        "MAX": latency(row, |it| it.max),
    });
    let errors = report.operations.iter().flat_map(|row| {
        let errors = row.errors.iter();
        errors.map(move |(code, count)| (row.operation, code, count))
    });
    let mut errors = errors.peekable();
    if errors.peek().is_some() {
        text.push('\n');
        text.push_str(&output::columns!(errors, |(operation, code, count)| {
            "OPERATION": output::or_dash(operation),
            "ERROR": code,
            "COUNT": count,
        }));
    }
    text
}

fn latency(row: &OperationReport, of: fn(&lockstep_load::Latency) -> u64) -> String {
    output::or_dash(row.latency_us.as_ref().map(|it| shown(of(it))))
}

/// A number of microseconds in milliseconds, with three digits.
fn shown(us: u64) -> String {
    let ms = us as f64 / 1e3;
    match us {
        0..10_000 => format!("{ms:.2} ms"),
        10_000..100_000 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// The last second, beside the progress bar.
pub(super) fn beside(second: &Record, is_warm: bool) -> String {
    if !is_warm {
        return "warming up".to_owned();
    }
    let total = second.total();
    let at = |quantile| shown(total.done.value_at_quantile(quantile));
    let done = total.done.len();
    let mut text = format!("{done}/s, p50 {}, p99 {}", at(0.5), at(0.99));
    if total.failures() > 0 {
        text.push_str(&format!(", {} failed", total.failures()));
    }
    text
}
