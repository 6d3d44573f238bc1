//! The `/report` registry: named counters and timers, fed by the server and by whoever asks.
//!
//! Bounded: a fixed number of names, short names, and histograms of a fixed size. Time comes in as
//! an argument.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::rate::Rates;

/// How many counters there may be, and how many timers.
pub const NAMES_MAX: usize = 128;
/// The longest name, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest duration a timer takes; longer ones are refused.
pub const DURATION_MAX: Duration = Duration::from_secs(3600);
/// Names that begin like this belong to the server.
pub const RESERVED_PREFIX: &str = "lockstep.";

/// Percentiles are within 1 % of the truth: a timer then takes at most some 30 KiB.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Why a counter or timer was not fed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The name breaks the rules.
    #[error("name {name:?} is not valid: {reason}")]
    Name {
        /// The name, shortened to 80 characters.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {NAMES_MAX} {kind} already; feed one of those or restart the node")]
    Full {
        /// Of what: counters or timers.
        kind: &'static str,
    },
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it, and says where it stands then. Stays at the largest number once there.
    pub fn add(&self, by: u64) -> u64 {
        let add = |value: u64| Some(value.saturating_add(by));
        let before = match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        {
            Ok(before) | Err(before) => before,
        };
        before.saturating_add(by)
    }

    /// Where it stands.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, each time it happened.
#[derive(Debug)]
pub struct Timer(Mutex<Times>);

#[derive(Debug)]
struct Times {
    /// Microseconds; only for percentiles, everything else is exact.
    histogram: Histogram<u64>,
    count: u64,
    min_ms: f64,
    max_ms: f64,
    mean_ms: f64,
    /// Sum of squared distances from the mean (Welford's method).
    squares: f64,
    rates: Rates,
}

impl Timer {
    fn new(now: Instant) -> Self {
        let longest = DURATION_MAX.as_micros() as u64;
        Self(Mutex::new(Times {
            histogram: Histogram::new_with_max(longest, SIGNIFICANT_DIGITS)
                .expect("an hour in microseconds at two digits is a valid range"),
            count: 0,
            min_ms: 0.0,
            max_ms: 0.0,
            mean_ms: 0.0,
            squares: 0.0,
            rates: Rates::new(now),
        }))
    }

    /// Takes in one duration, measured to its end at `now`.
    pub fn record(&self, took: Duration, now: Instant) {
        let took = took.min(DURATION_MAX);
        let ms = took.as_secs_f64() * 1e3;
        let times = &mut *lock(&self.0);
        times.histogram.saturating_record(took.as_micros() as u64);
        times.min_ms = if times.count == 0 {
            ms
        } else {
            times.min_ms.min(ms)
        };
        times.max_ms = times.max_ms.max(ms);
        times.count += 1;
        let distance = ms - times.mean_ms;
        times.mean_ms += distance / times.count as f64;
        times.squares += distance * (ms - times.mean_ms);
        times.rates.mark(now);
    }

    /// What it came to so far.
    pub fn summary(&self, now: Instant) -> TimerSummary {
        let times = &mut *lock(&self.0);
        let [rate_1m, rate_5m, rate_15m] = times.rates.averages(now);
        let (min, max) = (times.min_ms, times.max_ms);
        // A bucket's upper edge may lie beyond the largest value seen.
        let at =
            |quantile| (times.histogram.value_at_quantile(quantile) as f64 / 1e3).clamp(min, max);
        TimerSummary {
            unit: "ms",
            count: times.count,
            min,
            max,
            mean: times.mean_ms,
            stddev: if times.count == 0 {
                0.0
            } else {
                (times.squares / times.count as f64).sqrt()
            },
            median: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            rate_1m,
            rate_5m,
            rate_15m,
            rate_mean: times.rates.mean(now),
        }
    }
}

/// A timer's figures. Durations in milliseconds, rates per second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimerSummary {
    /// The unit of the durations: `ms`.
    pub unit: &'static str,
    /// How many durations.
    pub count: u64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The standard deviation of the whole population.
    pub stddev: f64,
    /// Half were no longer than this.
    pub median: f64,
    /// 75 % were no longer.
    pub p75: f64,
    /// 95 % were no longer.
    pub p95: f64,
    /// 99 % were no longer.
    pub p99: f64,
    /// 99.9 % were no longer.
    pub p999: f64,
    /// Per second, average over the last minute.
    pub rate_1m: f64,
    /// Per second, average over the last 5 minutes.
    pub rate_5m: f64,
    /// Per second, average over the last 15 minutes.
    pub rate_15m: f64,
    /// Per second, since the first use.
    pub rate_mean: f64,
}

/// A counter's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CounterSummary {
    /// Where it stands.
    pub count: u64,
}

/// Everything there is, by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The counters.
    pub counters: BTreeMap<String, CounterSummary>,
    /// The timers.
    pub timers: BTreeMap<String, TimerSummary>,
}

/// The registry.
#[derive(Debug)]
pub struct Report {
    /// How long HTTP requests took: the timer `lockstep.http_requests`.
    pub http_requests: Arc<Timer>,
    /// Transitions made for requests that this node took in: the counter `lockstep.transitions`.
    pub transitions: Arc<Counter>,
    counters: Mutex<BTreeMap<String, Arc<Counter>>>,
    timers: Mutex<BTreeMap<String, Arc<Timer>>>,
}

