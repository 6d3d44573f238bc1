//! The summary of a record.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::operation::Operation;
use crate::record::{Record, Tally};

/// The summary of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of each kind of operation.
    pub operations: Vec<OperationReport>,
    /// Of all operations together.
    pub total: OperationReport,
    /// Processor time of the generator for each operation, in microseconds.
    pub generator_cpu_us: f64,
}

/// The summary of the operations of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationReport {
    /// Which kind; none for all together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// How many were acknowledged.
    pub done: u64,
    /// How many objects these changed or read: several for each operation in a batch.
    pub items: u64,
    /// Acknowledged operations in a second.
    pub per_second: f64,
    /// Items in a second.
    pub items_per_second: f64,
    /// Latencies of acknowledged operations; none without any.
    pub latency_us: Option<Latency>,
    /// How many failed.
    pub failed: u64,
    /// How many failed, by code.
    pub errors: BTreeMap<String, u64>,
}

/// A distribution of latencies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub min: u64,
    pub mean: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    #[serde(rename = "p99.9")]
    pub p999: u64,
    #[serde(rename = "p99.99")]
    pub p9999: u64,
    pub max: u64,
}

impl Report {
    /// The summary of what was done, in transitions of batches of this size.
    pub fn new(record: &Record, batch: u64) -> Self {
        let measured = record.measured;
        let operations: Vec<_> = record
            .tallies
            .iter()
            .map(|(operation, tally)| {
                let batch = if *operation == Operation::Transition {
                    batch
                } else {
                    1
                };
                let items = tally.done.len() * batch;
                OperationReport::new(Some(*operation), tally, items, measured)
            })
            .collect();
        let items = operations.iter().map(|it| it.items).sum();
        let total = OperationReport::new(None, &record.total(), items, measured);
        let tried = (total.done + total.failed).max(1);
        Self {
            generator_cpu_us: rounded(record.generator_cpu.as_secs_f64() * 1e6 / tried as f64),
            operations,
            total,
        }
    }
}

impl OperationReport {
    fn new(operation: Option<Operation>, tally: &Tally, items: u64, measured: Duration) -> Self {
        let errors = tally.failed.iter();
        let seconds = measured.as_secs_f64().max(f64::MIN_POSITIVE);
        Self {
            operation,
            done: tally.done.len(),
            items,
            per_second: rounded(tally.done.len() as f64 / seconds),
            items_per_second: rounded(items as f64 / seconds),
            latency_us: Latency::of(tally),
            failed: tally.failures(),
            errors: errors.map(|(code, it)| (code.clone(), it.count)).collect(),
        }
    }
}

impl Latency {
    /// None if nothing was done.
    fn of(tally: &Tally) -> Option<Self> {
        let done = &tally.done;
        (!done.is_empty()).then(|| Self {
            min: done.min(),
            mean: done.mean().round() as u64,
            p50: done.value_at_quantile(0.5),
            p90: done.value_at_quantile(0.9),
            p99: done.value_at_quantile(0.99),
            p999: done.value_at_quantile(0.999),
            p9999: done.value_at_quantile(0.9999),
            max: done.max(),
        })
    }
}

/// To one decimal.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Failed;

    #[test]
    fn a_report_counts_items_and_failures_and_has_the_percentiles() {
        let mut record = Record {
            measured: Duration::from_secs(2),
            generator_cpu: Duration::from_millis(1),
            ..Record::default()
        };
        for n in 1..=999 {
            record.add(Operation::Transition, Duration::from_micros(n), &Ok(()));
        }
        let lost = Failed::unavailable("outcome_unknown", "no answer in time");
        record.add(Operation::Transition, Duration::ZERO, &Err(lost));
        record.add(Operation::Read, Duration::from_micros(5), &Ok(()));
        let report = Report::new(&record, 10);
        let shown = serde_json::to_value(&report).expect("it has a JSON form");
        assert_eq!(
            shown["operations"][0],
            serde_json::json!({
                "operation": "transition", "done": 999, "items": 9990,
                "per_second": 499.5, "items_per_second": 4995.0,
                "latency_us": {
                    "min": 1, "mean": 500, "p50": 500, "p90": 900, "p99": 990, "p99.9": 999,
                    "p99.99": 999, "max": 999,
                },
                "failed": 1, "errors": { "outcome_unknown": 1 },
            })
        );
        assert_eq!(shown["total"]["items"], 9991);
        assert_eq!(shown["total"].get("operation"), None);
        assert_eq!(shown["generator_cpu_us"], 1.0);
    }

    #[test]
    fn without_an_acknowledgement_there_is_no_latency() {
        let mut record = Record::default();
        let refused = Failed::unavailable("unavailable", "refused");
        record.add(Operation::Read, Duration::ZERO, &Err(refused));
        let report = Report::new(&record, 1);
        assert_eq!(report.total.latency_us, None);
        assert_eq!((report.total.done, report.total.failed), (0, 1));
    }
}
