//! A node: how it starts, serves and stops.
//!
//! ```text
//! Node::start ──> run_until ──signal──> stop ──> process exits with 0
//!                     └──────failure──> the error ends the process
//! ```
//!
//! **Start.** The ports are bound first, so that a second node started by mistake does not touch the data folder,
//! and `Interfaces` answers on them at once: opening a large log takes minutes, and a liveness probe must not end
//! the node meanwhile. `ServiceManager` tells systemd the same. Then `Parts` opens the store, consensus and the service above them; the interfaces serve
//! them (`/readyz` fails until the node has joined a cluster and caught up); the background tasks begin.
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
mod interfaces;
mod monitors;
mod parts;
mod service_manager;
mod stop;
mod tasks;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lockstep_machine::CodecError;

use crate::cluster::ClusterError;
use crate::config::Config;
use crate::discovery::DiscoveryError;
use crate::lifecycle::Lifecycle;
use crate::service;
use crate::telemetry::Metrics;
use lockstep_raft::consensus::ConsensusError;
use lockstep_raft::store::StoreError;

use interfaces::Interfaces;
use parts::{Parts, StoreFailure};
use service_manager::ServiceManager;
pub use stop::Signals;
use tasks::Tasks;

/// Why a node failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what it is")]
pub enum NodeError {
    #[error("cannot listen for {what} on {address}: {reason}")]
    Listen {
        what: &'static str,
        address: SocketAddr,
        reason: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store failed, so writes are no longer durable; the node stops: {0}")]
    StoreFailed(String),
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error("{}: {newer}", data_dir.display())]
    TooOld {
        data_dir: PathBuf,
        newer: CodecError,
    },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error(
        "node {name} ({id}) is no longer a member of cluster {cluster}: it was removed, or another node took its place; to use its disk for a new member: lockstepd rejoin --data-dir {data_dir}"
    )]
    Removed {
        name: String,
        id: u64,
        cluster: String,
        data_dir: String,
    },
    #[error("the {what} interface ended: {reason}")]
    Interface { what: &'static str, reason: String },
    #[error("the node cannot start: {0}")]
    Start(String),
}

/// A running node. Dropping it ends its tasks at once; [`stop`](Node::stop) ends them in order.
pub struct Node {
    parts: Parts,
    interfaces: Interfaces,
    /// Tasks that may be aborted at any point.
    background: Tasks,
}

impl Node {
    /// Starts a node. It serves once it has joined its cluster and caught up with its log. Dropped before it is
    /// complete, it leaves a data folder as a crash does.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let metrics = Metrics::new().map_err(|error| NodeError::Start(error.to_string()))?;
        let lifecycle = Arc::<Lifecycle>::default();
        let mut background = Tasks::default();
        if let Some(manager) = ServiceManager::from_env() {
            background.spawn_endless(manager.follow(lifecycle.clone(), metrics.clone()));
        }
        let mut interfaces = Interfaces::start(&config, &metrics, &lifecycle).await?;
        let (parts, store_failure) = tokio::select! {
            opened = Parts::open(config, metrics, lifecycle) => opened?,
            error = interfaces.failure() => return Err(error),
        };
        interfaces.open(&parts)?;
        let mut node = Self {
            parts,
            interfaces,
            background,
        };
        node.parts.consensus.run();
        node.start_background(store_failure);
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
            error = self.interfaces.failure() => Err(error),
        }
    }

    fn start_background(&mut self, store_failure: StoreFailure) {
        let parts = || self.parts.clone();
        let health = self.interfaces.health();
        let background = &mut self.background;
        background.spawn(parts::fail_with_the_store(store_failure));
        let (leads, leading) = tokio::sync::watch::channel(None);
        background.spawn(monitors::follow_consensus(parts(), leads));
        background.spawn(monitors::join_cluster(parts()));
        background.spawn_endless(self.parts.sinks.clone().run(leading));
        background.spawn(monitors::announce(parts()));
        background.spawn_endless(monitors::keep_members(parts()));
        background.spawn_endless(monitors::keep_level(parts()));
        background.spawn_endless(service::maintain(self.parts.router.clone()));
        background.spawn_endless(monitors::watch_readiness(parts(), health));
        background.spawn_endless(monitors::compact(parts()));
        background.spawn_endless(monitors::leave_a_full_disk(parts()));
        background.spawn_endless(monitors::watch_leader(parts()));
        background.spawn_endless(monitors::watch_clock(parts()));
        background.spawn_endless(monitors::watch_usage(parts()));
        background.spawn_endless(monitors::compare_states(parts()));
        background.spawn_endless(monitors::write_backups(parts()));
    }
}
