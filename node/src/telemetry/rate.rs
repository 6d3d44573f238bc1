//! Events per second: over the whole time, and as the moving averages of a Unix load figure.

use std::time::{Duration, Instant};

/// The averages are brought up to date in steps of this length.
const STEP: Duration = Duration::from_secs(5);
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];

/// Exponentially weighted 1, 5 and 15 minute rates, and the mean.
#[derive(Debug)]
pub(super) struct Rates {
    started: Instant,
    step_began: Instant,
    step_count: u64,
    count: u64,
    /// Events per second; none before the first step is over.
    averages: Option<[f64; 3]>,
}

impl Rates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            step_began: now,
            step_count: 0,
            count: 0,
            averages: None,
        }
    }

    /// Takes in one event.
    pub(super) fn mark(&mut self, now: Instant) {
        self.advance(now);
        self.step_count += 1;
        self.count += 1;
    }

    /// The 1, 5 and 15 minute averages; before the first step is over, the mean.
    pub(super) fn averages(&mut self, now: Instant) -> [f64; 3] {
        self.advance(now);
        self.averages.unwrap_or([self.mean(now); 3])
    }

    /// Events per second since the start.
    pub(super) fn mean(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        if seconds > 0.0 {
            self.count as f64 / seconds
        } else {
            0.0
        }
    }

    fn advance(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.step_began);
        if waited < STEP {
            return;
        }
        let steps = u32::try_from(waited.as_nanos() / STEP.as_nanos()).unwrap_or(u32::MAX);
        let rate = self.step_count as f64 / STEP.as_secs_f64();
        let averages = self.averages.get_or_insert([rate; 3]);
        for (average, minutes) in averages.iter_mut().zip(MINUTES) {
            let keep = (-STEP.as_secs_f64() / (60.0 * minutes)).exp();
            // The step that ends now had events; those after it had none.
            *average = rate + (*average - rate) * keep;
            *average *= keep.powf(f64::from(steps - 1));
        }
        self.step_count = 0;
        self.step_began = self
            .step_began
            .checked_add(STEP.saturating_mul(steps))
            .unwrap_or(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_steady_rate_is_reported_by_every_average() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        for second in 0..600 {
            for _ in 0..10 {
                rates.mark(start + seconds(second));
            }
        }
        for average in rates.averages(start + seconds(600)) {
            assert!((average - 10.0).abs() < 0.01, "{average}");
        }
        assert!((rates.mean(start + seconds(600)) - 10.0).abs() < 0.01);
    }

    #[test]
    fn a_minute_of_silence_takes_the_one_minute_rate_to_a_third() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        for second in 0..60 {
            rates.mark(start + seconds(second));
        }
        let [one, five, fifteen] = rates.averages(start + seconds(120));
        assert!((one - (-1.0f64).exp()).abs() < 0.01, "{one}");
        assert!(five > one && fifteen > five, "{five} {fifteen}");
        assert!((rates.mean(start + seconds(120)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn before_the_first_step_the_averages_are_the_mean() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        rates.mark(start);
        rates.mark(start);
        assert_eq!(rates.averages(start + seconds(1)), [2.0; 3]);
        assert_eq!(Rates::new(start).averages(start), [0.0; 3]);
    }
}
