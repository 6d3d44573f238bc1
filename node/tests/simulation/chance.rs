//! Everything random in a simulation, drawn from its seed.

use std::time::Duration;

use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use rand::RngExt as _;

/// A number from 0 to `max`, both included.
pub fn up_to(max: u64) -> u64 {
    SimRuntime::thread_rng().random_range(0..=max)
}

/// One of `count` numbers, from 0.
pub fn one_of(count: u64) -> u64 {
    up_to(count - 1)
}

/// Sleeps for up to `max`.
pub async fn nap(max: Duration) {
    SimRuntime::sleep(Duration::from_micros(up_to(max.as_micros() as u64))).await;
}

/// Sleeps for `millis` of virtual time.
pub async fn sleep_ms(millis: u64) {
    SimRuntime::sleep(Duration::from_millis(millis)).await;
}
