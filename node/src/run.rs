//! A node from start to stop: puts the rooms together.

mod stop;
mod vitals;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::SessionId;
use openraft_rt_tokio::TokioRuntime;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::api::Watchers;
use crate::clock::wall_clock;
use crate::cluster::agreement::{Checkpoints, Comparison};
use crate::cluster::{self, ClusterError, PeerHost, Place};
use crate::config::Config;
use crate::discovery::{self, Discovery, DiscoveryError};
use crate::observe::Observation;
use crate::service::peers::GrpcPeers;
use crate::service::{MemberStatus, Phase, Role, Router, Service, keep_house};
use crate::sink::Sinks;
use crate::telemetry::{Metrics, Report};
use crate::{api, telemetry};
use lockstep_raft::consensus::network::GrpcNetwork;
use lockstep_raft::consensus::server::PeerServer;
use lockstep_raft::consensus::{BatchLimits, Consensus, ConsensusError, Settings};
use lockstep_raft::store::{DiskStore, IdentityFile, StoreError, StoreOptions};

use stop::{close, leave, stopped, told_to_stop};
use vitals::{compared, watch_disk_size, watch_free_space, watch_readiness, watch_usage};

/// For one wait for recovery; it is waited for again.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(5);

/// Why a node ended other than because it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port cannot be listened on.
    #[error("cannot listen for {what} on {address}: {reason}")]
    Listen {
        /// "HTTP" or "gRPC".
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        reason: io::Error,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed while the node ran.
    #[error(
        "the store failed; the node stops so that nothing is acknowledged that is not kept: {0}"
    )]
    StoreFailed(String),
    /// Consensus could not start, or ended.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The node could not come to belong to a cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Discovery is not usable.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// An interface ended.
    #[error("the {what} interface ended: {reason}")]
    Interface {
        /// "HTTP" or "gRPC".
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Something that cannot fail did.
    #[error("start-up failed: {0}")]
    Start(String),
}

