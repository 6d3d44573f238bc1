//! The life of a node in its cluster: its identity, how it joins a cluster, how it checks its state.
//!
//! **Identity.** A node has a name, which its operator chooses, and an id: random, chosen once per data
//! folder. Raft uses ids, operators use names. [`LocalNode`] has both, and the id of the cluster once the
//! node belongs to one. A node whose disk was wiped gets a new id, so that it can never vote twice.
//!
//! **Bootstrap.** A node without a cluster polls discovery and its peers every 300 ms ([`join`]). It takes the
//! first step that applies:
//!
//! 1. Its log contains a membership: it belongs to a cluster; done.
//! 2. It has agreed to a [`BootstrapPlan`], the exact first membership: it initializes consensus with
//!    it. Every planned member does so, again after a crash, with the same result.
//! 3. A plan is latched in discovery, and names this node: it stores the plan durably, then step 2.
//! 4. A peer belongs to a cluster: the node waits until that cluster's leader contacts it ([`Host::join`]).
//! 5. At least `expect` nodes (this one included) that never belonged to a cluster answer, and discovery lets
//!    this node propose: it latches a plan of exactly these nodes ([`Discovery::latch`]); the first plan wins.
//!
//! **The latch** prevents two clusters: nodes may see different lists of live nodes at different times, but a
//! key that is created once is the same for all. A node that ever belonged to a cluster never bootstraps
//! another.
//!
//! **Agreement.** Members compare hashes of their states at the same log indexes ([`agreement`]). One that
//! differs from more members than it agrees with stops being ready.
//!
//! Membership does not change after the bootstrap yet: a node that is not in the plan waits.

pub mod agreement;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::raft as pb;
use openraft_rt_tokio::TokioRuntime;
use parking_lot::Mutex;
use tonic::Status;

use self::agreement::RecentHashes;
use crate::discovery::{Announcement, Discovery, DiscoveryError, FoundPeer};
use lockstep_raft::consensus::network::{ClusterTag, PROTOCOL, channel, client};
use lockstep_raft::consensus::server::Host;
use lockstep_raft::consensus::{Consensus, ConsensusError, Member, NodeId};
use lockstep_raft::store::{BootstrapPlan, DiskStore, IdentityFile, PlannedMember, StoreError};

/// Interval between polls for peers while the node belongs to no cluster.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest cluster id accepted from a peer, bytes.
const CLUSTER_ID_LEN_MAX: usize = 64;

/// Why a node cannot join a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Consensus failed.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The identity could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// This node, also as its peers see it: its identity, its cluster, its addresses.
pub struct LocalNode {
    identity: Mutex<IdentityFile>,
    tag: ClusterTag,
    member: Member,
    /// The hashes that it compares with other members.
    hashes: Arc<RecentHashes>,
}

impl LocalNode {
    /// The node with the identity of a data folder.
    pub fn new(identity: IdentityFile, member: Member, hashes: Arc<RecentHashes>) -> Arc<Self> {
        let tag = ClusterTag::default();
        tag.store(identity.identity().cluster_id.clone().map(Arc::new));
        Arc::new(Self {
            identity: Mutex::new(identity),
            tag,
            member,
            hashes,
        })
    }

    /// The cluster the node belongs to; follows every change.
    pub fn tag(&self) -> ClusterTag {
        self.tag.clone()
    }

    /// The hashes of its state.
    pub fn hashes(&self) -> &RecentHashes {
        &self.hashes
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity.lock().identity().node_id
    }

    /// What the node announces about itself.
    pub fn announcement(&self) -> Announcement {
        Announcement {
            node_id: self.node_id(),
            member: self.member.clone(),
            cluster_id: self.tag.load().as_deref().cloned(),
        }
    }

    fn plan(&self) -> Option<BootstrapPlan> {
        self.identity.lock().identity().plan.clone()
    }

