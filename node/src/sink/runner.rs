//! One sink on one node: idle while another node leads; while this one leads, sessions with the
//! destination, and pauses between them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lockstep_raft::Backoff;
use tokio::sync::watch;

use super::session::Session;
use super::status::ConfiguredSink;
use super::{Destination, Phase, SinkError};
use crate::config;
use crate::service::Service;

/// The term in which this node leads; `None` while it does not.
pub type Leading = watch::Receiver<Option<u64>>;

/// How often the host name of an absent optional sink is looked up.
const ABSENT_PAUSE: Duration = Duration::from_secs(2);
/// The first pause between two sessions at most.
const PAUSE_MIN: Duration = Duration::from_millis(200);

pub(super) struct Runner {
    pub(super) sink: Arc<ConfiguredSink>,
    pub(super) destination: Box<dyn Destination>,
    pub(super) service: Arc<Service>,
}

impl Runner {
    /// Runs until dropped, or until the sender of `leading` is gone.
    pub(super) async fn run(mut self, mut leading: Leading) {
        loop {
            let Ok(term) = leading.wait_for(Option::is_some).await.map(|term| *term) else {
                return;
            };
            let Some(term) = term else { continue };
            self.sink.start();
            tracing::info!(sink = self.sink.name(), term, "sink started");
            tokio::select! {
                never = self.lead(term) => match never {},
                left = leading.wait_for(|now| *now != Some(term)) => {
                    self.sink.stop();
                    if left.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sessions, one after the other, until dropped.
    async fn lead(&mut self, term: u64) -> Infallible {
        let mut backoff = pauses(&self.sink.config);
        loop {
            let error = self.session(term, &mut backoff).await;
            let pause = self.report(&error, &mut backoff);
            drop(tokio::time::timeout(pause, self.sink.wake.notified()).await);
        }
    }

    /// One session, until something fails.
    async fn session(&mut self, term: u64, backoff: &mut Backoff) -> SinkError {
        let destination = self.destination.as_mut();
        let opening = Session::open(destination, &self.sink, &self.service, term);
        let mut session = match opening.await {
            Ok(session) => session,
            Err(error) => return error,
        };
        let Err(error) = session.follow(|| backoff.reset()).await;
        // Best effort: without it, the last events are delivered once more.
        drop(session.save_checkpoint(Duration::ZERO).await);
        error
    }

    /// Reports why a session ended. How long to pause.
    fn report(&self, error: &SinkError, backoff: &mut Backoff) -> Duration {
        let config = &self.sink.config;
        let phase = match error {
            SinkError::Absent { .. } if config.optional => Phase::Absent,
            SinkError::Misconfigured { .. } | SinkError::Rejected { .. } => Phase::Failing,
            SinkError::DeadLettersFull(_) => Phase::Halted,
            SinkError::Absent { .. }
            | SinkError::Unavailable { .. }
            | SinkError::Fenced { .. }
            | SinkError::Moved
            | SinkError::Cluster(_) => Phase::Retrying,
        };
        self.sink.failed(phase, error);
        match phase {
            Phase::Absent => ABSENT_PAUSE,
            _ => pause(backoff, config.retry_max, error.retry_after()),
        }
    }
}

/// The pauses between attempts of a sink.
pub(super) fn pauses(sink: &config::Sink) -> Backoff {
    Backoff::new(PAUSE_MIN, sink.retry_max)
}

/// The next pause, drawn at random from its upper half, so that several sinks do not retry a recovering
/// destination all at once; or the longer one that the destination requests, up to `max`.
pub(super) fn pause(backoff: &mut Backoff, max: Duration, requested: Option<Duration>) -> Duration {
    let pause = backoff.pause().mul_f64(rand::random_range(0.5..=1.0));
    requested.map_or(pause, |requested| requested.min(max).max(pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_may_request_a_longer_pause_up_to_the_bound() {
        let max = Duration::from_secs(3);
        let mut backoff = Backoff::new(PAUSE_MIN, max);
        assert!(pause(&mut backoff, max, None) <= PAUSE_MIN);
        let requested = Duration::from_secs(2);
        assert_eq!(pause(&mut backoff, max, Some(requested)), requested);
        assert_eq!(pause(&mut backoff, max, Some(10 * max)), max);
    }

    #[test]
    fn two_sinks_do_not_pause_equally_long() {
        let max = Duration::from_secs(30);
        let pauses = || -> Vec<_> {
            let mut backoff = Backoff::new(PAUSE_MIN, max);
            (0..8).map(|_| pause(&mut backoff, max, None)).collect()
        };
        assert_ne!(pauses(), pauses());
    }
}
