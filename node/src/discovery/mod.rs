//! How nodes find each other: addresses and the bootstrap latch, nothing else. Who is a member is
//! decided by the Raft log alone.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::config;
use lockstep_raft::store::BootstrapPlan;

mod consul;
mod static_peers;

pub use consul::ConsulDiscovery;
pub use static_peers::StaticDiscovery;

/// What a node tells the world about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The operator's name for it.
    pub name: String,
    /// Its node id.
    pub node_id: u64,
    /// The cluster it belongs to, once it does.
    pub cluster_id: Option<String>,
    /// `host:port` of its gRPC interface.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface.
    pub http_address: String,
}

/// A node that discovery sees. Not yet trusted: ask it who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundPeer {
    /// Its name.
    pub name: String,
    /// `host:port` of its gRPC interface.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface, where known.
    pub http_address: Option<String>,
    /// Tags it registered with.
    pub tags: Vec<String>,
}

/// Why discovery could not answer. A running cluster does not depend on it.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It did not answer, or not in time.
    #[error("{service} at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Which service, for example "consul".
        service: &'static str,
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// It answered with something else than it should.
    #[error("{service} at {address} gave an unusable answer: {reason}")]
    Answer {
        /// Which service.
        service: &'static str,
        /// Where.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The configuration holds something it cannot work with. Trying again does not help.
    #[error("{service} cannot be used as configured: {reason}")]
    Settings {
        /// Which service.
        service: &'static str,
        /// What is wrong, with the value.
        reason: String,
    },
}

/// A way to find peers. Every call has a deadline of its own.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// The way's name, for logs.
    fn kind(&self) -> &'static str;

    /// Makes this node findable, or renews that. Called again and again: whoever forgets is told anew.
    async fn announce(&self, me: &Announcement) -> Result<(), DiscoveryError>;

    /// The nodes that are there and healthy, this one included once it is announced.
    async fn peers(&self) -> Result<Vec<FoundPeer>, DiscoveryError>;

    /// The plan that was latched, if any.
    async fn latched(&self) -> Result<Option<BootstrapPlan>, DiscoveryError>;

    /// Puts a plan down if there is none yet, and returns the one that holds: the first.
    async fn latch(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError>;

    /// Whether this node is the one to put the plan down; the others wait for it to be latched or
    /// for a leader to call.
    fn may_propose(&self, me: &Announcement, found: &[FoundPeer]) -> bool;

    /// Takes the announcement back.
    async fn withdraw(&self) -> Result<(), DiscoveryError>;
}

/// The way of finding peers that the configuration asks for. Connects to nothing yet.
///
/// # Errors
/// [`DiscoveryError::Settings`] where the configuration holds what the way cannot work with.
pub fn open(config: config::Discovery) -> Result<Arc<dyn Discovery>, DiscoveryError> {
    Ok(match config.kind {
        config::DiscoveryKind::Static { peers } => Arc::new(StaticDiscovery::new(peers)),
        config::DiscoveryKind::Consul(consul) => Arc::new(ConsulDiscovery::new(&consul)?),
    })
}
