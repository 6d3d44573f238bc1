//! How a node stops: on a signal, and in an order that loses no request.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Node, Parts};
use crate::service::Phase;

/// How long leadership may take to move.
pub(super) const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the node may take to withdraw from discovery.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);
/// What stopping may take besides the configured drain time.
const STOP_MARGIN: Duration = Duration::from_secs(4);

/// Waits for SIGTERM or SIGINT, and returns its name.
pub async fn stop_signal() -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

impl Node {
    /// Stops in order, within `http.drain_timeout` and 4 seconds.
    pub async fn stop(mut self) {
        let drain_timeout = self.parts.config.http.drain_timeout;
        let deadline = Instant::now() + drain_timeout + STOP_MARGIN;
        self.parts.service.set_phase(Phase::Stopping);
        // Aborts them: none has anything to finish.
        drop(std::mem::take(&mut self.background));
        tokio::join!(hand_over(&self.parts), withdraw(&self.parts));

        self.parts.watchers.stop();
        self.stopping.cancel();
        let drained = async {
            tokio::join!(self.servers.finish(), self.drain.finish());
        };
        if timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!("requests were cut off at the end of http.drain_timeout");
        }
        drop(self.servers);

        if timeout_at(deadline, self.parts.consensus.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("consensus did not end in time");
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
    if !parts.consensus.hand_over(HAND_OVER_TIMEOUT).await {
        tracing::warn!("leadership was not handed over; the other nodes will elect a leader");
    }
}

async fn withdraw(parts: &Parts) {
    match timeout(WITHDRAW_TIMEOUT, parts.discovery.withdraw()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "not withdrawn from discovery"),
        Err(_) => {
            tracing::warn!(timeout = ?WITHDRAW_TIMEOUT, "not withdrawn from discovery in time")
        }
    }
}
