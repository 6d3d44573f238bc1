//! A node: how it starts, serves and stops.
//!
//! ```text
//! Node::start ──> run_until ──signal──> stop ──> process exits with 0
//!                     └──────failure──> the error ends the process
//! ```
//!
//! **Start.** The ports are bound first, so that a second node started by mistake does not touch the data folder.
//! Then `Parts` opens the store, consensus and the service above them; both interfaces begin to
//! answer (`/readyz` fails until the node has joined a cluster and caught up); the background tasks
//! begin.
//!
//! **Run.** A node owns its tasks: the `servers`, which must drain, and the `background` tasks, which
//! may end at any point. If any task fails (the store can no longer flush, consensus has ended, an
//! interface has failed), the node as a whole has failed. A failed node acknowledges nothing, so it is dropped
//! without a graceful stop, and its error is the last line that the process prints.
//!
//! **Stop.** In an order that loses no request, bounded by one deadline below the 10 seconds that
//! Docker grants: fail `/readyz`; hand over leadership and withdraw from discovery; drain HTTP and
//! gRPC side by side; stop consensus; close the store, which flushes what is queued. [`Signals`] says which
//! signals do what.

mod drain;
mod monitors;
mod parts;
mod stop;
mod tasks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::api;
use crate::cluster::ClusterError;
use crate::config::Config;
use crate::discovery::DiscoveryError;
use crate::service;
use lockstep_raft::consensus::ConsensusError;
use lockstep_raft::consensus::server::PeerServer;
use lockstep_raft::store::StoreError;

use drain::Drain;
use parts::{Parts, StoreFailure};
pub use stop::Signals;
use tasks::Tasks;

/// Why a node failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port is not available.
    #[error("cannot listen for {what} on {address}: {reason}")]
    Listen {
        /// "HTTP" or "gRPC".
        what: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The error of the system.
        reason: io::Error,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store failed while the node ran.
    #[error("the store failed, so writes are no longer durable; the node stops: {0}")]
    StoreFailed(String),
    /// Consensus could not start, or ended.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The node could not join a cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Discovery is not usable as configured.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// An operator removed the node, or another took its place.
    #[error(
        "node {name} ({id}) is no longer a member of cluster {cluster}: it was removed, or another node took its place; to use its disk for a new member: lockstepd rejoin --data-dir {data_dir}"
    )]
    Removed {
        /// The node's name.
        name: String,
        /// Its id.
        id: u64,
        /// The cluster.
        cluster: String,
        /// Its data folder.
        data_dir: String,
    },
    /// An interface ended.
    #[error("the {what} interface ended: {reason}")]
    Interface {
        /// "HTTP" or "gRPC".
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// An internal error: the parts of the node are inconsistent.
    #[error("the node cannot start: {0}")]
    Start(String),
}

/// A running node. Dropping it ends its tasks at once; [`stop`](Node::stop) ends them in order.
pub struct Node {
    parts: Parts,
    /// Cancelled when the interfaces must accept nothing more.
    stopping: CancellationToken,
    drain: Drain,
    /// The HTTP and gRPC servers.
    servers: Tasks,
    /// Tasks that may be aborted at any point.
    background: Tasks,
}

