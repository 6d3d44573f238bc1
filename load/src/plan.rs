//! What a run does, and for how long.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::operation::Operation;

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many operations are in flight at most, each on a client of its own.
    pub clients: usize,
    /// How many threads the clients are divided among.
    pub threads: usize,
    /// Operations per second in an open loop; a closed loop without it.
    pub rate: Option<u32>,
    /// What comes first and is not recorded.
    pub warm_up: Duration,
    /// The time after that, in which every operation is recorded that begins, or is due.
    pub measured: Duration,
    /// How long operations of an open loop that are due, but wait for a client, are still sent after the end. The
    /// others fail with the code `not_sent`.
    pub overtime: Duration,
    /// Which operations.
    pub mix: Mix,
}

/// How many threads generate the load unless more are needed: half of the cores, because the service often shares
/// them.
pub fn threads_default() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// Operations and their weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    weights: Vec<(Operation, u32)>,
    total: u32,
}

impl Mix {
    /// The largest weight.
    pub const WEIGHT_MAX: u32 = 1_000_000;

    /// Whether the operation occurs in it.
    pub fn contains(&self, operation: Operation) -> bool {
        self.weights.iter().any(|(it, _)| *it == operation)
    }

    /// One of the operations, each with a probability in proportion to its weight.
    pub(crate) fn pick(&self) -> Operation {
        let [(only, _)] = self.weights[..] else {
            return self.at(rand::random_range(0..self.total));
        };
        only
    }

    fn at(&self, mut point: u32) -> Operation {
        for (operation, weight) in &self.weights {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return *operation,
            }
        }
        self.weights[0].0
    }
}

impl From<Operation> for Mix {
    fn from(operation: Operation) -> Self {
        Self {
            weights: vec![(operation, 1)],
            total: 1,
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `transition=9,read=1`; a weight that is left out is 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let operation: Operation = name.trim().parse()?;
            let max = Self::WEIGHT_MAX;
            let weight = match weight.trim().parse() {
                Ok(weight) if (1..=max).contains(&weight) => weight,
                _ => {
                    return Err(format!(
                        "the weight of {operation} must be a whole number from 1 to {max}"
                    ));
                }
            };
            if weights.iter().any(|(it, _)| *it == operation) {
                return Err(format!("{operation} appears twice"));
            }
            weights.push((operation, weight));
        }
        let total = weights.iter().map(|(_, weight)| weight).sum();
        Ok(Self { weights, total })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self
            .weights
            .iter()
            .map(|(it, weight)| format!("{it}={weight}"));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

/// The times of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: Instant,
    /// When recording begins.
    pub(crate) recorded_from: Instant,
    /// No operation begins, or is due, from here on.
    pub(crate) end: Instant,
    /// No operation is sent any more from here on.
    pub(crate) last: Instant,
}

impl Times {
    pub(crate) fn of(plan: &Plan, start: Instant) -> Self {
        let recorded_from = start + plan.warm_up;
        let end = recorded_from + plan.measured;
        Self {
            start,
            recorded_from,
            end,
            last: end + plan.overtime,
        }
    }
}

/// When the operations of one thread are due in an open loop: evenly, and between those of other threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    first: Instant,
    interval: Duration,
    /// How many there are.
    pub(crate) count: u64,
}

impl Schedule {
    /// The share of one thread of `threads`.
    pub(crate) fn of(rate: u32, times: &Times, thread: usize, threads: usize) -> Self {
        let interval = Duration::from_secs(1).mul_f64(threads as f64 / f64::from(rate));
        let first = times.start + interval.mul_f64(thread as f64 / threads as f64);
        let span = times.end.saturating_duration_since(first);
        let count = (span.as_secs_f64() / interval.as_secs_f64()).ceil() as u64;
        Self {
            first,
            interval,
            count,
        }
    }

    /// When the operation of this number is due.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.first + self.interval.mul_f64(number as f64)
    }

    /// How many are due by then.
    pub(crate) fn due_by(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.first) {
            None => 0,
            Some(since) => {
                let passed = (since.as_secs_f64() / self.interval.as_secs_f64()) as u64;
                (passed + 1).min(self.count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("transition", "transition=1"),
            ("transition=9, read=1", "transition=9,read=1"),
            ("stale-read=3,transaction", "stale-read=3,transaction=1"),
        ] {
            let mix: Mix = text.parse().expect(text);
            assert_eq!(mix.to_string(), shown);
        }
        for (text, words) in [
            ("", "there is no operation \"\""),
            ("write", "transition, transaction, read, stale-read"),
            ("read=0", "from 1 to 1000000"),
            ("read=x", "from 1 to 1000000"),
            ("read=1,read=2", "appears twice"),
            ("read,", "there is no operation \"\""),
        ] {
            let said = text.parse::<Mix>().expect_err(text);
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn operations_occur_in_proportion_to_their_weights() {
        let mix: Mix = "transition=3,read=1".parse().expect("it is valid");
        let picked: Vec<_> = (0..4).map(|point| mix.at(point)).collect();
        use Operation::{Read, Transition};
        assert_eq!(picked, [Transition, Transition, Transition, Read]);
    }

    #[test]
    fn the_schedules_of_all_threads_make_up_the_rate() {
        let plan = Plan {
            clients: 4,
            threads: 3,
            rate: Some(1000),
            warm_up: Duration::from_millis(500),
            measured: Duration::from_millis(1500),
            overtime: Duration::ZERO,
            mix: Operation::Read.into(),
        };
        let times = Times::of(&plan, Instant::now());
        let schedules: Vec<_> = (0..3).map(|n| Schedule::of(1000, &times, n, 3)).collect();
        let mut due: Vec<_> = schedules
            .iter()
            .flat_map(|it| (0..it.count).map(|number| it.due(number)))
            .collect();
        due.sort();
        assert_eq!(due.len(), 2000);
        for (number, due) in due.iter().enumerate() {
            let expected = times.start + Duration::from_millis(number as u64);
            let apart = due.max(&expected).duration_since(*due.min(&expected));
            assert!(apart < Duration::from_micros(1), "{number}: {apart:?}");
        }
        for it in schedules {
            assert_eq!(it.due_by(it.first - Duration::from_nanos(1)), 0);
            assert_eq!(it.due_by(it.due(6) + it.interval / 2), 7);
            assert_eq!(it.due_by(times.last + Duration::from_secs(60)), it.count);
        }
    }
}
