//! Deadlines and pauses on a runtime's clock, so that the simulation controls both.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use derive_where::derive_where;
use futures::future::{Either, select};
use openraft_rt::Instant as _;

use crate::consensus::Runtime;

/// The instant by which a request must be answered. It is made once, from a timeout, where the
/// request enters; everything that waits on behalf of the request waits until the deadline.
#[derive_where(Clone, Copy)]
pub struct Deadline<RT: Runtime> {
    began: RT::Instant,
    timeout: Duration,
}

impl<RT: Runtime> Deadline<RT> {
    /// The deadline `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self {
            began: RT::Instant::now(),
            timeout,
        }
    }

    /// How long ago the deadline was set.
    pub fn waited(&self) -> Duration {
        self.began.elapsed()
    }

    /// The time left; zero once the deadline has passed.
    pub fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.waited())
    }

    /// Whether no time is left.
    pub fn has_passed(&self) -> bool {
        self.left().is_zero()
    }

    /// An earlier deadline: `timeout` from now, or this one.
    pub fn at_most(&self, timeout: Duration) -> Self {
        Self::after(self.left().min(timeout))
    }

    /// The output of `future`, or `None` once the deadline has passed.
    pub async fn bound<F: Future + Send>(&self, future: F) -> Option<F::Output> {
        match select(pin!(future), pin!(RT::sleep(self.left()))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }

    /// Sleeps for `pause`, but not past the deadline; `false` if no time is left after that.
    pub async fn sleep(&self, pause: Duration) -> bool {
        RT::sleep(pause.min(self.left())).await;
        !self.has_passed()
    }
}

/// Pauses between attempts: each is twice as long as the one before, up to a maximum.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses from `first` to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        let first = first.min(max);
        Self {
            first,
            next: first,
            max,
        }
    }

    /// Starts over with the first pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt_tokio::TokioRuntime;

    use super::*;

    #[tokio::test]
    async fn a_deadline_bounds_what_waits_for_it() {
        let deadline = Deadline::<TokioRuntime>::after(Duration::from_millis(20));
        assert_eq!(deadline.bound(async { 1 }).await, Some(1));
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, None);
        assert!(!deadline.sleep(Duration::from_secs(9)).await);
    }

    #[test]
    fn pauses_double_up_to_their_maximum_and_start_over() {
        let millis = Duration::from_millis;
        let mut backoff = Backoff::new(millis(5), millis(15));
        assert_eq!(
            [(); 4].map(|()| backoff.pause()),
            [5, 10, 15, 15].map(millis)
        );
        backoff.reset();
        assert_eq!(backoff.pause(), millis(5));
    }
}
