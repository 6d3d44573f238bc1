//! Runs many histories, one for each seed, and reports what that looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::counts::Counts;
use super::seeds::{self, End};

/// Of a hundred histories, at most so many may be void.
const VOID_PERCENT_MAX: u64 = 5;

/// What a hunt did.
#[derive(Default)]
pub struct Report {
    pub histories: u64,
    /// Histories that a known defect of openraft ended, by the defect.
    void: BTreeMap<&'static str, u64>,
    /// What happened in the others.
    pub counts: Counts,
    failures: Vec<String>,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let void: u64 = self.void.values().sum();
        write!(
            f,
            "{} histories in {} s, {void} void {:?}: {}",
            self.histories,
            self.took.as_secs(),
            self.void,
            self.counts
        )
    }
}

impl Report {
    fn add(&mut self, seed: u64, end: End<Counts>) {
        self.histories += 1;
        match end {
            End::Held(counts) => self.counts += counts,
            End::Void(defect) => *self.void.entry(defect).or_default() += 1,
            End::Failed(what) => self.failures.push(seeds::failure(seed, &what)),
        }
    }

    /// Fails if a history failed, or too many were void.
    pub fn must_hold(&self) {
        assert!(
            self.failures.is_empty(),
            "{}\n{self}",
            self.failures.join("\n")
        );
        let void: u64 = self.void.values().sum();
        assert!(
            void * 100 <= self.histories * VOID_PERCENT_MAX,
            "more than {VOID_PERCENT_MAX} % of the histories were void: {self}"
        );
    }
}

/// Runs `count` histories from the seed `first` on, on all cores. Stops at the first that fails.
pub fn hunt(first: u64, count: u64, history: fn(u64) -> End<Counts>) -> Report {
    let began = Instant::now();
    let (next, report) = (AtomicU64::new(first), Mutex::new(Report::default()));
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || !report.lock().unwrap().failures.is_empty() {
                        return;
                    }
                    let end = history(seed);
                    report.lock().unwrap().add(seed, end);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap();
    report.took = began.elapsed();
    report
}