/// Runs a node until it is told to stop (SIGTERM, SIGINT) or cannot go on.
pub async fn run(config: Config) -> Result<(), RunError> {
    // Ports first: a second node started by mistake must not touch the data folder.
    let http = listen("HTTP", config.http.listen).await?;
    let grpc = listen("gRPC", config.grpc.listen).await?;
    let metrics = Metrics::new().map_err(|e| RunError::Start(e.to_string()))?;
    let report = Arc::new(Report::default());
    let (store_failed, mut store_failure) = mpsc::unbounded_channel();
    let checkpoints = Arc::new(Checkpoints::default());
    let observation = Observation::new(metrics.clone(), checkpoints.clone(), store_failed);

    let (identity, store) = open_disk(&config, observation.clone()).await?;
    let place = Place::new(
        identity,
        config.name.clone(),
        config.grpc.advertise.clone(),
        config.http.advertise.clone(),
    );
    let discovery = discovery::open(config.discovery.clone())?;
    let consensus = Consensus::<TokioRuntime, DiskStore>::open(
        place.node_id(),
        &settings(&config, place.node_id()),
        store.clone(),
        GrpcNetwork::new(place.tag(), observation.clone()),
        Arc::new(wall_clock),
        observation.clone(),
    )
    .await?;
    let router = Router::new(
        consensus.clone(),
        GrpcPeers::new(place.tag()),
        batch_limits(&config),
        Arc::new(|| SessionId(rand::random())),
        observation.clone(),
    );
    let service = Arc::new(Service::new(
        router.clone(),
        place.tag(),
        member_status(&place),
    ));

    let sinks = Sinks::new(&config.sinks, service.clone(), &metrics);
    let (lead, leading) = watch::channel(None);

    let (stop, stopping) = watch::channel(false);
    let started = Instant::now();
    let watchers = Watchers::new(config.watchers_max, metrics.clone());
    let mut http_server = {
        let state = api::http::HttpState {
            service: service.clone(),
            metrics: metrics.clone(),
            report: report.clone(),
            limits: (&config.http).into(),
            started,
            watchers: watchers.clone(),
            sinks: sinks.clone(),
        };
        let (router, limits) = (api::http::router(state), config.http.clone());
        let metrics = metrics.clone();
        let (watchers_max, stopping) = (config.watchers_max, stopped(stopping.clone()));
        tokio::spawn(async move {
            api::http::serve(http, router, &limits, watchers_max, &metrics, stopping).await
        })
    };
    let public = {
        let state = api::grpc::GrpcState {
            service: service.clone(),
            metrics: metrics.clone(),
            report: report.clone(),
            request_timeout: config.http.request_timeout,
            started,
            watchers: watchers.clone(),
            sinks: sinks.clone(),
        };
        api::grpc::public_routes(state, &config.grpc)
            .await
            .map_err(|e| RunError::Start(e.to_string()))?
    };
    let mut grpc_server = {
        let host = Arc::new(PeerHost {
            place: place.clone(),
            checkpoints: checkpoints.clone(),
        });
        let peers = PeerServer::service(consensus.clone(), store.clone(), place.tag(), host);
        let routes = public.routes.add_service(peers);
        let limits = config.grpc.clone();
        tokio::spawn(
            async move { api::grpc::serve(grpc, routes, &limits, stopped(stopping)).await },
        )
    };
    let readiness = tokio::spawn(watch_readiness(
        service.clone(),
        metrics.clone(),
        public.health,
        watchers.clone(),
    ));

    consensus.run();
    let findable = {
        let metrics = metrics.clone();
        let passing = move |nodes: usize| metrics.discovery_passing_nodes.set(nodes as i64);
        tokio::spawn(cluster::stay_findable(
            place.clone(),
            discovery.clone(),
            passing,
        ))
    };
    let mut settled = tokio::spawn(settle(
        place.clone(),
        consensus.clone(),
        discovery.clone(),
        config.discovery.expect,
        service.clone(),
    ));
    let house = tokio::spawn(keep_house(router.clone(), config.limits));
    let disk_size = tokio::spawn(watch_disk_size(store.clone(), metrics.clone()));
    let free_space = tokio::spawn(watch_free_space(
        store.clone(),
        consensus.clone(),
        config.storage.free_bytes_min,
        metrics.clone(),
    ));
    let comparing = tokio::spawn(cluster::agreement::keep_comparing(
        place.tag(),
        consensus.clone(),
        checkpoints,
        {
            let (service, metrics) = (service.clone(), metrics.clone());
            let mut known = Vec::new();
            move |found: &Comparison| compared(found, &mut known, &service, &metrics)
        },
    ));
    let usage = tokio::spawn(watch_usage(router, metrics.clone(), observation.clone()));
    let following = tokio::spawn(sinks.run(leading));
    let mut core = {
        let (consensus, observation) = (consensus.clone(), observation.clone());
        tokio::spawn(async move {
            let mut last_leader = None;
            consensus
                .watch(|standing| {
                    let term = (standing.role == Role::Leader).then_some(standing.term);
                    lead.send_if_modified(|known| std::mem::replace(known, term) != term);
                    observation.standing(standing, &mut last_leader);
                })
                .await
        })
    };
    tracing::info!(
        name = config.name,
        node_id = place.node_id(),
        cluster = place.tag().load().as_deref().map(String::as_str),
        http = %config.http.listen,
        grpc = %config.grpc.listen,
        data_dir = %config.data_dir.display(),
        version = telemetry::build::version(),
        "started"
    );

    let told = told_to_stop();
    tokio::pin!(told);
    let mut belongs = false;
    let outcome = loop {
        tokio::select! {
            name = &mut told => {
                tracing::info!(signal = name, "stopping");
                break Ok(());
            }
            Some(reason) = store_failure.recv() => break Err(RunError::StoreFailed(reason)),
            ended = &mut core => {
                let error = ended.unwrap_or_else(|e| ConsensusError::Core { reason: e.to_string() });
                break Err(error.into());
            }
            result = &mut settled, if !belongs => match flatten(result) {
                Ok(()) => belongs = true,
                Err(error) => break Err(error),
            },
            ended = &mut http_server => break Err(interface_ended("HTTP", ended)),
            ended = &mut grpc_server => break Err(interface_ended("gRPC", ended)),
        }
    };

    following.abort();
    findable.abort();
    house.abort();
    disk_size.abort();
    free_space.abort();
    usage.abort();
    comparing.abort();
    readiness.abort();
    if outcome.is_ok() {
        leave(&service, &consensus, &discovery).await;
    }
    stop.send_replace(true);
    watchers.stop();
    if outcome.is_ok() {
        drop(tokio::time::timeout(config.http.drain_timeout, &mut http_server).await);
        drop(tokio::time::timeout(config.http.drain_timeout, &mut grpc_server).await);
        consensus.shutdown().await;
        grpc_server.abort();
        close(store, consensus, service).await;
        tracing::info!("stopped");
    }
    outcome
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|reason| RunError::Listen {
            what,
            address,
            reason,
        })
}

