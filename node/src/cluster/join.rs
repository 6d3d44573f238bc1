//! Joining a cluster, and saying why that does not happen yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::FeatureLevel;
use lockstep_proto::errors::Retry;
use lockstep_proto::{ErrorCode, raft as pb};
use openraft_rt_tokio::TokioRuntime;

use super::bootstrap::{Asked, Waiting, candidates};
use super::identify::identify;
use super::{ClusterError, LocalNode};
use crate::discovery::{Announcement, Discovery, DiscoveryError, FoundPeer};
use lockstep_raft::consensus::network::{PROTOCOL, channel, client};
use lockstep_raft::consensus::peer_members::member_out;
use lockstep_raft::consensus::server::Host as _;
use lockstep_raft::consensus::{Consensus, NodeId};
use lockstep_raft::store::{BootstrapPlan, DiskStore};

/// Interval between polls for peers while the node belongs to no cluster.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The leader commits the change before it answers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(6);
/// A reason that still holds is logged again after this time.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Reasons remembered as logged; more than that within a minute are not logged.
const LOGGED_MAX: usize = 16;

/// Joins a cluster: at once if the node already belongs to one, else by bootstrapping one with its peers, or
/// by waiting until a leader contacts it. Bootstraps only if `expect` says how many nodes that takes. Returns
/// once it belongs to one; until then, `report` is given the reason why not.
pub async fn join(
    local: &Arc<LocalNode>,
    consensus: &Consensus<TokioRuntime, DiskStore>,
    discovery: &Arc<dyn Discovery>,
    expect: Option<usize>,
    report: impl Fn(&str),
) -> Result<(), ClusterError> {
    let mut logged = Logged::default();
    loop {
        if consensus.is_initialized().await? {
            return Ok(());
        }
        if let Some(plan) = local.plan() {
            tracing::info!(
                cluster = plan.cluster_id,
                members = plan.members.len(),
                "bootstrapping the cluster"
            );
            let members = plan.members.into_iter().map(|it| (it.node_id, it.member));
            return Ok(consensus.initialize(members.collect()).await?);
        }
        if local.tag().load().is_none() {
            match look(local, discovery, expect).await {
                Ok(plan) => {
                    let (local, id) = (local.clone(), plan.cluster_id.clone());
                    let stored = tokio::task::spawn_blocking(move || local.belong(&id, Some(plan)));
                    // Nothing cancels the task, and a panic ends the process.
                    if let Ok(stored) = stored.await {
                        stored?;
                    }
                    continue;
                }
                Err(waiting) => {
                    report(waiting.reason());
                    logged.log(&waiting);
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks for a plan, for a cluster, and for enough peers to bootstrap one. Returns the latched plan,
/// which names this node, or why there is none yet.
async fn look(
    local: &LocalNode,
    discovery: &Arc<dyn Discovery>,
    expect: Option<usize>,
) -> Result<BootstrapPlan, Waiting> {
    let me = local.identify();
    let failed = |error: DiscoveryError| Waiting::Normal(error.to_string());
    let latched = discovery.latched().await.map_err(failed)?;
    if let Some(plan) = latched.clone().filter(|plan| names(plan, me.node_id)) {
        return Ok(plan);
    }
    let found = discovery.peers().await.map_err(failed)?;
    let asked = found.into_iter().map(|peer| ask(peer, me.node_id));
    let asked = futures::future::join_all(asked).await;
    let mut answers = asked.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    if let Some(member) = in_a_cluster(answers.clone())? {
        let me = local.announcement();
        return Err(ask_to_join(&me, local.supports(), member).await);
    }
    if let Some(plan) = latched {
        return Err(match answers.any(|it| names(&plan, it.node_id)) {
            true => left_out(&plan),
            false => Waiting::Fault(discovery.stale_plan(&plan)),
        });
    }
    let Some(expect) = expect else {
        let reason = "this node waits until it is added to a cluster: cluster.bootstrap is false";
        return Err(Waiting::Normal(reason.to_owned()));
    };
    let candidates = candidates(&me, asked, expect)?;
    if let Some(other) = discovery.bootstrap_node().filter(|it| *it != me.name) {
        let reason =
            format!("{expect} of {expect} nodes have answered; {other} bootstraps the cluster");
        return Err(Waiting::Normal(reason));
    }
    let plan = BootstrapPlan {
        cluster_id: format!("{:016x}", rand::random::<u64>()),
        members: candidates.into_iter().take(expect).collect(),
    };
    let plan = discovery.latch(&plan).await.map_err(failed)?;
    match names(&plan, me.node_id) {
        true => Ok(plan),
        false => Err(left_out(&plan)),
    }
}

fn names(plan: &BootstrapPlan, id: NodeId) -> bool {
    plan.members.iter().any(|it| it.node_id == id)
}

fn left_out(plan: &BootstrapPlan) -> Waiting {
    Waiting::Normal(format!(
        "cluster {} is being bootstrapped without this node; this node joins it afterwards",
        plan.cluster_id
    ))
}

/// A peer that belongs to a cluster, if any does. This node must not choose between two clusters.
fn in_a_cluster<'a>(
    answers: impl Iterator<Item = &'a pb::IdentifyResponse>,
) -> Result<Option<&'a pb::IdentifyResponse>, Waiting> {
    let mut members = answers.filter(|it| !it.cluster_id.is_empty());
    let Some(first) = members.next() else {
        return Ok(None);
    };
    match members.find(|it| it.cluster_id != first.cluster_id) {
        None => Ok(Some(first)),
        Some(other) => Err(Waiting::Fault(format!(
            "its peers belong to two clusters: {} at {} to {}, {} at {} to {}; stop the nodes of the cluster that this node is not to join, or remove them from discovery",
            first.name,
            first.grpc_address,
            first.cluster_id,
            other.name,
            other.grpc_address,
            other.cluster_id
        ))),
    }
}

async fn ask(peer: FoundPeer, me: NodeId) -> Asked {
    let answer = identify(&peer.grpc_address, Some(me)).await;
    (peer, answer)
}

/// Asks the cluster of a peer to add this node. Returns what this node waits for then.
async fn ask_to_join(
    me: &Announcement,
    supports: FeatureLevel,
    peer: &pb::IdentifyResponse,
) -> Waiting {
    use pb::join_response::Result as Answer;
    let cluster = &peer.cluster_id;
    let mut address = peer.grpc_address.clone();
    // The first answer may only name the leader.
    for _ in 0..2 {
        match request_join(me, supports, &address).await {
            Some(Answer::Accepted(_)) => {
                let reason = format!("cluster {cluster} has added this node; waiting for its log");
                return Waiting::Normal(reason);
            }
            Some(Answer::Leader(leader)) => address = leader.grpc_address,
            Some(Answer::Failure(failure)) => {
                let safe = ErrorCode::find(&failure.code)
                    .is_some_and(|code| code.entry().retry == Retry::Safe);
                let reason = format!(
                    "cluster {cluster} does not add this node yet: {}",
                    failure.message
                );
                return match safe {
                    true => Waiting::Normal(reason),
                    false => Waiting::Fault(reason),
                };
            }
            None => {
                let reason = format!("{address} of cluster {cluster} does not answer");
                return Waiting::Normal(reason);
            }
        }
    }
    Waiting::Normal(format!("looking for the leader of cluster {cluster}"))
}

/// Asks the cluster of this node to add it again, because its addition was lost with the leader that made it.
pub(crate) async fn ask_again(local: &LocalNode, peers: &[FoundPeer]) {
    let me = local.announcement();
    let asked = peers.iter().map(|peer| ask(peer.clone(), me.node_id));
    let asked = futures::future::join_all(asked).await;
    let mut answers = asked.into_iter().filter_map(|(_, answer)| answer.ok());
    let ours = me.cluster_id.as_ref();
    if let Some(member) =
        answers.find(|it| it.node_id != me.node_id && Some(&it.cluster_id) == ours)
    {
        let waiting = ask_to_join(&me, local.supports(), &member).await;
        tracing::info!(reason = waiting.reason(), "asked to be added again");
    }
}

async fn request_join(
    me: &Announcement,
    supports: FeatureLevel,
    address: &str,
) -> Option<pb::join_response::Result> {
    let message = pb::JoinRequest {
        member: Some(member_out(me.node_id, &me.member)),
        protocol: PROTOCOL,
        feature_level_max: supports.get(),
    };
    let mut client = client(channel(address).ok()?);
    let answer = tokio::time::timeout(JOIN_TIMEOUT, client.join(message)).await;
    answer.ok()?.ok()?.into_inner().result
}

/// The reasons that were logged within the last minute. A node looks several times a second.
#[derive(Default)]
struct Logged(Vec<(Waiting, Instant)>);

impl Logged {
    fn log(&mut self, waiting: &Waiting) {
        if !self.is_due(waiting, Instant::now()) {
            return;
        }
        match waiting {
            Waiting::Normal(reason) => tracing::info!(reason, "waiting for a cluster"),
            Waiting::Fault(reason) => tracing::warn!(reason, "waiting for a cluster"),
        }
    }

    fn is_due(&mut self, waiting: &Waiting, now: Instant) -> bool {
        self.0
            .retain(|(_, at)| now.duration_since(*at) < LOG_AGAIN_AFTER);
        if self.0.len() >= LOGGED_MAX || self.0.iter().any(|(it, _)| it == waiting) {
            return false;
        }
        self.0.push((waiting.clone(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_peers_belong_to_two_clusters_joins_neither_and_names_both() {
        let peer = |name: &str, cluster: &str| pb::IdentifyResponse {
            name: name.to_owned(),
            grpc_address: format!("{name}:4333"),
            cluster_id: cluster.to_owned(),
            ..pb::IdentifyResponse::default()
        };
        let mut peers = vec![
            peer("node1", ""),
            peer("node2", "old"),
            peer("node3", "old"),
        ];
        assert_eq!(in_a_cluster(peers[..1].iter()), Ok(None));
        assert_eq!(in_a_cluster(peers.iter()), Ok(Some(&peers[1])));
        peers.push(peer("node4", "new"));
        let reason = in_a_cluster(peers.iter()).unwrap_err();
        assert!(matches!(reason, Waiting::Fault(_)), "{reason:?}");
        let expected = "node2 at node2:4333 to old, node4 at node4:4333 to new;";
        assert!(reason.reason().contains(expected), "{reason:?}");
    }

    #[test]
    fn a_reason_is_logged_once_and_again_after_a_minute() {
        let mut logged = Logged::default();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let fault = |it: u64| Waiting::Fault(format!("reason {it}"));
        assert!(logged.is_due(&fault(1), after(0)));
        assert!(logged.is_due(&fault(2), after(1)));
        // Also when two alternate.
        assert!(!logged.is_due(&fault(1), after(2)));
        assert!(!logged.is_due(&fault(2), after(59)));
        assert!(logged.is_due(&fault(1), after(60)));
        assert!(!logged.is_due(&fault(2), after(60)));
        let due = (10..1000).filter(|it| logged.is_due(&fault(*it), after(60)));
        assert_eq!(due.count(), LOGGED_MAX - 2);
    }
}
