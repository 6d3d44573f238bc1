//! The registry behind `/report`: named counters and timers, in the JSON of go-metrics.
//!
//! The server records its own values; clients record theirs through `/counter` and `/timer`. The registry is
//! bounded: the number and length of names and the size of histograms are limited. The current time is an
//! argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lockstep_machine::{InvalidName, NameRule};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::rate::Rates;

/// How many counters clients may name, and how many timers.
pub const NAMES_MAX: usize = 128;
/// The longest name, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest duration a timer accepts.
pub const DURATION_MAX: Duration = Duration::from_secs(3600);
/// Names with this prefix belong to the server.
pub const RESERVED_PREFIX: &str = "lockstep.";

const COUNTER_HANDLER: &str = "counterhandler.counter";
const TIMER_HANDLER: &str = "timerhandler.timer";
const WRITE_METRICS: &str = "reporthandler.writemetrics";

/// Percentiles are exact to 1 %; a timer then takes about 35 KiB.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Why a counter or timer is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("there are {NAMES_MAX} {kind} already; use one of those or restart the node")]
    Full { kind: &'static str },
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter and returns its new value, which saturates.
    pub fn add(&self, by: u64) -> u64 {
        let add = |value: u64| Some(value.saturating_add(by));
        let (Ok(before) | Err(before)) =
            self.0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        before.saturating_add(by)
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, each time it happened.
#[derive(Debug)]
pub struct Timer(Mutex<Times>);

#[derive(Debug)]
struct Times {
    /// Nanoseconds; only for percentiles, everything else is exact.
    histogram: Histogram<u64>,
    count: u64,
    min: u64,
    max: u64,
    mean: f64,
    /// Sum of squared distances from the mean (Welford's method).
    squares: f64,
    rates: Rates,
}

impl Default for Timer {
    fn default() -> Self {
        let longest = DURATION_MAX.as_nanos() as u64;
        Self(Mutex::new(Times {
            histogram: Histogram::new_with_max(longest, SIGNIFICANT_DIGITS)
                .expect("an hour in nanoseconds at two digits is a valid range"),
            count: 0,
            min: 0,
            max: 0,
            mean: 0.0,
            squares: 0.0,
            rates: Rates::default(),
        }))
    }
}

impl Timer {
    /// Records one duration that ended at `now`.
    pub fn record(&self, took: Duration, now: Instant) {
        let took = took.min(DURATION_MAX).as_nanos() as u64;
        let times = &mut *self.0.lock();
        times.histogram.saturating_record(took);
        times.min = if times.count == 0 {
            took
        } else {
            times.min.min(took)
        };
        times.max = times.max.max(took);
        times.count += 1;
        let distance = took as f64 - times.mean;
        times.mean += distance / times.count as f64;
        times.squares += distance * (took as f64 - times.mean);
        times.rates.mark(now);
    }

    /// The timer's figures, with the keys of go-metrics: durations in nanoseconds, rates per second.
    /// The standard deviation is that of the whole population.
    fn summary(&self, now: Instant) -> Value {
        let times = &mut *self.0.lock();
        let [rate_1m, rate_5m, rate_15m] = times.rates.averages(now);
        // The upper edge of a bucket may lie beyond the largest value.
        let at = |quantile| {
            let value = times.histogram.value_at_quantile(quantile);
            value.clamp(times.min, times.max) as f64
        };
        json!({
            "15m.rate": rate_15m,
            "1m.rate": rate_1m,
            "5m.rate": rate_5m,
            "75%": at(0.75),
            "95%": at(0.95),
            "99%": at(0.99),
            "99.9%": at(0.999),
            "count": times.count,
            "max": times.max,
            "mean": times.mean,
            "mean.rate": times.rates.mean(now),
            "median": at(0.5),
            "min": times.min,
            "stddev": (times.squares / times.count.max(1) as f64).sqrt(),
        })
    }
}

#[derive(Debug, Clone)]
enum Metric {
    Counter(Arc<Counter>),
    Timer(Arc<Timer>),
}

/// The registry. The public fields are the server's own metrics.
#[derive(Debug)]
pub struct Report {
    /// `lockstep.http_requests`: how long HTTP requests took.
    pub http_requests: Arc<Timer>,
    /// `lockstep.transitions`: transitions made for requests that this node accepted.
    pub transitions: Arc<Counter>,
    /// `counterhandler.counter`: requests to `/counter` without a name.
    pub counter_handler: Arc<Counter>,
    /// `timerhandler.timer`: how long `/timer` took without a name.
    pub timer_handler: Arc<Timer>,
    /// `reporthandler.writemetrics`: how long `/report` took.
    pub write_metrics: Arc<Timer>,
    metrics: Mutex<BTreeMap<String, Metric>>,
    /// The server's own counters and timers among `metrics`.
    own: (usize, usize),
}

impl Default for Report {
    fn default() -> Self {
        let counter = Arc::<Counter>::default;
        let timer = Arc::<Timer>::default;
        let (transitions, counter_handler) = (counter(), counter());
        let (http_requests, timer_handler, write_metrics) = (timer(), timer(), timer());
        let metrics = BTreeMap::from([
            (
                format!("{RESERVED_PREFIX}transitions"),
                Metric::Counter(transitions.clone()),
            ),
            (
                COUNTER_HANDLER.to_owned(),
                Metric::Counter(counter_handler.clone()),
            ),
            (
                format!("{RESERVED_PREFIX}http_requests"),
                Metric::Timer(http_requests.clone()),
            ),
            (
                TIMER_HANDLER.to_owned(),
                Metric::Timer(timer_handler.clone()),
            ),
            (
                WRITE_METRICS.to_owned(),
                Metric::Timer(write_metrics.clone()),
            ),
        ]);
        Self {
            http_requests,
            transitions,
            counter_handler,
            timer_handler,
            write_metrics,
            own: count(&metrics),
            metrics: Mutex::new(metrics),
        }
    }
}

impl Report {
    /// The counter of that name, created at its first use.
    pub fn counter(&self, name: &str) -> Result<Arc<Counter>, ReportError> {
        let make = || Metric::Counter(Arc::default());
        match self.get_or_create(name, make)? {
            Metric::Counter(counter) => Ok(counter),
            Metric::Timer(_) => {
                Err(InvalidName::new("name", name, "it is the name of a timer").into())
            }
        }
    }

    /// The timer of that name, created at its first use.
    pub fn timer(&self, name: &str) -> Result<Arc<Timer>, ReportError> {
        let make = || Metric::Timer(Arc::default());
        match self.get_or_create(name, make)? {
            Metric::Timer(timer) => Ok(timer),
            Metric::Counter(_) => {
                Err(InvalidName::new("name", name, "it is the name of a counter").into())
            }
        }
    }

    /// How many counters clients have named, and how many timers; of each at most [`NAMES_MAX`].
    pub fn names(&self) -> (usize, usize) {
        self.named(&self.metrics.lock())
    }

    fn named(&self, metrics: &BTreeMap<String, Metric>) -> (usize, usize) {
        let (counters, timers) = count(metrics);
        (counters - self.own.0, timers - self.own.1)
    }

    /// The figures of every metric, by name. The handlers' own metrics appear once they are used,
    /// as in go-metrics, which creates them then.
    pub fn summary(&self, now: Instant) -> Value {
        let metrics = self.metrics.lock().clone();
        let summaries = metrics.into_iter().map(|(name, metric)| match metric {
            Metric::Counter(counter) => (name, json!({ "count": counter.get() })),
            Metric::Timer(timer) => (name, timer.summary(now)),
        });
        let lazy = |name: &str| [COUNTER_HANDLER, TIMER_HANDLER].contains(&name);
        summaries
            .filter(|(name, summary)| !lazy(name) || summary["count"] != 0)
            .collect()
    }

    fn get_or_create(
        &self,
        name: &str,
        make: impl FnOnce() -> Metric,
    ) -> Result<Metric, ReportError> {
        check_name(name)?;
        let mut metrics = self.metrics.lock();
        if let Some(found) = metrics.get(name) {
            return Ok(found.clone());
        }
        let made = make();
        let (counters, timers) = self.named(&metrics);
        let (names, kind) = match made {
            Metric::Counter(_) => (counters, "counters"),
            Metric::Timer(_) => (timers, "timers"),
        };
        if names >= NAMES_MAX {
            return Err(ReportError::Full { kind });
        }
        metrics.insert(name.to_owned(), made.clone());
        Ok(made)
    }
}

fn count(metrics: &BTreeMap<String, Metric>) -> (usize, usize) {
    let is_counter = |metric: &&Metric| matches!(metric, Metric::Counter(_));
    let counters = metrics.values().filter(is_counter).count();
    (counters, metrics.len() - counters)
}

fn check_name(name: &str) -> Result<(), InvalidName> {
    const RULE: NameRule = NameRule {
        first: is_allowed,
        rest: is_allowed,
        len_max: NAME_LEN_MAX,
        words: "ASCII letters, digits, '-', '_', '.', ':' or '/'",
    };
    RULE.check("name", name)?;
    match name.starts_with(RESERVED_PREFIX) {
        false => Ok(()),
        true => {
            let reason = "the prefix \"lockstep.\" belongs to the server; use another";
            Err(InvalidName::new("name", name, reason))
        }
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_summarizes_in_nanoseconds() {
        let start = Instant::now();
        let report = Report::default();
        let work = report.timer("work").unwrap();
        for ms in 1..=1000 {
            work.record(Duration::from_millis(ms), start);
        }
        let summary = &report.summary(start + Duration::from_secs(10))["work"];
        for (key, expected) in [("count", 1000), ("min", 1_000_000), ("max", 1_000_000_000)] {
            assert_eq!(summary[key], expected, "{key}");
        }
        for (key, truth) in [
            ("mean", 500.5),
            ("stddev", 288.675),
            ("median", 500.0),
            ("75%", 750.0),
            ("95%", 950.0),
            ("99%", 990.0),
            ("99.9%", 999.0),
        ] {
            let ms = summary[key].as_f64().unwrap() / 1e6;
            assert!((ms - truth).abs() <= truth * 0.01, "{key}: {ms}");
        }
        assert_eq!(summary["mean.rate"], 100.0);
    }

    #[test]
    fn the_report_has_the_shape_of_go_metrics() {
        let now = Instant::now();
        let report = Report::default();
        report.counter_handler.add(1);
        report
            .timer_handler
            .record(Duration::from_nanos(60_485), now);
        let json = report.summary(now);
        assert_eq!(json["counterhandler.counter"].to_string(), r#"{"count":1}"#);
        let keys = |name: &str| -> Vec<String> {
            let timer = json[name].as_object().expect(name);
            timer.keys().cloned().collect()
        };
        let expected =
            "15m.rate 1m.rate 5m.rate 75% 95% 99% 99.9% count max mean mean.rate median min stddev";
        assert_eq!(keys("timerhandler.timer").join(" "), expected);
        assert_eq!(keys("reporthandler.writemetrics").join(" "), expected);
        assert_eq!(json["timerhandler.timer"]["median"], 60_485.0);
        assert_eq!(json["reporthandler.writemetrics"]["99.9%"], 0.0);
    }

    #[test]
    fn the_handlers_metrics_appear_once_they_are_used() {
        let report = Report::default();
        let json = report.summary(Instant::now());
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(
            names,
            [
                "lockstep.http_requests",
                "lockstep.transitions",
                WRITE_METRICS
            ]
        );
    }

    #[test]
    fn a_counter_never_wraps() {
        let report = Report::default();
        assert_eq!(report.counter("n").unwrap().add(3), 3);
        assert_eq!(report.counter("n").unwrap().add(u64::MAX), u64::MAX);
        assert_eq!(report.counter("n").unwrap().get(), u64::MAX);
    }

    #[test]
    fn names_are_bounded_in_number_and_form_and_stand_for_one_metric() {
        let report = Report::default();
        for bad in [
            "",
            "a b",
            "é",
            &"x".repeat(65),
            "lockstep.transitions",
            TIMER_HANDLER,
        ] {
            assert!(
                matches!(report.counter(bad), Err(ReportError::Name(_))),
                "{bad:?}"
            );
        }
        for n in 0..NAMES_MAX {
            report.counter(&format!("n{n}")).unwrap();
        }
        assert_eq!(report.names(), (NAMES_MAX, 0));
        assert_eq!(
            report.counter("one-more").unwrap_err(),
            ReportError::Full { kind: "counters" }
        );
        assert!(report.counter("n1").is_ok());
        assert!(report.counter(COUNTER_HANDLER).is_ok());
        assert!(report.timer("one-more").is_ok());
        assert!(matches!(report.timer("n1"), Err(ReportError::Name(_))));
    }
}
