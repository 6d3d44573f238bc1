//! How a node stops: on a signal, and in an order that loses no request.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

use super::service_manager::ServiceManager;
use super::{Node, Parts};
use crate::lifecycle::Phase;
use lockstep_raft::consensus::MemberError;

pub(super) const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);
/// What stopping may take besides the configured drain time.
const STOP_MARGIN: Duration = Duration::from_secs(4);

/// The signals that a node handles. Each would end the process otherwise.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    /// SIGUSR1 and SIGUSR2: often sent to rotate logs, which this node does not write to files.
    _ignored: [Signal; 2],
}

impl Signals {
    /// Handles them from now on.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            _ignored: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Waits for SIGTERM, SIGINT or SIGQUIT, and returns its name. Calls `reload` on each SIGHUP.
    pub async fn stop(mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.quit.recv() => return "SIGQUIT",
                _ = self.hang_up.recv() => reload(),
            }
        }
    }
}

impl Node {
    /// Stops in order, within `http.drain_timeout` and 4 seconds.
    pub async fn stop(mut self) {
        let drain_timeout = self.parts.config.http.drain_timeout;
        let deadline = Instant::now() + drain_timeout + STOP_MARGIN;
        self.parts.lifecycle.enter(Phase::Stopping);
        ServiceManager::stopping(drain_timeout + STOP_MARGIN);
        // Aborts the background tasks: none of them has work to finish.
        drop(std::mem::take(&mut self.background));
        tokio::join!(hand_over(&self.parts), withdraw(&self.parts));

        self.parts.watchers.stop();
        self.interfaces.stop(drain_timeout).await;

        if timeout_at(deadline, self.parts.consensus.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("consensus did not stop in time");
        }
        // The last handle of the store flushes what is queued.
        let parts = self.parts;
        let closing = tokio::task::spawn_blocking(move || drop(parts));
        if timeout_at(deadline, closing).await.is_err() {
            tracing::warn!("the store was not closed in time");
        }
        tracing::info!("stopped");
    }
}

async fn hand_over(parts: &Parts) {
    match parts.consensus.hand_over(None, HAND_OVER_TIMEOUT).await {
        Ok(_) | Err(MemberError::NotLeader { .. }) => {}
        Err(error) => {
            tracing::warn!(%error, "leadership was not handed over; the other nodes will elect a leader");
        }
    }
}

async fn withdraw(parts: &Parts) {
    match timeout(WITHDRAW_TIMEOUT, parts.discovery.withdraw()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot deregister from discovery"),
        Err(_) => {
            tracing::warn!(timeout = ?WITHDRAW_TIMEOUT, "deregistering from discovery timed out")
        }
    }
}
