//! The background tasks of a node: joining its cluster, following consensus, and checking itself
//! (readiness, agreement with the other members, disk, limits).

use std::time::{Duration, Instant};

use lockstep_machine::{Command, FeatureLevel};
use lockstep_raft::Deadline;
use tokio::sync::watch;
use tonic_health::server::HealthReporter;

use super::stop::HAND_OVER_TIMEOUT;
use super::{NodeError, Parts};
use crate::api;
use crate::backup::Schedule;
use crate::cluster::agreement::{Difference, Verdict};
use crate::cluster::level::{self, Survey};
use crate::cluster::locate::locate;
use crate::cluster::{self, agreement};
use crate::config::Config;
use crate::lifecycle::Phase;
use crate::service::{CLUSTER_TIME_AHEAD_MAX, Distrust, Role};

const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);
const READY_EVERY: Duration = Duration::from_secs(1);
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that has not been ready for this long ends its watches, because they miss events of the
/// other nodes. Well above the duration of an election or a load spike.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
const COMPARE_EVERY: Duration = Duration::from_secs(10);
const USAGE_EVERY: Duration = Duration::from_secs(1);
const CLOCK_EVERY: Duration = Duration::from_secs(1);
const FREE_SPACE_EVERY: Duration = Duration::from_secs(1);
const LEVEL_EVERY: Duration = Duration::from_secs(1);
const LEVEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Joins a cluster, catches up with the log, and begins to serve.
pub(super) async fn join_cluster(parts: Parts) -> Result<(), NodeError> {
    let config = &parts.config;
    let expect = config.cluster.bootstrap.then_some(config.discovery.expect);
    let Parts {
        local,
        consensus,
        discovery,
        lifecycle,
        ..
    } = &parts;
    lifecycle.enter(Phase::Discovering);
    let report = |reason: &str| lifecycle.set_waiting(reason);
    cluster::join(local, consensus, discovery, expect, report).await?;
    lifecycle.enter(Phase::Joining);
    while !consensus.recovered(RECOVERY_TIMEOUT).await {
        tracing::info!("replaying entries that were committed before the restart");
    }
    level::check(&parts.consensus, parts.local.supports()).map_err(|newer| NodeError::TooOld {
        data_dir: parts.config.data_dir.clone(),
        newer,
    })?;
    lifecycle.enter(Phase::Serving);
    tracing::info!("serving");
    Ok(())
}

