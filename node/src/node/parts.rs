//! The components of a node, in the order of construction.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lockstep_machine::SessionId;
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::mpsc;

use super::NodeError;
use crate::api::{Edge, Watchers, admission};
use crate::check_disk::{self, FLUSH_MAX, FileSystem};
use crate::clock::wall_clock;
use crate::cluster::LocalNode;
use crate::cluster::agreement::RecentHashes;
use crate::cluster::members::Members;
use crate::config::{Config, DiscoveryKind, StaticPeer};
use crate::discovery::{self, Discovery};
use crate::lifecycle::Lifecycle;
use crate::observe::Observation;
use crate::service::peers::GrpcPeers;
use crate::service::{Router, Service};
use crate::sink::Sinks;
use crate::telemetry::{Metrics, Report};
use lockstep_raft::consensus::network::GrpcNetwork;
use lockstep_raft::consensus::{
    Addresses, BatchLimits, Clocks, CompactionSettings, Consensus, Environment, Fitness, Member,
    Settings,
};
use lockstep_raft::store::{DiskStore, IdentityFile, StoreError, StoreOptions};

/// Receives the one failure that a store reports.
pub(super) type StoreFailure = mpsc::UnboundedReceiver<String>;

/// The parts of a node. A clone shares them.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) started: Instant,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) report: Arc<Report>,
    pub(super) observation: Arc<Observation>,
    pub(super) local: Arc<LocalNode>,
    pub(super) discovery: Arc<dyn Discovery>,
    pub(super) addresses: Addresses,
    pub(super) clocks: Clocks,
    pub(super) members: Members,
    pub(super) consensus: Consensus<TokioRuntime, DiskStore>,
    pub(super) router: Router<TokioRuntime, DiskStore>,
    pub(super) service: Arc<Service>,
    pub(super) sinks: Sinks,
    pub(super) watchers: Watchers,
}

impl Parts {
    /// Opens the data folder and builds everything above it. Nothing runs yet.
    pub(super) async fn open(
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
    ) -> Result<(Self, StoreFailure), NodeError> {
        let started = Instant::now();
        let (store_failed, store_failure) = mpsc::unbounded_channel();
        let hashes = Arc::new(RecentHashes::default());
        let observation = Observation::new(
            metrics.clone(),
            hashes.clone(),
            lifecycle.clone(),
            store_failed,
        );
        let (identity, store) = open_disk(&config, metrics.clone(), observation.clone()).await?;
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
        let clocks = Clocks::new(Arc::new(wall_clock), config.raft.clock_skew_max);
        let stamps = clocks.clone();
        let environment = Environment {
            clock: Arc::new(move || stamps.stamp()),
            observer: observation.clone(),
            addresses: Addresses::default(),
            fitness: Fitness::new(clocks.clone()),
        };
        let addresses = environment.addresses.clone();
        let consensus = Consensus::<TokioRuntime, DiskStore>::open(
            local.node_id(),
            settings.raft_config()?,
            &settings,
            store,
            GrpcNetwork {
                cluster: local.tag(),
                addresses: addresses.clone(),
                clocks: clocks.clone(),
                fitness: environment.fitness.clone(),
                observer: observation.clone(),
            },
            environment,
        )
        .await
        .map_err(|error| error.found_in(&config.data_dir))?;
        let peers = GrpcPeers::new(local.tag());
        let router = Router::new(
            consensus.clone(),
            peers.clone(),
            settings.batch,
            Arc::new(|| SessionId(rand::random())),
            observation.clone(),
        );
        let service = Service::new(
            router.clone(),
            local.tag(),
            local.node_id(),
            member,
            lifecycle.clone(),
        );
        let service = Arc::new(service);
        let parts = Self {
            sinks: Sinks::new(&config.sinks, service.clone(), peers.clone(), &metrics),
            watchers: Watchers::new(config.watchers_max, metrics.clone()),
            config,
            started,
            lifecycle,
            metrics,
            report: Arc::default(),
            observation,
            members: Members::new(local.clone(), consensus.clone(), peers),
            local,
            discovery,
            addresses,
            clocks,
            consensus,
            router,
            service,
        };
        Ok((parts, store_failure))
    }

    pub(super) fn edge(&self) -> Arc<Edge> {
        Arc::new(Edge {
            service: self.service.clone(),
            members: Arc::new(self.members.clone()),
            sinks: self.sinks.clone(),
            watchers: self.watchers.clone(),
            metrics: self.metrics.clone(),
            report: self.report.clone(),
            started: self.started,
            admission: admission(&self.config.http),
            limits: self.config.http.clone(),
        })
    }
}

/// The nodes that the configuration names.
fn listed(config: &Config) -> Vec<StaticPeer> {
    let discovery = &config.discovery;
    match discovery.kind {
        DiscoveryKind::Static => discovery.peers.clone(),
        DiscoveryKind::Consul => Vec::new(),
        DiscoveryKind::Dns => {
            let named = discovery.bootstrap_node.clone().zip(discovery.dns.clone());
            named
                .map(|(name, grpc)| StaticPeer { name, grpc })
                .into_iter()
                .collect()
        }
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
    metrics: Arc<Metrics>,
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
        // Before the store writes.
        probe_disk(&dir, &metrics);
        let store = DiskStore::open(&mut identity, options, observation)?;
        Ok::<_, StoreError>((identity, store))
    });
    let opened = opened
        .await
        .map_err(|error| NodeError::Start(error.to_string()))?;
    Ok(opened?)
}

/// Measures a few flushes. What it finds is a warning, not an error: a slow disk is better than a node that is down.
fn probe_disk(dir: &Path, metrics: &Metrics) {
    let flushes = match check_disk::probe(dir) {
        Ok(flushes) => flushes,
        Err(error) => return tracing::warn!(%error, "cannot measure the disk"),
    };
    let median = flushes.percentile(50);
    metrics.flush_probe_seconds.set(median.as_secs_f64());
    let file_system = FileSystem::of(dir);
    let kind = file_system.as_ref().map(|it| it.kind.as_str());
    let median_us = median.as_micros() as u64;
    let flushes = flushes.count();
    if median > FLUSH_MAX {
        tracing::warn!(
            median_us,
            flushes,
            file_system = kind,
            "flushes to the disk are slow, which delays every write; run lockstepd check-disk"
        );
    } else {
        tracing::info!(median_us, flushes, file_system = kind, "disk measured");
    }
    if let Some(fault) = file_system.and_then(|it| it.fault()) {
        tracing::warn!(fault, "the file system does not suit a data folder");
    }
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
