//! Events per second: since the first event, and as exponentially weighted moving averages, computed
//! as in go-metrics (a tick every 5 seconds; zero before the first tick).

use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_secs(5);
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];

/// The 1, 5 and 15 minute rates, and the mean rate.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When the first event came, and when the current tick began; none before the first event.
    began: Option<(Instant, Instant)>,
    tick_count: u64,
    count: u64,
    /// Events per second; none before the first tick is over.
    averages: Option<[f64; 3]>,
}

impl Rates {
    /// Counts one event.
    pub(super) fn mark(&mut self, now: Instant) {
        self.began.get_or_insert((now, now));
        self.advance(now);
        self.tick_count += 1;
        self.count += 1;
    }

    pub(super) fn averages(&mut self, now: Instant) -> [f64; 3] {
        self.advance(now);
        self.averages.unwrap_or_default()
    }

    /// Events per second since the first event.
    pub(super) fn mean(&self, now: Instant) -> f64 {
        let Some((started, _)) = self.began else {
            return 0.0;
        };
        let seconds = now.saturating_duration_since(started).as_secs_f64();
        if seconds > 0.0 {
            self.count as f64 / seconds
        } else {
            0.0
        }
    }

    fn advance(&mut self, now: Instant) {
        let Some((_, tick_began)) = &mut self.began else {
            return;
        };
        let waited = now.saturating_duration_since(*tick_began);
        if waited < TICK {
            return;
        }
        let ticks = u32::try_from(waited.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX);
        let rate = self.tick_count as f64 / TICK.as_secs_f64();
        let averages = self.averages.get_or_insert([rate; 3]);
        for (average, minutes) in averages.iter_mut().zip(MINUTES) {
            let keep = (-TICK.as_secs_f64() / (60.0 * minutes)).exp();
            // The tick that ends now had events; those after it had none.
            *average = rate + (*average - rate) * keep;
            *average *= keep.powf(f64::from(ticks - 1));
        }
        self.tick_count = 0;
        *tick_began = tick_began
            .checked_add(TICK.saturating_mul(ticks))
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
        let mut rates = Rates::default();
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
    fn a_minute_without_events_takes_the_one_minute_rate_to_a_third() {
        let start = Instant::now();
        let mut rates = Rates::default();
        for second in 0..60 {
            rates.mark(start + seconds(second));
        }
        let [one, five, fifteen] = rates.averages(start + seconds(120));
        assert!((one - (-1.0f64).exp()).abs() < 0.01, "{one}");
        assert!(five > one && fifteen > five, "{five} {fifteen}");
        assert!((rates.mean(start + seconds(120)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn before_the_first_tick_the_averages_are_zero() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.mean(start), 0.0);
        rates.mark(start);
        rates.mark(start);
        assert_eq!(rates.averages(start + seconds(4)), [0.0; 3]);
        assert_eq!(rates.mean(start + seconds(4)), 0.5);
        assert_eq!(rates.averages(start + seconds(5)), [0.4; 3]);
    }
}
