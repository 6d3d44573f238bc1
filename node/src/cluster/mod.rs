//! The life of a node in its cluster: who it is, how it comes to belong, how it stays findable.
//!
//! A node that has ever belonged to a cluster never founds another. A cluster is founded only by
//! nodes that have all said they belong to none, under a plan that is put down once
//! ([`Discovery::latch`]) and then fixed: every planned member may carry it out, again and again,
//! with the same result.

pub mod agreement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::raft as pb;
use lockstep_proto::raft::peer_client::PeerClient;
use openraft_rt_tokio::TokioRuntime;
use tonic::Status;

use self::agreement::Checkpoints;
use crate::discovery::{Announcement, Discovery, DiscoveryError, FoundPeer};
use lockstep_raft::consensus::network::{ClusterTag, channel};
use lockstep_raft::consensus::server::Host;
use lockstep_raft::consensus::{Consensus, ConsensusError, Member, NodeId};
use lockstep_raft::store::{BootstrapPlan, DiskStore, IdentityFile, PlannedMember, StoreError};

/// Between two looks for peers while the node belongs to no cluster.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
/// For "who is there".
const IDENTIFY_PATIENCE: Duration = Duration::from_secs(1);
/// The longest cluster id accepted from a peer, bytes.
const CLUSTER_ID_LEN_MAX: usize = 64;

/// Why a node cannot come to belong to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Consensus failed.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The identity could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// This node's place in its cluster.
pub struct Place {
    identity: Mutex<IdentityFile>,
    tag: ClusterTag,
    name: String,
    grpc_address: String,
    http_address: String,
}

impl Place {
    /// The place that a data folder's identity gives.
    pub fn new(
        identity: IdentityFile,
        name: String,
        grpc_address: String,
        http_address: String,
    ) -> Arc<Self> {
        let tag = ClusterTag::default();
        tag.store(identity.identity().cluster_id.clone().map(Arc::new));
        Arc::new(Self {
            identity: Mutex::new(identity),
            tag,
            name,
            grpc_address,
            http_address,
        })
    }

    /// The cluster it belongs to; follows every change.
    pub fn tag(&self) -> ClusterTag {
        self.tag.clone()
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity().identity().node_id
    }

    /// What the node tells the world about itself.
    pub fn announcement(&self) -> Announcement {
        Announcement {
            name: self.name.clone(),
            node_id: self.node_id(),
            cluster_id: self.tag.load().as_deref().cloned(),
            grpc_address: self.grpc_address.clone(),
            http_address: self.http_address.clone(),
        }
    }

    fn identity(&self) -> MutexGuard<'_, IdentityFile> {
        // An update replaces the whole value or nothing.
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> Option<BootstrapPlan> {
        self.identity().identity().plan.clone()
    }

    /// Belongs to `cluster_id` from now on, durably, unless it belongs to another. Blocks.
    fn belong(&self, cluster_id: &str, plan: Option<BootstrapPlan>) -> Result<bool, StoreError> {
        let mut identity = self.identity();
        if identity
            .identity()
            .cluster_id
            .as_deref()
            .is_some_and(|ours| ours != cluster_id)
        {
            return Ok(false);
        }
        identity.update(|identity| {
            identity.cluster_id = Some(cluster_id.to_owned());
            if plan.is_some() {
                identity.plan = plan;
            }
        })?;
        self.tag.store(Some(Arc::new(cluster_id.to_owned())));
        Ok(true)
    }
}

/// The node as the peer server sees it.
pub struct PeerHost {
    /// Its place in its cluster.
    pub place: Arc<Place>,
    /// What it compares with the others.
    pub checkpoints: Arc<Checkpoints>,
}

#[async_trait]
impl Host for PeerHost {
    fn identify(&self) -> pb::IdentifyResponse {
        let me = self.place.announcement();
        pb::IdentifyResponse {
            node_id: me.node_id,
            name: me.name,
            grpc_address: me.grpc_address,
            http_address: me.http_address,
            cluster_id: me.cluster_id.unwrap_or_default(),
            leader_id: None,
        }
    }

