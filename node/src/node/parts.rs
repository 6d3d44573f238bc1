//! The components of a node, in the order of construction.

use std::sync::Arc;
use std::time::Instant;

use lockstep_machine::SessionId;
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::mpsc;

use super::NodeError;
use crate::api::Watchers;
use crate::clock::wall_clock;
use crate::cluster::LocalNode;
use crate::cluster::agreement::RecentHashes;
use crate::cluster::members::Members;
use crate::config::{Config, DiscoveryKind, StaticPeer};
use crate::discovery::{self, Discovery};
use crate::observe::Observation;
use crate::service::peers::GrpcPeers;
use crate::service::{Router, Service};
use crate::sink::Sinks;
use crate::telemetry::{Metrics, Report};
use lockstep_raft::consensus::network::GrpcNetwork;
use lockstep_raft::consensus::{
    Addresses, BatchLimits, CompactionSettings, Consensus, Environment, Member, Settings,
};
use lockstep_raft::store::{DiskStore, IdentityFile, StoreError, StoreOptions};

/// Receives the one failure that a store reports.
pub(super) type StoreFailure = mpsc::UnboundedReceiver<String>;

/// The parts of a node. A clone shares them.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) started: Instant,
    pub(super) metrics: Arc<Metrics>,
    pub(super) report: Arc<Report>,
    pub(super) observation: Arc<Observation>,
    pub(super) local: Arc<LocalNode>,
    pub(super) store: DiskStore,
    pub(super) discovery: Arc<dyn Discovery>,
    pub(super) addresses: Addresses,
    pub(super) members: Members,
    pub(super) consensus: Consensus<TokioRuntime, DiskStore>,
    pub(super) router: Router<TokioRuntime, DiskStore>,
    pub(super) service: Arc<Service>,
    pub(super) sinks: Sinks,
    pub(super) watchers: Watchers,
}

impl Parts {
    /// Opens the data folder and builds everything above it. Nothing runs yet.
    pub(super) async fn open(config: Config) -> Result<(Self, StoreFailure), NodeError> {
        let metrics = Metrics::new().map_err(|error| NodeError::Start(error.to_string()))?;
        let (store_failed, store_failure) = mpsc::unbounded_channel();
        let hashes = Arc::new(RecentHashes::default());
        let observation = Observation::new(metrics.clone(), hashes.clone(), store_failed);
        let (identity, store) = open_disk(&config, observation.clone()).await?;
        let member = Member {
            name: config.name.clone(),
            grpc_address: config.grpc.advertise.clone(),
            http_address: config.http.advertise.clone(),
            learner: config.cluster.learner,
        };
        let local = LocalNode::new(
            identity,
            member.clone(),
            listed(&config),
            hashes,
            metrics.clone(),
        );
        let discovery = discovery::open(&config)?;
        let settings = settings(&config, local.node_id());
        let environment = Environment {
            clock: Arc::new(wall_clock),
            observer: observation.clone(),
            addresses: Addresses::default(),
        };
        let addresses = environment.addresses.clone();
        let consensus = Consensus::<TokioRuntime, DiskStore>::open(
            local.node_id(),
            settings.raft_config()?,
            &settings,
            store.clone(),
            GrpcNetwork::new(local.tag(), addresses.clone(), observation.clone()),
            environment,
        )
        .await?;
        let peers = GrpcPeers::new(local.tag());
        let router = Router::new(
            consensus.clone(),
            peers.clone(),
            settings.batch,
            Arc::new(|| SessionId(rand::random())),
            observation.clone(),
        );
        let service = Service::new(router.clone(), local.tag(), local.node_id(), member);
        let service = Arc::new(service);
        let parts = Self {
            sinks: Sinks::new(&config.sinks, service.clone(), peers, &metrics),
            watchers: Watchers::new(config.watchers_max, metrics.clone()),
            config: Arc::new(config),
            started: Instant::now(),
            metrics,
            report: Arc::default(),
            observation,
            members: Members::new(local.clone(), consensus.clone()),
            local,
            store,
            discovery,
            addresses,
            consensus,
            router,
            service,
        };
        Ok((parts, store_failure))
    }
}

/// The nodes of the configuration; none where discovery finds them.
fn listed(config: &Config) -> Vec<StaticPeer> {
    match config.discovery.kind {
        DiscoveryKind::Static => config.discovery.peers.clone(),
        DiscoveryKind::Consul => Vec::new(),
    }
}

/// Fails once the store has failed.
pub(super) async fn fail_with_the_store(mut failure: StoreFailure) -> Result<(), NodeError> {
    match failure.recv().await {
        Some(reason) => Err(NodeError::StoreFailed(reason)),
        None => Ok(()),
    }
}

async fn open_disk(
    config: &Config,
    observation: Arc<Observation>,
) -> Result<(IdentityFile, DiskStore), NodeError> {
    let (dir, name) = (config.data_dir.clone(), config.name.clone());
    let options = StoreOptions {
        cache_bytes: config.storage.cache_bytes,
        reserve_bytes: config.storage.reserve_bytes,
        free_bytes_min: config.storage.free_bytes_min,
    };
    let opened = tokio::task::spawn_blocking(move || {
        let mut identity = IdentityFile::open(&dir)?;
        identity.claim(&name)?;
        let store = DiskStore::open(&dir, options, observation)?;
        Ok::<_, StoreError>((identity, store))
    });
    let opened = opened
        .await
        .map_err(|error| NodeError::Start(error.to_string()))?;
    Ok(opened?)
}

fn settings(config: &Config, node_id: u64) -> Settings {
    Settings {
        heartbeat: config.raft.heartbeat,
        election_timeout_min: config.raft.election_timeout_min,
        election_timeout_max: config.raft.election_timeout_max,
        compaction: CompactionSettings {
            snapshot_entries: staggered(config.raft.snapshot_entries, node_id),
            log_keep_entries: config.raft.log_keep_entries,
            log_bytes_max: config.raft.log_bytes_max,
            free_bytes_warn: config.storage.free_bytes_warn,
            free_bytes_min: config.storage.free_bytes_min,
        },
        log_cache_bytes: config.storage.log_cache_bytes,
        batch: BatchLimits {
            requests_max: config.raft.batch_requests_max,
            bytes_max: config.raft.batch_bytes_max,
            in_flight_max: config.raft.proposals_in_flight_max,
            queue_max: config.raft.queue_max,
        },
    }
}

/// All nodes receive the same log at about the same time. With the same interval, all would build their
/// snapshots at the same time, and slow down every quorum.
fn staggered(snapshot_entries: u64, node_id: u64) -> u64 {
    snapshot_entries + node_id % (snapshot_entries / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_build_snapshots_after_different_numbers_of_entries_close_to_the_configured_one() {
        let waits: Vec<u64> = [3, 40, 5000].map(|id| staggered(400, id)).into();
        assert_eq!(waits, [403, 440, 451]);
        for id in 0..1000 {
            assert!((400..=500).contains(&staggered(400, id)));
            assert_eq!(staggered(1, id), 1);
        }
    }
}
