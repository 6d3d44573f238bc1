//! Pauses between attempts, with jitter.

use std::time::Duration;

/// The first pause at most.
const FIRST_MAX: Duration = Duration::from_millis(200);

/// Pauses that double up to a bound. Each is drawn at random from its upper half, so that several sinks
/// do not retry a recovering destination all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next_max: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses of `max` at most.
    pub(super) fn new(max: Duration) -> Self {
        let next_max = FIRST_MAX.min(max);
        Self { next_max, max }
    }

    /// Starts again with short pauses.
    pub(super) fn reset(&mut self) {
        self.next_max = FIRST_MAX.min(self.max);
    }

    /// The next pause, or the longer one that the destination requested.
    pub(super) fn next_after(&mut self, requested: Option<Duration>) -> Duration {
        let pause = self.next();
        requested.map_or(pause, |requested| requested.min(self.max).max(pause))
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next_max.mul_f64(rand::random_range(0.5..=1.0));
        self.next_max = (self.next_max * 2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_start_again() {
        let max = Duration::from_secs(3);
        let mut backoff = Backoff::new(max);
        assert!(backoff.next() <= FIRST_MAX);
        let grown: Vec<_> = (0..10).map(|_| backoff.next()).collect();
        assert!(grown.iter().all(|pause| *pause <= max));
        assert!(grown[9] >= max / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST_MAX);
    }

    #[test]
    fn a_destination_may_request_a_longer_pause_up_to_the_bound() {
        let max = Duration::from_secs(3);
        let mut backoff = Backoff::new(max);
        assert!(backoff.next_after(None) <= FIRST_MAX);
        let requested = Duration::from_secs(2);
        assert_eq!(backoff.next_after(Some(requested)), requested);
        assert_eq!(backoff.next_after(Some(10 * max)), max);
    }

    #[test]
    fn two_sinks_do_not_pause_equally_long() {
        let pauses = || -> Vec<_> {
            let mut backoff = Backoff::new(Duration::from_secs(30));
            (0..8).map(|_| backoff.next()).collect()
        };
        assert_ne!(pauses(), pauses());
    }
}