impl Node {
    /// Starts a node. It serves once it has joined its cluster and caught up with its log.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let http = listen("HTTP", config.http.listen).await?;
        let grpc = listen("gRPC", config.grpc.listen).await?;
        let (parts, store_failure) = Parts::open(config).await?;
        let mut node = Self {
            parts,
            stopping: CancellationToken::new(),
            drain: Drain::default(),
            servers: Tasks::default(),
            background: Tasks::default(),
        };
        node.serve_http(http);
        let health = node.serve_grpc(grpc).await?;
        node.parts.consensus.run();
        node.start_background(store_failure, health);
        let Parts { config, local, .. } = &node.parts;
        tracing::info!(
            name = config.name,
            node_id = local.node_id(),
            cluster = local.tag().load().as_deref().map(String::as_str),
            http = %config.http.listen,
            grpc = %config.grpc.listen,
            data_dir = %config.data_dir.display(),
            version = crate::telemetry::build::version(),
            "started"
        );
        Ok(node)
    }

    /// Runs until `signal` completes, and returns its value; or until the node fails.
    pub async fn run_until<T>(&mut self, signal: impl Future<Output = T>) -> Result<T, NodeError> {
        tokio::select! {
            value = signal => Ok(value),
            error = self.background.failure() => Err(error),
            error = self.servers.failure() => Err(error),
        }
    }

    fn serve_http(&mut self, listener: TcpListener) {
        let parts = self.parts.clone();
        let router = api::http::router(api::http::HttpState {
            service: parts.service,
            metrics: parts.metrics.clone(),
            report: parts.report,
            limits: (&parts.config.http).into(),
            started: parts.started,
            watchers: parts.watchers,
            members: Arc::new(parts.members),
            sinks: parts.sinks,
        });
        let stopping = self.stopping.clone();
        self.servers.spawn(async move {
            let Config {
                http, watchers_max, ..
            } = &*parts.config;
            let stopped = stopping.cancelled();
            let served = api::http::serve(
                listener,
                router,
                http,
                *watchers_max,
                &parts.metrics,
                stopped,
            );
            interface_ended("HTTP", served.await, &stopping)
        });
    }

    /// Serves clients and peers on one port.
    async fn serve_grpc(&mut self, listener: TcpListener) -> Result<HealthReporter, NodeError> {
        let parts = self.parts.clone();
        let state = api::grpc::GrpcState {
            service: parts.service,
            metrics: parts.metrics,
            report: parts.report,
            request_timeout: parts.config.http.request_timeout,
            started: parts.started,
            watchers: parts.watchers,
            members: Arc::new(parts.members),
            sinks: parts.sinks,
        };
        let public = api::grpc::public_routes(state, &parts.config.grpc)
            .await
            .map_err(|error| NodeError::Start(error.to_string()))?;
        let peers = PeerServer::service(
            parts.consensus,
            parts.store,
            parts.local.tag(),
            parts.local,
            parts.config.cluster.auto_replace,
        );
        let routes = self.drain.observe(public.routes.add_service(peers));
        let stopping = self.stopping.clone();
        self.servers.spawn(async move {
            let stopped = stopping.cancelled();
            let served = api::grpc::serve(listener, routes, &parts.config.grpc, stopped).await;
            interface_ended("gRPC", served, &stopping)
        });
        Ok(public.health)
    }

    fn start_background(&mut self, store_failure: StoreFailure, health: HealthReporter) {
        let parts = || self.parts.clone();
        let background = &mut self.background;
        background.spawn(parts::fail_with_the_store(store_failure));
        let (leads, leading) = tokio::sync::watch::channel(None);
        background.spawn(monitors::follow_consensus(parts(), leads));
        background.spawn(monitors::join_cluster(parts()));
        background.spawn_endless(self.parts.sinks.clone().run(leading));
        background.spawn(monitors::announce(parts()));
        background.spawn_endless(monitors::keep_members(parts()));
        background.spawn_endless(service::maintain(self.parts.router.clone()));
        background.spawn_endless(monitors::watch_readiness(parts(), health));
        background.spawn_endless(monitors::compact(parts()));
        background.spawn_endless(monitors::leave_a_full_disk(parts()));
        background.spawn_endless(monitors::watch_leader(parts()));
        background.spawn_endless(monitors::watch_clock(parts()));
        background.spawn_endless(monitors::watch_usage(parts()));
        background.spawn_endless(monitors::compare_states(parts()));
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|reason| NodeError::Listen {
        what,
        address,
        reason,
    })
}

/// An interface may end only while the node stops.
fn interface_ended(
    what: &'static str,
    ended: Result<(), impl ToString>,
    stopping: &CancellationToken,
) -> Result<(), NodeError> {
    let reason = match ended {
        Ok(()) if stopping.is_cancelled() => return Ok(()),
        Ok(()) => "it stopped by itself".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(NodeError::Interface { what, reason })
}
