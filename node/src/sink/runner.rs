//! One sink on one node: idle while another node leads; while this one leads, sessions with the
//! destination, and pauses between them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::SinkName;
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::ledger::Ledger;
use super::session::DeliverySession;
use super::tracker::StatusTracker;
use super::writer::Writer;
use super::{Claim, Destination, Phase, SessionError, SinkError};
use crate::config;
use crate::service::Service;

/// The term in which this node leads; `None` while it does not.
pub type Leading = watch::Receiver<Option<u64>>;

/// How often the host name of an absent optional sink is looked up.
const ABSENT_PAUSE: Duration = Duration::from_secs(2);

/// A sink that is configured on this node.
pub(super) struct ConfiguredSink {
    pub(super) config: config::Sink,
    pub(super) name: SinkName,
    pub(super) tracker: Arc<StatusTracker>,
    /// Ends a pause between two sessions.
    pub(super) wake: Arc<Notify>,
}

/// Runs one sink.
pub(super) struct Runner {
    sink: Arc<ConfiguredSink>,
    destination: Box<dyn Destination>,
    service: Arc<Service>,
}

impl Runner {
    pub(super) fn new(
        sink: Arc<ConfiguredSink>,
        destination: Box<dyn Destination>,
        service: Arc<Service>,
    ) -> Self {
        Self {
            sink,
            destination,
            service,
        }
    }

    /// Runs until dropped, or until the sender of `leading` is gone.
    pub(super) async fn run(mut self, mut leading: Leading) {
        loop {
            let Ok(term) = leading.wait_for(Option::is_some).await.map(|term| *term) else {
                return;
            };
            let Some(term) = term else { continue };
            self.sink.tracker.start();
            tracing::info!(sink = self.sink.tracker.name(), term, "sink started");
            tokio::select! {
                never = self.lead(term) => match never {},
                left = leading.wait_for(|now| *now != Some(term)) => {
                    self.sink.tracker.stop();
                    if left.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sessions, one after the other, until dropped.
    async fn lead(&mut self, term: u64) -> Infallible {
        let mut backoff = Backoff::new(self.sink.config.retry_max);
        loop {
            let error = self.session(term, &mut backoff).await;
            let pause = self.report(&error, &mut backoff);
            drop(tokio::time::timeout(pause, self.sink.wake.notified()).await);
        }
    }

    /// One session, until something fails.
    async fn session(&mut self, term: u64, backoff: &mut Backoff) -> SessionError {
        let claim = Claim {
            cluster: self.service.status().cluster_id,
            sink: self.sink.config.name.clone(),
            term,
        };
        let ledger = Ledger::new(self.service.clone(), self.sink.name.clone(), term);
        let writer = Writer::new(
            self.destination.as_mut(),
            &self.sink.config,
            &self.service,
            &ledger,
            &self.sink.tracker,
            &claim,
        );
        let mut session = match DeliverySession::open(writer).await {
            Ok(session) => session,
            Err(error) => return error,
        };
        let Err(error) = session.follow(|| backoff.reset()).await;
        // Best effort: without it, the last events are delivered once more.
        drop(session.save_checkpoint(Duration::ZERO).await);
        error
    }

    /// Reports why a session ended. How long to pause.
    fn report(&self, error: &SessionError, backoff: &mut Backoff) -> Duration {
        let (phase, kind) = match error {
            SessionError::Cluster(_) => (Phase::Retrying, "cluster"),
            SessionError::DeadLettersFull(_) => (Phase::Halted, "full"),
            SessionError::Destination(error) => {
                let phase = match error {
                    SinkError::Absent { .. } if self.sink.config.optional => Phase::Absent,
                    SinkError::Misconfigured { .. } | SinkError::Rejected { .. } => Phase::Failing,
                    SinkError::Absent { .. }
                    | SinkError::Unavailable { .. }
                    | SinkError::Fenced { .. }
                    | SinkError::Moved => Phase::Retrying,
                };
                (phase, error.kind())
            }
        };
        self.sink.tracker.failed(phase, kind, error.to_string());
        match error {
            SessionError::Destination(SinkError::Unavailable { retry_after, .. }) => {
                backoff.next_after(*retry_after)
            }
            _ if phase == Phase::Absent => ABSENT_PAUSE,
            _ => backoff.next(),
        }
    }
}
