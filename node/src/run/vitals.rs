//! How the node is, looked at again and again while it runs: ready, of the same state as the others,
//! within its disk and its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::GlobalRevision;
use openraft_rt_tokio::TokioRuntime;
use tonic_health::server::HealthReporter;

use super::stop::HAND_OVER_PATIENCE;
use crate::api::{self, Watchers};
use crate::cluster::agreement::Comparison;
use crate::observe::Observation;
use crate::service::{Router, Service};
use crate::telemetry::Metrics;
use lockstep_raft::consensus::Consensus;
use lockstep_raft::store::DiskStore;

const READY_EVERY: Duration = Duration::from_secs(1);
const READY_PATIENCE: Duration = Duration::from_secs(1);
/// A node that was not ready for this long ends its watches: they see nothing of what happens
/// elsewhere. Well above an election and a busy moment.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
const USAGE_EVERY: Duration = Duration::from_secs(1);
const DISK_SIZE_EVERY: Duration = Duration::from_secs(10);
const FREE_SPACE_EVERY: Duration = Duration::from_secs(1);
/// Leadership that nobody with room takes goes round no more often.
const HAND_OVER_EVERY: Duration = Duration::from_secs(60);

/// Keeps the readiness metric and the gRPC health service up to date.
pub(super) async fn watch_readiness(
    service: Arc<Service>,
    metrics: Arc<Metrics>,
    health: HealthReporter,
    watchers: Watchers,
) {
    let mut ready_last = Instant::now();
    loop {
        let ready = service.ready(READY_PATIENCE).await.is_ok();
        if ready {
            ready_last = Instant::now();
        }
        watchers.set_cut_off(ready_last.elapsed() >= CUT_OFF_AFTER);
        metrics.ready.set(i64::from(ready));
        api::grpc::set_health(&health, ready).await;
        tokio::time::sleep(READY_EVERY).await;
    }
}

/// Makes it known whether this node holds the same state as the others. `known` is the caller's
/// memory between two calls.
pub(super) fn compared(
    found: &Comparison,
    known: &mut Vec<(String, GlobalRevision)>,
    service: &Service,
    metrics: &Metrics,
) {
    for (member, revision) in found.differing.iter().filter(|it| !known.contains(it)) {
        tracing::error!(
            member,
            revision = revision.0,
            "the state here differs from this member's"
        );
    }
    known.clone_from(&found.differing);
    let differing = i64::try_from(found.differing.len()).unwrap_or(i64::MAX);
    metrics.state_differing_members.set(differing);
    metrics
        .state_comparisons_total
        .inc_by(found.same as u64 + differing as u64);
    service.set_outvoted(found.is_outvoted());
}

pub(super) async fn watch_disk_size(store: DiskStore, metrics: Arc<Metrics>) {
    loop {
        let store = store.clone();
        if let Ok(Ok(bytes)) = tokio::task::spawn_blocking(move || store.size_on_disk()).await {
            metrics
                .log_disk_bytes
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        tokio::time::sleep(DISK_SIZE_EVERY).await;
    }
}

/// Keeps a leader from filling its disk. `free_bytes_min` are to stay free; 0 for no such bound.
///
/// One that runs short hands over to another node, which may have room. If that one is short, too, it
/// takes no writes, and whoever leads serves reads.
pub(super) async fn watch_free_space(
    store: DiskStore,
    consensus: Consensus<TokioRuntime, DiskStore>,
    free_bytes_min: u64,
    metrics: Arc<Metrics>,
) {
    let mut full = false;
    let mut handed_over: Option<Instant> = None;
    loop {
        let asked = store.clone();
        if let Ok(Ok(free)) = tokio::task::spawn_blocking(move || asked.free_bytes()).await {
            let was = full;
            full = is_full(free, free_bytes_min, was);
            match (was, full) {
                (false, true) => tracing::error!(
                    free,
                    free_bytes_min,
                    "the disk is nearly full: as leader, this node takes no writes"
                ),
                (true, false) => tracing::info!(free, "the disk has room again"),
                _ => {}
            }
            let due = handed_over.is_none_or(|at| at.elapsed() >= HAND_OVER_EVERY);
            if full && due && consensus.leads() {
                handed_over = Some(Instant::now());
                consensus.hand_over(HAND_OVER_PATIENCE).await;
            }
            consensus.set_disk_full(full);
            metrics.disk_full.set(i64::from(full));
            metrics
                .disk_free_bytes
                .set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        tokio::time::sleep(FREE_SPACE_EVERY).await;
    }
}

/// A disk that was full has room again once there is a quarter more than the least.
fn is_full(free: u64, free_bytes_min: u64, was: bool) -> bool {
    let margin = if was { free_bytes_min / 4 } else { 0 };
    free < free_bytes_min.saturating_add(margin)
}

pub(super) async fn watch_usage(
    router: Router<TokioRuntime, DiskStore>,
    metrics: Arc<Metrics>,
    observation: Arc<Observation>,
) {
    loop {
        let (outstanding, outstanding_max) = router.outstanding();
        metrics.quota("requests", outstanding as u64, outstanding_max as u64);
        // A clone is cheap, and holds nobody up while it is looked through.
        let state = router.consensus().state().read().state.clone();
        observation.usage(&state);
        drop(state);
        tokio::time::sleep(USAGE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_below_the_least_and_until_there_is_clearly_more() {
        for (free, was, expected) in [
            (99, false, true),
            (100, false, false),
            (100, true, true),
            (124, true, true),
            (125, true, false),
        ] {
            assert_eq!(is_full(free, 100, was), expected, "{free} {was}");
        }
        assert!(!is_full(0, 0, false) && !is_full(0, 0, true));
    }
}