/// Follows the feature level, and raises it while this node leads.
pub(super) async fn keep_level(parts: Parts) {
    let metrics = &parts.metrics;
    let newest = parts.local.supports();
    metrics.feature_level_max.set(newest.get().into());
    let mut known = FeatureLevel::FIRST;
    loop {
        let (level, most) = {
            let applied = parts.consensus.state().read();
            let limit = applied.state.limits().feature_level_max;
            (applied.state.level(), limit)
        };
        metrics.feature_level.set(level.get().into());
        if level > known {
            tracing::info!(%level, adds = level.adds(), "the feature level of the cluster");
            known = level;
        }
        let survey = match level < newest {
            true => Survey::of(&parts.consensus, &parts.local).await,
            false => Survey::default(),
        };
        parts
            .service
            .set_level_waits_for(survey.waits_for(newest, most));
        if let Some(next) = survey.allows(most).filter(|next| *next > level)
            && parts.consensus.leads()
        {
            let command = Command::RaiseLevel(next);
            let raised = parts
                .router
                .submit_here(command, Deadline::after(LEVEL_TIMEOUT));
            let asked = survey.asked();
            if let Some(Err(error)) = parts.consensus.raise_level(&asked, next, raised).await {
                tracing::debug!(%error, "the feature level could not be raised");
            }
        }
        tokio::time::sleep(LEVEL_EVERY).await;
    }
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

/// Announces this node to discovery again and again, counts the nodes that discovery lists, and notes at
/// which addresses they are. Asks them to add this node again if its addition was lost. Ends only when it learns
/// from them that this node was removed.
pub(super) async fn announce(parts: Parts) -> Result<(), NodeError> {
    let discovery = &parts.discovery;
    let mut reachable = true;
    let mut round = 0;
    loop {
        round += 1;
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
                let members = parts.consensus.standing().members;
                let since = locate(&parts.local, &parts.addresses, &members, peers, round).await;
                match since {
                    Some(_) if parts.consensus.is_unconfirmed().await => {
                        cluster::ask_again(&parts.local, peers).await;
                    }
                    Some(since) if parts.consensus.was_removed(since) => {
                        return Err(removed(&parts));
                    }
                    Some(_) | None => {}
                }
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

fn removed(parts: &Parts) -> NodeError {
    let me = parts.local.announcement();
    NodeError::Removed {
        name: me.member.name,
        id: me.node_id,
        cluster: me.cluster_id.unwrap_or_default(),
        data_dir: parts.config.data_dir.display().to_string(),
    }
}

/// While this node leads, completes membership changes.
pub(super) async fn keep_members(parts: Parts) {
    parts.consensus.keep_members().await;
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

/// Compares the state of this node with that of the other members, and has it answer no requests while its
/// own may be wrong. Logs each difference once.
pub(super) async fn compare_states(parts: Parts) {
    let (metrics, cluster) = (&parts.metrics, parts.local.tag());
    let mut known = Vec::new();
    distrust(&parts, parts.local.differs_at().map(|_| Verdict::Wrong));
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let found = agreement::compare(&cluster, &parts.consensus, parts.local.hashes()).await;
        for it in found.differing.iter().filter(|it| !known.contains(*it)) {
            tracing::error!(
                member = it.member,
                log_index = it.log_index,
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
        let verdict = match (found.verdict(), parts.local.differs_at()) {
            (None, Some(_)) => Some(Verdict::Wrong),
            (verdict, _) => verdict,
        };
        distrust(&parts, verdict);
        keep_verdict(&parts, verdict, found.differing.first()).await;
        if verdict == Some(Verdict::Wrong) && parts.consensus.leads() {
            hand_over_to_a_fitter_voter(&parts).await;
        }
        known = found.differing;
    }
}

/// Makes this node answer requests, or refuse them. While it is not known which state is right, the cluster still
/// needs a leader, because an operator may have to remove a member.
fn distrust(parts: &Parts, verdict: Option<Verdict>) {
    let distrust = match verdict {
        None | Some(Verdict::Right) => None,
        Some(Verdict::Wrong) => Some(Distrust::Wrong),
        Some(Verdict::Open) => Some(Distrust::Open),
    };
    if let Some(reason) = distrust.filter(|_| parts.metrics.state_distrusted.get() == 0) {
        tracing::error!(%reason, "this node answers no requests");
    }
    parts
        .metrics
        .state_distrusted
        .set(i64::from(distrust.is_some()));
    parts.service.set_distrust(distrust);
    let electable = distrust != Some(Distrust::Wrong);
    parts.consensus.distrust(distrust.is_some(), electable);
}

/// Stores durably that the state of this node is wrong.
async fn keep_verdict(parts: &Parts, verdict: Option<Verdict>, found: Option<&Difference>) {
    let differs_at = match verdict {
        Some(Verdict::Wrong) => {
            let found = found.map(|it| it.log_index);
            parts.local.differs_at().or(found)
        }
        Some(Verdict::Right) => None,
        Some(Verdict::Open) | None => return,
    };
    let local = parts.local.clone();
    let kept = tokio::task::spawn_blocking(move || local.keep_differs_at(differs_at)).await;
    if let Ok(Err(error)) = kept {
        tracing::error!(%error, "cannot store that the state of this node differs");
    }
}

/// Keeps the log and the disk within bounds.
pub(super) async fn compact(parts: Parts) {
    parts.consensus.compact().await;
    // Consensus has ended, and `follow_consensus` says so.
    std::future::pending().await
}

/// A leader without disk space hands over to a voter that has space. If none has, the leader refuses writes and
/// keeps serving reads.
pub(super) async fn leave_a_full_disk(parts: Parts) {
    loop {
        if parts.consensus.disk_full() && parts.consensus.leads() {
            hand_over_to_a_fitter_voter(&parts).await;
        }
        tokio::time::sleep(FREE_SPACE_EVERY).await;
    }
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

/// Reports cluster time that is ahead of this node's clock, and a clock that is off from those of the other
/// members: while it is, this node hands leadership over.
pub(super) async fn watch_clock(parts: Parts) {
    let mut was_ahead = false;
    let mut was_skewed = false;
    loop {
        was_ahead = report_cluster_time(&parts, was_ahead);
        was_skewed = report_skew(&parts, was_skewed);
        if was_skewed && parts.consensus.leads() {
            hand_over_to_a_fitter_voter(&parts).await;
        }
        tokio::time::sleep(CLOCK_EVERY).await;
    }
}

/// Writes the scheduled backups, if there is a folder for them.
pub(super) async fn write_backups(parts: Parts) {
    let Config {
        backup, storage, ..
    } = &*parts.config;
    if let Some(schedule) = Schedule::new(backup, storage.free_bytes_warn) {
        schedule.run(&parts.service, &parts.metrics).await;
    }
}

fn report_cluster_time(parts: &Parts, was_ahead: bool) -> bool {
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
    is_ahead
}

fn report_skew(parts: &Parts, was_skewed: bool) -> bool {
    let skew_ms = parts.clocks.skew_ms();
    let is_skewed = parts.clocks.is_skewed().unwrap_or(was_skewed);
    parts.metrics.clock_skew_seconds.set(skew_ms as f64 / 1e3);
    match (was_skewed, is_skewed) {
        (false, true) => {
            parts.metrics.clock_skews_total.inc();
            tracing::warn!(
                skew_ms,
                "this node's clock is off from the other members' clocks by more than raft.clock_skew_max: correct it"
            );
        }
        (true, false) => tracing::info!("this node's clock agrees with the other members' clocks"),
        _ => {}
    }
    is_skewed
}

async fn hand_over_to_a_fitter_voter(parts: &Parts) {
    let handed = parts
        .consensus
        .hand_over_to_a_fitter_voter(HAND_OVER_TIMEOUT);
    if let Err(error) = handed.await {
        tracing::debug!(%error, "leadership was not handed over");
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