async fn open_disk(
    config: &Config,
    observation: Arc<Observation>,
) -> Result<(IdentityFile, DiskStore), RunError> {
    let dir = config.data_dir.clone();
    let options = StoreOptions {
        cache_bytes: config.storage.cache_bytes,
        reserve_bytes: config.storage.reserve_bytes,
    };
    let opened = tokio::task::spawn_blocking(move || {
        let identity = IdentityFile::open(&dir)?;
        let store = DiskStore::open(&dir, options, observation)?;
        Ok::<_, StoreError>((identity, store))
    });
    Ok(opened.await.map_err(|e| RunError::Start(e.to_string()))??)
}

fn settings(config: &Config, node_id: u64) -> Settings {
    Settings {
        heartbeat: config.raft.heartbeat,
        election_timeout_min: config.raft.election_timeout_min,
        election_timeout_max: config.raft.election_timeout_max,
        snapshot_entries: staggered(config.raft.snapshot_entries, node_id),
        log_keep_entries: config.raft.log_keep_entries,
        log_cache_bytes: config.storage.log_cache_bytes,
        batch: batch_limits(config),
    }
}

/// The same log reaches all nodes at about the same time: with one number of entries between two
/// snapshots, all would build theirs together, and no quorum would be left undisturbed.
fn staggered(snapshot_entries: u64, node_id: u64) -> u64 {
    snapshot_entries + node_id % (snapshot_entries / 4 + 1)
}

fn batch_limits(config: &Config) -> BatchLimits {
    BatchLimits {
        requests_max: config.raft.batch_requests_max,
        bytes_max: config.raft.batch_bytes_max,
        in_flight_max: config.raft.proposals_in_flight_max,
        queue_max: config.raft.queue_max,
    }
}

fn member_status(place: &Place) -> MemberStatus {
    let me = place.announcement();
    MemberStatus {
        id: me.node_id,
        name: me.name,
        grpc_address: me.grpc_address,
        http_address: me.http_address,
        voter: false,
        matched_index: None,
    }
}

/// Comes to belong to a cluster, catches up with its own past, and serves.
async fn settle(
    place: Arc<Place>,
    consensus: Consensus<TokioRuntime, DiskStore>,
    discovery: Arc<dyn Discovery>,
    expect: usize,
    service: Arc<Service>,
) -> Result<(), RunError> {
    cluster::settle(&place, &consensus, &discovery, expect).await?;
    while !consensus.recovered(RECOVERY_PATIENCE).await {
        tracing::info!("still catching up with what this node knew before it stopped");
    }
    service.set_phase(Phase::Serving);
    tracing::info!("serving");
    Ok(())
}

fn flatten(result: Result<Result<(), RunError>, tokio::task::JoinError>) -> Result<(), RunError> {
    result.unwrap_or_else(|e| Err(RunError::Start(e.to_string())))
}

fn interface_ended(
    what: &'static str,
    ended: Result<Result<(), impl ToString>, tokio::task::JoinError>,
) -> RunError {
    let reason = match ended {
        Ok(Ok(())) => "it stopped by itself".to_owned(),
        Ok(Err(e)) => e.to_string(),
        Err(e) => e.to_string(),
    };
    RunError::Interface { what, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_wait_for_different_numbers_of_entries_close_to_the_one_configured() {
        let waits: Vec<u64> = [3, 40, 5000].map(|id| staggered(400, id)).into();
        assert_eq!(waits, [403, 440, 451]);
        for id in 0..1000 {
            assert!((400..=500).contains(&staggered(400, id)));
            assert_eq!(staggered(1, id), 1);
        }
    }
}
