//! The life of a node in its cluster: its identity, how it joins a cluster, how it checks its state.
//!
//! **Identity.** A node has a name, which its operator chooses, and an id: random, drawn once per data
//! folder. Raft uses ids, operators use names. [`LocalNode`] has both, and the id of the cluster once the
//! node belongs to one. A node whose disk was wiped gets a new id, so that it can never vote twice.
//!
//! **Bootstrap.** A node without a cluster polls discovery and its peers every 300 ms ([`join()`]). It takes the
//! first step that applies:
//!
//! 1. Its log contains a membership: it belongs to a cluster; done.
//! 2. It has agreed to a [`BootstrapPlan`], the exact first membership: it initializes consensus with
//!    it. Every planned member does so, again after a crash, with the same result.
//! 3. A plan is latched in discovery, and names this node: it stores the plan durably, then step 2.
//! 4. A peer belongs to a cluster, and no peer to another one: it asks that cluster's leader to be added (`Join`), and
//!    waits until the leader contacts it ([`Host::join`]). If that leader fails before the addition is committed, the
//!    node asks again once the next leader says that it is no member.
//! 5. `expect` peers that never belonged to a cluster answer, all with the same list of peers, and discovery
//!    lets this node propose: it latches a plan of exactly these nodes
//!    ([`latch`](crate::discovery::Discovery::latch)); the first plan wins.
//!
//! What keeps it from joining is logged, and is the reason in `/readyz`.
//!
//! **The latch** prevents two clusters: nodes may see different lists of live nodes at different times, but a
//! key that is created once is the same for all. A node that ever belonged to a cluster never bootstraps
//! another.
//!
//! **Agreement.** Members compare hashes of their states at the same log indexes ([`agreement`]). One whose
//! state differs from that of a majority answers no requests.
//!
//! **Membership.** A node that joins begins as a learner and is promoted once it has caught up; if a member of
//! its name does not answer any more, it takes that member's place. An operator adds and removes members on any
//! node ([`members`]). A node that was removed stops.
//!
//! **Feature level.** Nodes of several releases form one cluster; [`level`] raises the level of what they use
//! once every member supports it.
//!
//! **Addresses.** A member that returns at another address is found through discovery ([`locate`]).

pub(crate) mod agreement;
mod bootstrap;
pub mod forget;
mod identify;
mod join;
pub(crate) mod level;
pub(crate) mod locate;
pub(crate) mod members;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_machine::FeatureLevel;
use lockstep_proto::raft as pb;
use parking_lot::Mutex;
use tonic::Status;

use self::agreement::RecentHashes;
use crate::config::StaticPeer;
use crate::discovery::Announcement;
use crate::telemetry::{Metrics, build};
use lockstep_raft::consensus::network::{ClusterTag, PROTOCOL};
use lockstep_raft::consensus::server::Host;
use lockstep_raft::consensus::{ConsensusError, Member, NodeId};
use lockstep_raft::failpoints::{self, Failpoint};
use lockstep_raft::store::{BootstrapPlan, IdentityFile, StoreError};

pub use identify::{Silence, identify};
pub(crate) use join::{ask_again, join};

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
pub(crate) struct LocalNode {
    identity: Mutex<IdentityFile>,
    tag: ClusterTag,
    member: Member,
    supports: FeatureLevel,
    /// The nodes that its configuration names: all, only the one that may bootstrap the cluster, or none.
    listed: Vec<StaticPeer>,
    /// The hashes that it compares with other members.
    hashes: Arc<RecentHashes>,
    /// What it measures of itself.
    metrics: Arc<Metrics>,
}

impl LocalNode {
    /// The node with the identity of a data folder.
    pub fn new(
        identity: IdentityFile,
        member: Member,
        listed: Vec<StaticPeer>,
        hashes: Arc<RecentHashes>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let tag = ClusterTag::default();
        tag.store(identity.identity().cluster_id.clone().map(Arc::new));
        Arc::new(Self {
            identity: Mutex::new(identity),
            tag,
            member,
            supports: level::supported(),
            listed,
            hashes,
            metrics,
        })
    }

    pub fn supports(&self) -> FeatureLevel {
        self.supports
    }

    /// The cluster the node belongs to; follows every change.
    pub fn tag(&self) -> ClusterTag {
        self.tag.clone()
    }

    pub fn hashes(&self) -> &RecentHashes {
        &self.hashes
    }

    pub fn node_id(&self) -> NodeId {
        self.identity.lock().identity().node_id
    }

    pub fn announcement(&self) -> Announcement {
        Announcement {
            node_id: self.node_id(),
            member: self.member.clone(),
            cluster_id: self.tag.load().as_deref().cloned(),
        }
    }

    /// The log index at which most members had another state, if that was ever found.
    pub fn differs_at(&self) -> Option<u64> {
        self.identity.lock().identity().differs_at
    }

    /// Keeps that most members had another state, or that they have the same. Blocks.
    pub fn keep_differs_at(&self, log_index: Option<u64>) -> Result<(), StoreError> {
        let mut identity = self.identity.lock();
        if identity.identity().differs_at == log_index {
            return Ok(());
        }
        identity.update(|identity| identity.differs_at = log_index)
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
        failpoints::reach(Failpoint::JoinNoted);
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
            protocol: PROTOCOL,
            peers: self.listed.iter().map(listed_peer).collect(),
            version: build::version().to_owned(),
            feature_level_max: self.supports.get(),
            disk_free_bytes: self.metrics.disk_free_bytes.get() as u64,
            disk_used_bytes: self.metrics.log_disk_bytes.get() as u64,
            memory_bytes: resident_bytes(),
            // Consensus fills in the rest.
            ..pb::IdentifyResponse::default()
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

/// Memory of this process that is in RAM; 0 where the system does not say.
fn resident_bytes() -> u64 {
    #[cfg(target_os = "linux")]
    if let Ok(memory) = procfs::process::Process::myself().and_then(|it| it.statm()) {
        return memory.resident * procfs::page_size();
    }
    0
}

fn listed_peer(peer: &StaticPeer) -> pb::ListedPeer {
    pb::ListedPeer {
        name: peer.name.clone(),
        grpc_address: peer.grpc.clone(),
    }
}
