//! The background tasks of a node: joining its cluster, following consensus, and checking itself
//! (readiness, agreement with the other members, disk, limits).

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic_health::server::HealthReporter;

use super::stop::HAND_OVER_TIMEOUT;
use super::{NodeError, Parts};
use crate::api;
use crate::cluster::{self, agreement};
use crate::observe::signed;
use crate::service::{CLUSTER_TIME_AHEAD_MAX, Phase, Role};

/// Time between two log lines about recovery.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);
const READY_EVERY: Duration = Duration::from_secs(1);
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that has not been ready for this long ends its watches, because they miss events of the
/// other nodes. Well above the duration of an election or a load spike.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
/// Time between two announcements to discovery.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
/// Time between two comparisons of the state with that of the other members.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
const USAGE_EVERY: Duration = Duration::from_secs(1);
const CLOCK_EVERY: Duration = Duration::from_secs(1);
const DISK_SIZE_EVERY: Duration = Duration::from_secs(10);
const FREE_SPACE_EVERY: Duration = Duration::from_secs(1);
/// Minimum time between hand-over attempts while no peer has disk space.
const HAND_OVER_EVERY: Duration = Duration::from_secs(60);

/// Joins a cluster, catches up with the log, and begins to serve.
pub(super) async fn join_cluster(parts: Parts) -> Result<(), NodeError> {
    let expect = parts.config.discovery.expect;
    cluster::join(&parts.local, &parts.consensus, &parts.discovery, expect).await?;
    while !parts.consensus.recovered(RECOVERY_TIMEOUT).await {
        tracing::info!("replaying entries that were committed before the restart");
    }
    parts.service.set_phase(Phase::Serving);
    tracing::info!("serving");
    Ok(())
}

/// Reports the role of this node to metrics and, with the term it leads in, to the sinks. Ends only
/// with the error that ended consensus.
pub(super) async fn follow_consensus(
    parts: Parts,
    leads: watch::Sender<Option<u64>>,
) -> Result<(), NodeError> {
    let mut last_leader = None;
    let ended = parts.consensus.watch(|standing| {
        let term = (standing.role == Role::Leader).then_some(standing.term);
        leads.send_if_modified(|known| std::mem::replace(known, term) != term);
        parts.observation.standing(standing, &mut last_leader);
    });
    Err(ended.await.into())
}

/// Announces this node to discovery periodically, and counts the nodes that discovery lists.
pub(super) async fn announce(parts: Parts) {
    let discovery = &parts.discovery;
    let mut reachable = true;
    loop {
        let peers = async {
            discovery.announce(&parts.local.announcement()).await?;
            discovery.peers().await
        };
        let answer = peers.await;
        match &answer {
            Ok(peers) => {
                if !reachable {
                    tracing::info!(discovery = discovery.kind(), "discovery is available again");
                }
                parts
                    .metrics
                    .discovery_passing_nodes
                    .set(peers.len() as i64);
            }
            Err(error) if reachable => {
                tracing::warn!(%error, "discovery is unavailable; a running cluster is not affected");
            }
            Err(_) => {}
        }
        reachable = answer.is_ok();
        tokio::time::sleep(ANNOUNCE_EVERY).await;
    }
}

/// Maintains the readiness metric, the gRPC health service and the cut-off of watches.
pub(super) async fn watch_readiness(parts: Parts, health: HealthReporter) {
    let mut ready_last = Instant::now();
    loop {
        let ready = parts.service.ready(READY_TIMEOUT).await.is_ok();
        if ready {
            ready_last = Instant::now();
        }
        let cut_off = ready_last.elapsed() >= CUT_OFF_AFTER;
        parts.watchers.set_cut_off(cut_off);
        parts.metrics.ready.set(i64::from(ready));
        api::grpc::set_health(&health, ready).await;
        tokio::time::sleep(READY_EVERY).await;
    }
}

/// Compares the state of this node with that of the other members. Logs each difference once.
pub(super) async fn compare_states(parts: Parts) {
    let (metrics, cluster) = (&parts.metrics, parts.local.tag());
    let mut known = Vec::new();
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let found = agreement::compare(&cluster, &parts.consensus, parts.local.hashes()).await;
        for (member, log_index) in found.differing.iter().filter(|it| !known.contains(*it)) {
            tracing::error!(
                member,
                log_index,
                "the state of this node differs from that of a member"
            );
        }
        let differing = found.differing.len();
        metrics.state_differing_members.set(differing as i64);
        metrics
            .state_incomparable_members
            .set(found.incomparable as i64);
        metrics
            .state_comparisons_total
            .inc_by((found.same + differing) as u64);
        parts.service.set_outvoted(found.is_outvoted());
        known = found.differing;
    }
}

