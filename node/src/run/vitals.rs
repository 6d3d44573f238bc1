//! How the node is, looked at again and again while it runs: ready, of the same state as the others,
//! within its disk and its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::GlobalRevision;
use openraft_rt_tokio::TokioRuntime;
use tonic_health::server::HealthReporter;

use crate::api::{self, Watchers};
use crate::cluster::agreement::Comparison;
use crate::observe::Observation;
use crate::service::{Router, Service};
use crate::store::DiskStore;
use crate::telemetry::Metrics;

const READY_EVERY: Duration = Duration::from_secs(1);
const READY_PATIENCE: Duration = Duration::from_secs(1);
/// A node that was not ready for this long ends its watches: they see nothing of what happens
/// elsewhere. Well above an election and a busy moment.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
const USAGE_EVERY: Duration = Duration::from_secs(1);
const DISK_SIZE_EVERY: Duration = Duration::from_secs(10);

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