    async fn join(&self, cluster_id: &str) -> Result<(), Status> {
        let printable = !cluster_id.is_empty() && cluster_id.bytes().all(|b| b.is_ascii_graphic());
        if !printable || cluster_id.len() > CLUSTER_ID_LEN_MAX {
            return Err(Status::invalid_argument("that is not a cluster id"));
        }
        let (place, cluster_id) = (self.place.clone(), cluster_id.to_owned());
        let joined = tokio::task::spawn_blocking(move || {
            let joined = place.belong(&cluster_id, None);
            if let Ok(true) = joined {
                tracing::info!(
                    cluster = cluster_id,
                    "a leader called: the node belongs to its cluster now"
                );
            }
            joined
        });
        match joined.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Status::failed_precondition(
                "this node belongs to another cluster",
            )),
            Ok(Err(e)) => Err(Status::unavailable(e.to_string())),
            Err(e) => Err(Status::unavailable(e.to_string())),
        }
    }

    fn checkpoints(&self) -> Vec<pb::Checkpoint> {
        self.checkpoints
            .kept()
            .into_iter()
            .map(Into::into)
            .collect()
    }
}

/// Brings the node into a cluster: at once when it belongs to one, else by founding one with its
/// peers, or by waiting until one calls. Returns once it belongs.
pub async fn settle(
    place: &Arc<Place>,
    consensus: &Consensus<TokioRuntime, DiskStore>,
    discovery: &Arc<dyn Discovery>,
    expect: usize,
) -> Result<(), ClusterError> {
    let mut log = Once::default();
    loop {
        if consensus.is_initialized().await? {
            return Ok(());
        }
        if let Some(plan) = place.plan() {
            tracing::info!(
                cluster = plan.cluster_id,
                members = plan.members.len(),
                "founding the cluster as planned"
            );
            return Ok(consensus.initialize(members(&plan)).await?);
        }
        if place.tag().load().is_none() {
            match look(place, discovery, expect).await {
                Ok(Found::Plan(plan)) => {
                    let (place, id) = (place.clone(), plan.cluster_id.clone());
                    let kept =
                        tokio::task::spawn_blocking(move || place.belong(&id, Some(plan))).await;
                    // The task is never cancelled, and a panic ends the process.
                    if let Ok(kept) = kept {
                        kept?;
                    }
                    continue;
                }
                Ok(Found::Wait(why)) => log.info(why),
                Err(e) => log.info(e.to_string()),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Logs a line when it differs from the last one.
#[derive(Default)]
struct Once(String);

impl Once {
    fn info(&mut self, line: String) {
        if line != self.0 {
            tracing::info!(reason = line, "waiting for a cluster");
            self.0 = line;
        }
    }
}

enum Found {
    /// A plan that holds and names this node.
    Plan(BootstrapPlan),
    /// Nothing yet, for this reason.
    Wait(String),
}

/// One look around: is there a plan, is there a cluster, are all there to found one?
async fn look(
    place: &Place,
    discovery: &Arc<dyn Discovery>,
    expect: usize,
) -> Result<Found, DiscoveryError> {
    let me = place.announcement();
    if let Some(plan) = discovery.latched().await? {
        return Ok(planned(plan, me.node_id));
    }
    let found = discovery.peers().await?;
    let answers = futures::future::join_all(found.iter().map(identify)).await;
    let candidates = match pristine(&me, answers.into_iter().flatten()) {
        Ok(candidates) => candidates,
        Err(why) => return Ok(Found::Wait(why)),
    };
    if candidates.len() < expect {
        let names: Vec<&str> = candidates.iter().map(|m| m.name.as_str()).collect();
        let why = format!(
            "{} of {expect} nodes are there: {}",
            names.len(),
            names.join(", ")
        );
        return Ok(Found::Wait(why));
    }
    if !discovery.may_propose(&me, &found) {
        return Ok(Found::Wait(
            "all nodes are there; the first by name founds the cluster".to_owned(),
        ));
    }
    let cluster_id = format!("{:016x}", rand::random::<u64>());
    let plan = BootstrapPlan {
        cluster_id,
        members: candidates.into_iter().take(expect).collect(),
    };
    Ok(planned(discovery.latch(&plan).await?, me.node_id))
}

fn planned(plan: BootstrapPlan, me: NodeId) -> Found {
    if plan.members.iter().any(|m| m.node_id == me) {
        return Found::Plan(plan);
    }
    Found::Wait(format!(
        "cluster {} was founded without this node (id {me}); it does not found another and waits to be added",
        plan.cluster_id
    ))
}

/// The nodes that could found a cluster, in order of name, this one included; or why none may be.
fn pristine(
    me: &Announcement,
    answers: impl Iterator<Item = pb::IdentifyResponse>,
) -> Result<Vec<PlannedMember>, String> {
    let mut nodes = BTreeMap::new();
    for answer in answers {
        if !answer.cluster_id.is_empty() {
            return Err(format!(
                "{} belongs to cluster {}: a new one is not founded beside it; waiting to be called",
                answer.name, answer.cluster_id
            ));
        }
        nodes.insert(answer.node_id, answer);
    }
    if !nodes.contains_key(&me.node_id) {
        return Err("discovery does not see this node itself yet".to_owned());
    }
    let mut members: Vec<PlannedMember> = nodes
        .into_values()
        .map(|n| PlannedMember {
            node_id: n.node_id,
            name: n.name,
            grpc_address: n.grpc_address,
            http_address: n.http_address,
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let names: BTreeSet<&str> = members.iter().map(|m| m.name.as_str()).collect();
    if names.len() < members.len() {
        return Err("two nodes have the same name: give each its own".to_owned());
    }
    Ok(members)
}

async fn identify(peer: &FoundPeer) -> Option<pb::IdentifyResponse> {
    let mut client = PeerClient::new(channel(&peer.grpc_address).ok()?);
    let answer =
        tokio::time::timeout(IDENTIFY_PATIENCE, client.identify(pb::IdentifyRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}

fn members(plan: &BootstrapPlan) -> BTreeMap<NodeId, Member> {
    let member = |m: &PlannedMember| Member {
        name: m.name.clone(),
        grpc_address: m.grpc_address.clone(),
        http_address: m.http_address.clone(),
    };
    plan.members
        .iter()
        .map(|m| (m.node_id, member(m)))
        .collect()
}

/// Keeps the node findable for ever, and tells `passing` how many nodes discovery sees.
pub async fn stay_findable(
    place: Arc<Place>,
    discovery: Arc<dyn Discovery>,
    passing: impl Fn(usize) + Send,
) {
    let mut reachable = true;
    loop {
        let seen = async {
            discovery.announce(&place.announcement()).await?;
            discovery.peers().await
        };
        match seen.await {
            Ok(peers) => {
                if !reachable {
                    tracing::info!(discovery = discovery.kind(), "discovery answers again");
                }
                reachable = true;
                passing(peers.len());
            }
            Err(error) => {
                if reachable {
                    tracing::warn!(%error, "discovery does not answer; a running cluster goes on without it");
                }
                reachable = false;
            }
        }
        tokio::time::sleep(ANNOUNCE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node_id: u64, name: &str, cluster_id: &str) -> pb::IdentifyResponse {
        pb::IdentifyResponse {
            node_id,
            name: name.to_owned(),
            cluster_id: cluster_id.to_owned(),
            ..Default::default()
        }
    }

    fn me() -> Announcement {
        Announcement {
            name: "node1".to_owned(),
            node_id: 1,
            cluster_id: None,
            grpc_address: String::new(),
            http_address: String::new(),
        }
    }

    #[test]
    fn nothing_is_founded_beside_a_living_cluster() {
        let answers = [answer(1, "node1", ""), answer(2, "node2", "c0ffee")];
        assert!(
            pristine(&me(), answers.into_iter())
                .unwrap_err()
                .contains("node2 belongs to cluster c0ffee")
        );
    }

    #[test]
    fn members_are_planned_in_order_of_name_and_each_once() {
        let answers = [
            answer(3, "node3", ""),
            answer(1, "node1", ""),
            answer(3, "node3", ""),
        ];
        let names: Vec<String> = pristine(&me(), answers.into_iter())
            .unwrap()
            .into_iter()
            .map(|m| m.name)
            .collect();
        assert_eq!(names, ["node1", "node3"]);
    }

    #[test]
    fn two_nodes_of_one_name_found_nothing() {
        let answers = [answer(1, "node1", ""), answer(2, "node1", "")];
        assert!(pristine(&me(), answers.into_iter()).is_err());
    }

    #[test]
    fn a_node_outside_the_plan_waits() {
        let plan = BootstrapPlan {
            cluster_id: "c".to_owned(),
            members: Vec::new(),
        };
        assert!(matches!(planned(plan, 1), Found::Wait(_)));
    }
}
