//! A node's wall clock: apart from the others, and set forward or back now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_machine::Timestamp;
use openraft_rt::Instant as _;
use openraft_rt_sim::SimInstant;

use super::chance::up_to;

/// What every clock shows at the start, milliseconds: far from 0, so that it can be set back.
const EPOCH_MS: u64 = 1_000_000_000;
/// The clocks are apart by up to this.
const APART_MS: u64 = 5_000;

/// A wall clock.
pub struct SimClock {
    began: SimInstant,
    offset_ms: AtomicU64,
}

impl SimClock {
    /// A clock that is apart from the others.
    pub fn new(began: SimInstant) -> Self {
        Self {
            began,
            offset_ms: AtomicU64::new(EPOCH_MS + up_to(APART_MS)),
        }
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        Timestamp(offset_ms + self.began.elapsed().as_millis() as u64)
    }

    /// Sets it forward or back.
    pub fn jump(&self, by: Duration, forward: bool) {
        let by = by.as_millis() as u64;
        let before = self.offset_ms.load(Ordering::Relaxed);
        let after = match forward {
            true => before + by,
            false => before.saturating_sub(by),
        };
        self.offset_ms.store(after, Ordering::Relaxed);
    }

    /// Sets it to what `other` shows, if that is later.
    pub fn catch_up(&self, other: Timestamp) {
        let behind = other.0.saturating_sub(self.now().0);
        self.offset_ms.fetch_add(behind, Ordering::Relaxed);
    }
}