    /// Makes the node a member of `cluster_id`, durably; false if it belongs to another. Blocks.
    fn belong(&self, cluster_id: &str, plan: Option<BootstrapPlan>) -> Result<bool, StoreError> {
        let mut identity = self.identity.lock();
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

#[async_trait]
impl Host for LocalNode {
    fn identify(&self) -> pb::IdentifyResponse {
        let Announcement {
            node_id,
            member,
            cluster_id,
        } = self.announcement();
        pb::IdentifyResponse {
            node_id,
            name: member.name,
            grpc_address: member.grpc_address,
            http_address: member.http_address,
            cluster_id: cluster_id.unwrap_or_default(),
            leader_id: None,
            protocol: PROTOCOL,
        }
    }

    async fn join(self: Arc<Self>, cluster_id: &str) -> Result<(), Status> {
        let printable = !cluster_id.is_empty() && cluster_id.bytes().all(|b| b.is_ascii_graphic());
        if !printable || cluster_id.len() > CLUSTER_ID_LEN_MAX {
            return Err(Status::invalid_argument(
                "a cluster id is 1 to 64 printable ASCII characters",
            ));
        }
        let id = cluster_id.to_owned();
        let joined = tokio::task::spawn_blocking(move || self.belong(&id, None));
        match joined.await {
            Ok(Ok(true)) => {
                tracing::info!(
                    cluster = cluster_id,
                    "joined the cluster of a leader that contacted this node"
                );
                Ok(())
            }
            Ok(Ok(false)) => Err(Status::failed_precondition(
                "this node belongs to another cluster",
            )),
            Ok(Err(e)) => Err(Status::unavailable(e.to_string())),
            Err(e) => Err(Status::unavailable(e.to_string())),
        }
    }

    fn state_hashes(&self) -> Vec<pb::StateHash> {
        self.hashes.kept()
    }
}

/// Joins a cluster: immediately if the node already belongs to one, else by bootstrapping one with its peers, or
/// by waiting until a leader contacts it. Returns once it belongs to one.
pub async fn join(
    local: &Arc<LocalNode>,
    consensus: &Consensus<TokioRuntime, DiskStore>,
    discovery: &Arc<dyn Discovery>,
    expect: usize,
) -> Result<(), ClusterError> {
    let mut last_reason = String::new();
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
                Err(why) if why != last_reason => {
                    tracing::info!(reason = why, "waiting for a cluster");
                    last_reason = why;
                }
                Err(_) => {}
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
    expect: usize,
) -> Result<BootstrapPlan, String> {
    let me = local.announcement();
    let failed = |error: DiscoveryError| error.to_string();
    if let Some(plan) = discovery.latched().await.map_err(failed)? {
        return planned(plan, me.node_id);
    }
    let found = discovery.peers().await.map_err(failed)?;
    let answers = futures::future::join_all(found.iter().map(identify)).await;
    let candidates = pristine(me.node_id, answers.into_iter().flatten())?;
    if candidates.len() < expect {
        let names: Vec<&str> = candidates.iter().map(|m| m.member.name.as_str()).collect();
        return Err(format!(
            "{} of {expect} nodes have answered: {}",
            names.len(),
            names.join(", ")
        ));
    }
    if !discovery.may_propose(&me.member.name) {
        return Err("all nodes have answered; the first by name bootstraps the cluster".to_owned());
    }
    let plan = BootstrapPlan {
        cluster_id: format!("{:016x}", rand::random::<u64>()),
        members: candidates.into_iter().take(expect).collect(),
    };
    planned(discovery.latch(&plan).await.map_err(failed)?, me.node_id)
}

/// The plan, if it names this node.
fn planned(plan: BootstrapPlan, me: NodeId) -> Result<BootstrapPlan, String> {
    if plan.members.iter().any(|m| m.node_id == me) {
        return Ok(plan);
    }
    Err(format!(
        "cluster {} was bootstrapped without this node (id {me}); nodes cannot be added yet",
        plan.cluster_id
    ))
}

/// The nodes that may form a cluster, ordered by name, this one included; or why they may not.
fn pristine(
    me: NodeId,
    answers: impl Iterator<Item = pb::IdentifyResponse>,
) -> Result<Vec<PlannedMember>, String> {
    let mut nodes = BTreeMap::new();
    for answer in answers {
        if !answer.cluster_id.is_empty() {
            return Err(format!(
                "{} belongs to cluster {}; waiting for its leader instead of bootstrapping another",
                answer.name, answer.cluster_id
            ));
        }
        if answer.protocol != PROTOCOL {
            return Err(format!(
                "{} uses version {} of the peer protocol, this node version {PROTOCOL}: run the same release on all nodes to bootstrap the cluster",
                answer.name, answer.protocol
            ));
        }
        nodes.insert(answer.node_id, answer);
    }
    if !nodes.contains_key(&me) {
        return Err("this node is not listed in discovery yet".to_owned());
    }
    let mut members: Vec<PlannedMember> = nodes
        .into_values()
        .map(|n| PlannedMember {
            node_id: n.node_id,
            member: Member {
                name: n.name,
                grpc_address: n.grpc_address,
                http_address: n.http_address,
            },
        })
        .collect();
    members.sort_by(|a, b| a.member.name.cmp(&b.member.name));
    let twice = |pair: &[PlannedMember]| pair[0].member.name == pair[1].member.name;
    if members.windows(2).any(twice) {
        return Err("two nodes have the same name; give each node a unique name".to_owned());
    }
    Ok(members)
}

async fn identify(peer: &FoundPeer) -> Option<pb::IdentifyResponse> {
    let mut client = client(channel(&peer.grpc_address).ok()?);
    let answer = client.identify(pb::IdentifyRequest {});
    let answer = tokio::time::timeout(IDENTIFY_TIMEOUT, answer).await;
    Some(answer.ok()?.ok()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node_id: u64, name: &str, cluster_id: &str) -> pb::IdentifyResponse {
        pb::IdentifyResponse {
            node_id,
            name: name.to_owned(),
            cluster_id: cluster_id.to_owned(),
            protocol: PROTOCOL,
            ..Default::default()
        }
    }

    #[test]
    fn no_cluster_is_bootstrapped_beside_a_running_one() {
        let answers = [answer(1, "node1", ""), answer(2, "node2", "c0ffee")];
        assert!(
            pristine(1, answers.into_iter())
                .unwrap_err()
                .contains("node2 belongs to cluster c0ffee")
        );
    }

    #[test]
    fn members_are_planned_in_order_of_name_and_once_each() {
        let answers = [
            answer(3, "node3", ""),
            answer(1, "node1", ""),
            answer(3, "node3", ""),
        ];
        let names: Vec<String> = pristine(1, answers.into_iter())
            .unwrap()
            .into_iter()
            .map(|m| m.member.name)
            .collect();
        assert_eq!(names, ["node1", "node3"]);
    }

    #[test]
    fn two_nodes_of_the_same_name_do_not_bootstrap() {
        let answers = [answer(1, "node1", ""), answer(2, "node1", "")];
        assert!(pristine(1, answers.into_iter()).is_err());
    }

    #[test]
    fn a_node_outside_the_plan_waits() {
        let plan = BootstrapPlan {
            cluster_id: "c".to_owned(),
            members: Vec::new(),
        };
        assert!(planned(plan, 1).is_err());
    }
}