impl Report {
    /// A registry with the server's own counter and timer.
    pub fn new(now: Instant) -> Arc<Self> {
        let http_requests = Arc::new(Timer::new(now));
        let transitions = Arc::new(Counter::default());
        Arc::new(Self {
            counters: Mutex::new(BTreeMap::from([(
                format!("{RESERVED_PREFIX}transitions"),
                transitions.clone(),
            )])),
            timers: Mutex::new(BTreeMap::from([(
                format!("{RESERVED_PREFIX}http_requests"),
                http_requests.clone(),
            )])),
            http_requests,
            transitions,
        })
    }

    /// The counter of that name, made at its first use.
    pub fn counter(&self, name: &str) -> Result<Arc<Counter>, ReportError> {
        get_or_make(&self.counters, "counters", name, Counter::default)
    }

    /// The timer of that name, made at its first use.
    pub fn timer(&self, name: &str, now: Instant) -> Result<Arc<Timer>, ReportError> {
        get_or_make(&self.timers, "timers", name, || Timer::new(now))
    }

    /// How many counters there are, and how many timers; of each at most [`NAMES_MAX`].
    pub fn names(&self) -> (usize, usize) {
        (lock(&self.counters).len(), lock(&self.timers).len())
    }

    /// Everything there is.
    pub fn summary(&self, now: Instant) -> Summary {
        let counters = lock(&self.counters).clone();
        let timers = lock(&self.timers).clone();
        Summary {
            counters: counters
                .into_iter()
                .map(|(name, c)| (name, CounterSummary { count: c.get() }))
                .collect(),
            timers: timers
                .into_iter()
                .map(|(name, t)| (name, t.summary(now)))
                .collect(),
        }
    }
}

fn get_or_make<T>(
    map: &Mutex<BTreeMap<String, Arc<T>>>,
    kind: &'static str,
    name: &str,
    make: impl FnOnce() -> T,
) -> Result<Arc<T>, ReportError> {
    check_name(name)?;
    let mut map = lock(map);
    if let Some(found) = map.get(name) {
        return Ok(found.clone());
    }
    if map.len() >= NAMES_MAX {
        return Err(ReportError::Full { kind });
    }
    let made = Arc::new(make());
    map.insert(name.to_owned(), made.clone());
    Ok(made)
}

fn check_name(name: &str) -> Result<(), ReportError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_LEN_MAX {
        "it is longer than 64 bytes"
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/'))
    {
        "only letters, digits, '-', '_', '.', ':' and '/' are allowed"
    } else if name.starts_with(RESERVED_PREFIX) {
        "names that begin with \"lockstep.\" belong to the server"
    } else {
        return Ok(());
    };
    Err(ReportError::Name {
        name: name.chars().take(80).collect(),
        reason,
    })
}

/// A panic aborts the process, so that a poisoned lock is never seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_sums_up_what_it_was_given() {
        let start = Instant::now();
        let report = Report::new(start);
        let timer = report.timer("work", start).unwrap();
        for ms in 1..=1000 {
            timer.record(Duration::from_millis(ms), start);
        }
        let summary = report
            .summary(start + Duration::from_secs(10))
            .timers
            .remove("work")
            .unwrap();
        assert_eq!(
            (summary.count, summary.min, summary.max),
            (1000, 1.0, 1000.0)
        );
        assert!((summary.mean - 500.5).abs() < 1e-6);
        assert!(
            (summary.stddev - 288.675).abs() < 0.01,
            "{}",
            summary.stddev
        );
        for (value, truth) in [
            (summary.median, 500.0),
            (summary.p75, 750.0),
            (summary.p95, 950.0),
            (summary.p99, 990.0),
            (summary.p999, 999.0),
        ] {
            assert!(
                (value - truth).abs() <= truth * 0.01,
                "{value} is not {truth}"
            );
        }
        assert!((summary.rate_mean - 100.0).abs() < 1e-9);
    }

    #[test]
    fn an_unused_timer_is_all_zero() {
        let now = Instant::now();
        let summary = Report::new(now).summary(now);
        let timer = &summary.timers["lockstep.http_requests"];
        assert_eq!(
            (
                timer.count,
                timer.max,
                timer.stddev,
                timer.p999,
                timer.rate_1m
            ),
            (0, 0.0, 0.0, 0.0, 0.0)
        );
        assert_eq!(summary.counters["lockstep.transitions"].count, 0);
    }

    #[test]
    fn a_counter_never_wraps() {
        let report = Report::new(Instant::now());
        assert_eq!(report.counter("n").unwrap().add(3), 3);
        assert_eq!(report.counter("n").unwrap().add(u64::MAX), u64::MAX);
        assert_eq!(report.counter("n").unwrap().get(), u64::MAX);
    }

    #[test]
    fn names_are_bounded_in_number_and_form() {
        let report = Report::new(Instant::now());
        for bad in ["", "a b", "é", &"x".repeat(65), "lockstep.transitions"] {
            assert!(
                matches!(report.counter(bad), Err(ReportError::Name { .. })),
                "{bad:?}"
            );
        }
        // One name is the server's own.
        for n in 1..NAMES_MAX {
            report.counter(&format!("n{n}")).unwrap();
        }
        assert_eq!(
            report.counter("one-more").unwrap_err(),
            ReportError::Full { kind: "counters" }
        );
        assert!(report.counter("n1").is_ok());
        assert!(report.timer("one-more", Instant::now()).is_ok());
    }
}