pub(super) async fn watch_disk_size(parts: Parts) {
    loop {
        let store = parts.store.clone();
        let size = tokio::task::spawn_blocking(move || store.size_on_disk());
        if let Ok(Ok(bytes)) = size.await {
            parts.metrics.log_disk_bytes.set(signed(bytes));
        }
        tokio::time::sleep(DISK_SIZE_EVERY).await;
    }
}

/// Enforces `storage.free_bytes_min` (0 disables it). A leader with less free space hands over, because another
/// node may have more. If no node has enough, the leader rejects writes and keeps serving reads.
pub(super) async fn watch_free_space(parts: Parts) {
    let free_bytes_min = parts.config.storage.free_bytes_min;
    let mut full = false;
    let mut handed_over: Option<Instant> = None;
    loop {
        let store = parts.store.clone();
        let free = tokio::task::spawn_blocking(move || store.free_bytes());
        if let Ok(Ok(free)) = free.await {
            let was = full;
            full = is_full(free, free_bytes_min, was);
            match (was, full) {
                (false, true) => tracing::error!(
                    free,
                    free_bytes_min,
                    "the disk is nearly full: as leader, this node rejects writes; free some space"
                ),
                (true, false) => tracing::info!(free, "the disk has enough free space again"),
                _ => {}
            }
            let due = handed_over.is_none_or(|at| at.elapsed() >= HAND_OVER_EVERY);
            if full && due && parts.consensus.leads() {
                handed_over = Some(Instant::now());
                parts.consensus.hand_over(HAND_OVER_TIMEOUT).await;
            }
            parts.consensus.set_disk_full(full);
            parts.metrics.disk_full.set(i64::from(full));
            parts.metrics.disk_free_bytes.set(signed(free));
        }
        tokio::time::sleep(FREE_SPACE_EVERY).await;
    }
}

/// A full disk counts as full until a quarter more than the minimum is free.
fn is_full(free: u64, free_bytes_min: u64, was: bool) -> bool {
    let margin = if was { free_bytes_min / 4 } else { 0 };
    free < free_bytes_min.saturating_add(margin)
}

/// Reports whether a leader was heard within the election timeout: one that is cut off or frozen stays the
/// known leader until another is elected.
pub(super) async fn watch_leader(parts: Parts) {
    let timeout = parts.config.raft.election_timeout_max;
    loop {
        let contact = parts.consensus.leader_contact();
        let heard = contact.is_some_and(|ago| ago <= timeout);
        parts.metrics.has_leader.set(i64::from(heard));
        tokio::time::sleep(timeout).await;
    }
}

/// Reports cluster time that is ahead of this node's clock.
pub(super) async fn watch_clock(parts: Parts) {
    let mut was_ahead = false;
    loop {
        let ahead = parts.service.cluster_time_ahead();
        parts
            .metrics
            .cluster_time_ahead_seconds
            .set(ahead.as_secs_f64());
        let is_ahead = ahead >= CLUSTER_TIME_AHEAD_MAX;
        match (was_ahead, is_ahead) {
            (false, true) => tracing::warn!(
                ahead_ms = ahead.as_millis() as u64,
                "cluster time is ahead of this node's clock: while this node leads, timeouts wait until the clock catches up"
            ),
            (true, false) => tracing::info!("this node's clock has caught up with cluster time"),
            _ => {}
        }
        was_ahead = is_ahead;
        tokio::time::sleep(CLOCK_EVERY).await;
    }
}

pub(super) async fn watch_usage(parts: Parts) {
    loop {
        let (outstanding, outstanding_max) = parts.router.outstanding();
        parts
            .metrics
            .quota("requests", outstanding as u64, outstanding_max as u64);
        // A clone is cheap, and releases the lock before the walk over the state.
        let state = parts.consensus.state().read().state.clone();
        parts.observation.usage(&state);
        drop(state);
        tokio::time::sleep(USAGE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_below_the_minimum_and_until_there_is_clearly_more() {
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
