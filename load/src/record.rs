//! What was done, how long it took, and what failed.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::operation::Operation;

/// Latencies above this count as this.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// An operation that was not done.
#[derive(Debug, Clone)]
pub struct Failed {
    /// A stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Whether the service rejected it; otherwise it did not answer, or could not.
    pub rejected: bool,
}

impl Failed {
    /// The service did not answer, or could not.
    pub fn unavailable(code: &str, message: impl ToString) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_string(),
            rejected: false,
        }
    }
}

/// The failures with one code.
#[derive(Debug, Clone)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Failed,
}

/// What became of the operations of one kind.
#[derive(Debug, Clone)]
pub struct Tally {
    /// The latencies, in microseconds, of those that were done.
    pub done: Histogram<u64>,
    /// The others, by code.
    pub failed: BTreeMap<String, Failures>,
}

impl Default for Tally {
    fn default() -> Self {
        let max = LATENCY_MAX.as_micros() as u64;
        let done = Histogram::new_with_max(max, DIGITS);
        Self {
            done: done.expect("the bounds are valid"),
            failed: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().map(|it| it.count).sum()
    }

    /// Adds what another has.
    pub fn merge(&mut self, other: &Self) {
        self.done.add(&other.done).expect("the bounds are equal");
        for failures in other.failed.values() {
            self.fail(&failures.first, failures.count);
        }
    }

    fn fail(&mut self, failed: &Failed, count: u64) {
        let failures = self.failed.entry(failed.code.clone());
        let failures = failures.or_insert_with(|| Failures {
            count: 0,
            first: failed.clone(),
        });
        failures.count += count;
    }
}

/// What became of all operations.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Of each kind that was tried.
    pub tallies: BTreeMap<Operation, Tally>,
    /// How long the recorded operations took together: more than planned if an open loop fell behind.
    pub measured: Duration,
    /// Processor time of the generator's process meanwhile.
    pub generator_cpu: Duration,
}

impl Record {
    /// One more operation.
    pub(crate) fn add(
        &mut self,
        operation: Operation,
        latency: Duration,
        result: &Result<(), Failed>,
    ) {
        let tally = self.tallies.entry(operation).or_default();
        match result {
            // Below a microsecond there is nothing that crosses a network.
            Ok(()) => tally
                .done
                .saturating_record((latency.as_micros() as u64).max(1)),
            Err(failed) => tally.fail(failed, 1),
        }
    }

    /// Adds the operations that another has.
    pub fn merge(&mut self, other: &Self) {
        for (operation, tally) in &other.tallies {
            self.tallies.entry(*operation).or_default().merge(tally);
        }
    }

    /// All operations together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in self.tallies.values() {
            total.merge(tally);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_records_are_merged() {
        let failed = |code| Err(Failed::unavailable(code, code));
        let (mut one, mut other) = (Record::default(), Record::default());
        for n in 1..=100 {
            one.add(Operation::Read, Duration::from_micros(n), &Ok(()));
            other.add(Operation::Read, Duration::from_millis(n), &Ok(()));
        }
        one.add(Operation::Read, Duration::ZERO, &failed("a"));
        other.add(Operation::Read, Duration::ZERO, &failed("a"));
        other.add(Operation::Transition, Duration::ZERO, &failed("b"));
        one.merge(&other);
        let read = &one.tallies[&Operation::Read];
        assert_eq!((read.done.len(), read.failures()), (200, 2));
        assert_eq!(read.done.value_at_quantile(0.5), 100);
        let total = one.total();
        assert_eq!((total.done.len(), total.failures()), (200, 3));
        assert_eq!(total.failed["a"].count, 2);
    }

    #[test]
    fn latencies_out_of_range_count_as_the_nearest() {
        let mut record = Record::default();
        record.add(Operation::Read, Duration::from_nanos(1), &Ok(()));
        record.add(Operation::Read, LATENCY_MAX * 2, &Ok(()));
        let done = &record.tallies[&Operation::Read].done;
        assert_eq!((done.len(), done.min()), (2, 1));
        assert!(done.max() >= LATENCY_MAX.as_micros() as u64);
    }
}
