//! Keeps one wrong clock from moving cluster time.
//!
//! The leader's clock stamps the log entries, and cluster time never goes back. So a leader whose clock is a day
//! ahead would move cluster time for good. Members report their wall clocks in the answers to votes and
//! heartbeats, and the leader its own in the heartbeats: a leader was elected by a quorum, so it knows the clocks
//! of a quorum before it stamps its first entry. It stamps with its own clock, but never more than
//! `skew_max` ahead of the median of the clocks that it knows.
//!
//! No clock is trusted for more than that: reads and elections do not depend on clocks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::Timestamp;
use parking_lot::Mutex;

use super::node::Clock;
use super::types::NodeId;

/// A clock that was reported longer ago than this does not count.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// This node's wall clock and those of its peers. Cheap to clone.
#[derive(Clone)]
pub struct Clocks {
    wall: Clock,
    skew_max: Duration,
    heard: Arc<Mutex<HashMap<NodeId, Heard>>>,
}

/// What a peer's clock showed, and when.
#[derive(Clone, Copy)]
struct Heard {
    clock_ms: u64,
    at: Instant,
}

impl Heard {
    fn now_ms(self) -> u64 {
        self.clock_ms.saturating_add(millis(self.at.elapsed()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Clocks {
    /// The clocks around `wall`, of which no stamp may be more than `skew_max` ahead.
    pub fn new(wall: Clock, skew_max: Duration) -> Self {
        Self {
            wall,
            skew_max,
            heard: Arc::default(),
        }
    }

    /// This node's wall clock.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// The time for the stamp of a log entry: this node's wall clock, within the bound.
    pub fn stamp(&self) -> Timestamp {
        let bound = self.median_ms().saturating_add(millis(self.skew_max));
        self.wall().min(Timestamp(bound))
    }

    /// How far this node's clock is ahead of the median, or behind it where negative, in milliseconds.
    pub fn skew_ms(&self) -> i64 {
        let (own, median) = (self.wall().0, self.median_ms());
        let apart = i64::try_from(own.abs_diff(median)).unwrap_or(i64::MAX);
        if own >= median { apart } else { -apart }
    }

    /// Whether this node's clock is off by more than the bound; `None` if no other clock is known.
    pub fn is_skewed(&self) -> Option<bool> {
        let known = self.heard.lock().values().any(is_recent);
        known.then(|| self.skew_ms().unsigned_abs() > millis(self.skew_max))
    }

    /// Whether a peer's clock is known to be off by more than the bound: of two clocks, nobody can tell which is.
    pub(super) fn is_off(&self, peer: NodeId) -> bool {
        let median = self.median_ms();
        let heard = self.heard.lock();
        let clock = heard.get(&peer).filter(|it| is_recent(it));
        let clock = clock.filter(|_| heard.values().filter(|it| is_recent(it)).count() > 1);
        clock.is_some_and(|it| it.now_ms().abs_diff(median) > millis(self.skew_max))
    }

    /// Notes what a peer's clock shows now; 0 where the peer's release does not report it.
    pub(super) fn note(&self, peer: NodeId, clock_ms: u64) {
        if clock_ms == 0 {
            return;
        }
        let at = Instant::now();
        let mut heard = self.heard.lock();
        heard.retain(|_, it| is_recent(it));
        heard.insert(peer, Heard { clock_ms, at });
    }

    /// The median of the clocks that are known, this node's included; of two in the middle, the earlier: time
    /// that is late can catch up, and time that is early cannot go back.
    fn median_ms(&self) -> u64 {
        let heard = self.heard.lock();
        let recent = heard.values().copied().filter(is_recent);
        let mut clocks: Vec<u64> = recent.map(|it| it.now_ms()).collect();
        drop(heard);
        clocks.push(self.wall().0);
        clocks.sort_unstable();
        clocks[(clocks.len() - 1) / 2]
    }
}

fn is_recent(heard: &Heard) -> bool {
    heard.at.elapsed() <= HEARD_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const NOW: u64 = 20_000 * DAY;
    const SKEW_MAX: u64 = 60_000;

    /// A node whose clock shows `own`, and peers 1, 2, ... whose clocks show `peers`.
    fn clocks(own: u64, peers: &[u64]) -> Clocks {
        let wall = Arc::new(move || Timestamp(own));
        let clocks = Clocks::new(wall, Duration::from_millis(SKEW_MAX));
        for (peer, clock) in (1..).zip(peers) {
            clocks.note(peer, *clock);
        }
        clocks
    }

    /// Peers' clocks go on while a test runs.
    fn assert_about(found: u64, expected: u64) {
        assert!((expected..expected + 30_000).contains(&found), "{found}");
    }

    #[test]
    fn a_clock_a_day_ahead_stamps_no_more_than_the_bound_above_the_median() {
        let ahead = clocks(NOW + DAY, &[NOW, NOW + 5]);
        assert_eq!(ahead.is_skewed(), Some(true));
        assert_about(ahead.stamp().0, NOW + 5 + SKEW_MAX);
        assert!(!ahead.is_off(1) && !ahead.is_off(2));
        // Of two clocks, the earlier one counts.
        assert_about(clocks(NOW + DAY, &[NOW]).stamp().0, NOW + SKEW_MAX);
    }

    #[test]
    fn a_clock_within_the_bound_stamps_as_it_is() {
        for (own, peers) in [
            (NOW + 1000, &[NOW, NOW][..]),
            (NOW - 1000, &[NOW, NOW]),
            (NOW - DAY, &[NOW, NOW]),
            (NOW, &[NOW + DAY, NOW]),
            (NOW + DAY, &[]),
        ] {
            assert_eq!(clocks(own, peers).stamp(), Timestamp(own), "{peers:?}");
        }
    }

    #[test]
    fn a_clock_that_is_far_behind_is_skewed_and_so_is_a_peers() {
        let behind = clocks(NOW - DAY, &[NOW, NOW]);
        assert_eq!(behind.is_skewed(), Some(true));
        assert!(behind.skew_ms() < 0);
        let right = clocks(NOW, &[NOW + DAY, NOW]);
        assert_eq!(right.is_skewed(), Some(false));
        assert!(right.is_off(1) && !right.is_off(2));
        assert!(!right.is_off(3), "it has not reported its clock");
        let two = clocks(NOW - DAY, &[NOW]);
        assert!(!two.is_off(1), "either may be right");
    }

    #[test]
    fn a_peer_that_does_not_report_its_clock_does_not_count() {
        let ahead = clocks(NOW + DAY, &[0, 0]);
        assert_eq!(ahead.is_skewed(), None);
        assert_eq!(ahead.stamp(), Timestamp(NOW + DAY));
    }
}
