//! One sink's life on one node: nothing while another node leads; while this one does, sessions with
//! the far side, and pauses between them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{EventFilter, SinkName};
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::board::Board;
use super::ledger::Ledger;
use super::session::Session;
use super::{Claim, Phase, Sink, SinkError, Trouble};
use crate::config;
use crate::service::Service;

/// The term in which this node leads; none while it does not.
pub type Leading = watch::Receiver<Option<u64>>;

/// Between two looks whether an optional sink's host has an address.
const ABSENT_PAUSE: Duration = Duration::from_secs(2);

/// One sink on one node.
pub(super) struct Runner {
    config: config::Sink,
    name: SinkName,
    filters: Vec<EventFilter>,
    sink: Box<dyn Sink>,
    service: Arc<Service>,
    board: Arc<Board>,
    /// Wakes it from a pause.
    nudge: Arc<Notify>,
}

impl Runner {
    pub(super) fn new(
        config: config::Sink,
        name: SinkName,
        sink: Box<dyn Sink>,
        service: Arc<Service>,
        board: Arc<Board>,
        nudge: Arc<Notify>,
    ) -> Self {
        let filters = config.follows.iter().map(config::Follow::filter).collect();
        Self {
            config,
            name,
            filters,
            sink,
            service,
            board,
            nudge,
        }
    }

    /// Runs until dropped, or until nobody says any more who leads.
    pub(super) async fn run(mut self, mut leading: Leading) {
        loop {
            let Ok(term) = leading.wait_for(Option::is_some).await.map(|term| *term) else {
                return;
            };
            let Some(term) = term else { continue };
            self.board.begin();
            tracing::info!(sink = self.board.name(), term, "the sink runs here");
            tokio::select! {
                never = self.lead(term) => match never {},
                left = leading.wait_for(|now| *now != Some(term)) => {
                    self.board.leave();
                    if left.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sessions, one after the other, until dropped.
    async fn lead(&mut self, term: u64) -> Infallible {
        let mut backoff = Backoff::new(self.config.retry_max);
        loop {
            let trouble = self.session(term, &mut backoff).await;
            let pause = self.pause_after(trouble, &mut backoff);
            drop(tokio::time::timeout(pause, self.nudge.notified()).await);
        }
    }

    /// One session, until something goes wrong.
    async fn session(&mut self, term: u64, backoff: &mut Backoff) -> Trouble {
        let cluster = self.service.status().cluster_id;
        let claim = Claim {
            cluster,
            sink: self.config.name.clone(),
            term,
        };
        let ledger = Ledger::new(self.service.clone(), self.name.clone(), term);
        let opened = Session::open(
            self.sink.as_mut(),
            &self.config,
            &self.filters,
            &self.service,
            &ledger,
            &self.board,
            &claim,
        );
        let mut session = match opened.await {
            Ok(session) => session,
            Err(trouble) => return trouble,
        };
        let Err(trouble) = session.follow(|| backoff.reset()).await;
        // So that nothing is written again that need not be. If that fails, it is.
        drop(session.keep_place(Duration::ZERO).await);
        trouble
    }

    /// Tells people of the trouble; how long to wait.
    fn pause_after(&self, trouble: Trouble, backoff: &mut Backoff) -> Duration {
        let reason = trouble.to_string();
        let (phase, kind) = match &trouble {
            Trouble::Cluster(_) => (Phase::Retrying, "cluster"),
            Trouble::Full(_) => (Phase::Halted, "full"),
            Trouble::Sink(error) => {
                let phase = match error {
                    SinkError::Absent { .. } if self.config.optional => Phase::Absent,
                    SinkError::Misconfigured { .. } | SinkError::Refused { .. } => Phase::Failing,
                    _ => Phase::Retrying,
                };
                (phase, error.kind())
            }
        };
        self.board.trouble(phase, kind, reason);
        match trouble {
            Trouble::Sink(SinkError::Unavailable { retry_after, .. }) => {
                backoff.next_after(retry_after)
            }
            _ if phase == Phase::Absent => ABSENT_PAUSE,
            _ => backoff.next(),
        }
    }
}
