//! How a node stops: told by a signal, and in an order that loses no request.

use std::sync::Arc;
use std::time::Duration;

use openraft_rt_tokio::TokioRuntime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::discovery::Discovery;
use crate::service::{Phase, Service};
use lockstep_raft::consensus::Consensus;
use lockstep_raft::store::DiskStore;

/// How long leadership may take to move.
pub(super) const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);
/// How long the store may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn told_to_stop() -> &'static str {
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

pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone: the node has stopped.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Stops being asked, hands leadership on, and stops being found: in this order, so that no request
/// is lost.
pub(super) async fn leave(
    service: &Service,
    consensus: &Consensus<TokioRuntime, DiskStore>,
    discovery: &Arc<dyn Discovery>,
) {
    service.set_phase(Phase::Stopping);
    if !consensus.hand_over(HAND_OVER_PATIENCE).await {
        tracing::warn!("leadership was not handed over; the others will elect a leader");
    }
    if let Err(error) = discovery.withdraw().await {
        tracing::warn!(%error, "the announcement was not withdrawn");
    }
}

/// Closing the store flushes what is queued.
pub(super) async fn close(
    store: DiskStore,
    consensus: Consensus<TokioRuntime, DiskStore>,
    service: Arc<Service>,
) {
    let closing = tokio::task::spawn_blocking(move || drop((consensus, service, store)));
    drop(tokio::time::timeout(CLOSE_PATIENCE, closing).await);
}
