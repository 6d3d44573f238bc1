//! How nodes find each other.
//!
//! Discovery answers two questions: at which addresses are nodes, and which bootstrap plan was latched
//! first. It does not decide who is a member; the Raft log does. A running cluster does not need it.
//!
//! There are three kinds, behind the trait [`Discovery`]:
//!
//! - [`ConsulDiscovery`]: nodes register with their Consul agent, whose health checks decide who is
//!   listed. The plan is a key that is created once; whichever node creates it decides.
//! - [`StaticDiscovery`]: a list in the configuration. Nothing outside the nodes can hold a plan, so
//!   the first name in order is the only node that may propose one.
//! - [`DnsDiscovery`]: one host name that resolves to all nodes. An answer may be partial or stale, so the
//!   configuration names the only node that may propose a plan.
//!
//! Addresses from discovery are not trusted: a node asks its peers who they are (`Identify`), and
//! every peer call carries the ids of cluster and target.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_consul::ConsulError;

use crate::config::{self, Config, DiscoveryKind};
use lockstep_raft::store::{BootstrapPlan, Member};

mod consul;
mod dns;
mod static_peers;

pub use consul::{ConsulDiscovery, UnreadablePlan};
pub use dns::DnsDiscovery;
pub use static_peers::StaticDiscovery;

/// What a node announces about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its node id.
    pub node_id: u64,
    /// Its name and addresses.
    pub member: Member,
    /// The cluster it belongs to, once it does.
    pub cluster_id: Option<String>,
}

/// A node that discovery lists. Not yet trusted: ask it who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPeer {
    /// Its name; its IP address where discovery knows no names.
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
#[expect(missing_docs, reason = "the message says what it is")]
pub enum DiscoveryError {
    #[error(transparent)]
    Consul(#[from] ConsulError),
    #[error("consul at {address} did not answer within {timeout:?}")]
    Timeout { address: String, timeout: Duration },
    #[error("consul at {address}: the bootstrap plan under key {key} {fault}")]
    Plan {
        address: String,
        key: String,
        fault: UnreadablePlan,
    },
    #[error("discovery.dns = {address} does not resolve: {reason}")]
    Dns { address: String, reason: String },
}

/// A kind of discovery. Every call has a timeout of its own.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// The name of the kind, for logs.
    fn kind(&self) -> &'static str;

    /// Lists this node, or renews its entry. Called again and again, so that a registry that lost its
    /// data recovers.
    async fn announce(&self, me: &Announcement) -> Result<(), DiscoveryError>;

    /// The healthy nodes, this one included once it is announced.
    async fn peers(&self) -> Result<Vec<FoundPeer>, DiscoveryError>;

    /// The latched plan, if any.
    async fn latched(&self) -> Result<Option<BootstrapPlan>, DiscoveryError>;

    /// Latches a plan unless one is latched already, and returns the latched one: the first.
    async fn latch(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError>;

    /// Deletes a latched plan, unless another one is latched; returns whether it did.
    async fn unlatch(&self, _plan: &BootstrapPlan) -> Result<bool, DiscoveryError> {
        Ok(false)
    }

    /// The name of the only node that may propose a plan; none if all may. The others wait until one is
    /// latched or a leader calls.
    fn bootstrap_node(&self) -> Option<&str>;

    /// What to tell an operator whose node finds a latched plan that does not name it, and no node of that
    /// cluster.
    fn stale_plan(&self, plan: &BootstrapPlan) -> String {
        format!(
            "cluster {} was bootstrapped without this node, and none of its nodes answers",
            plan.cluster_id
        )
    }

    /// Removes this node from the list.
    async fn withdraw(&self) -> Result<(), DiscoveryError>;
}

/// The configured kind of discovery. Connects to nothing yet.
pub fn open(config: &Config) -> Result<Arc<dyn Discovery>, DiscoveryError> {
    Ok(match config.discovery.kind {
        DiscoveryKind::Static => Arc::new(StaticDiscovery::new(config.discovery.peers.clone())),
        DiscoveryKind::Consul => Arc::new(ConsulDiscovery::new(&config.consul)?),
        DiscoveryKind::Dns => {
            let config::Discovery {
                dns,
                bootstrap_node,
                ..
            } = config.discovery.clone();
            // Both are set: the configuration was checked.
            Arc::new(DnsDiscovery::new(
                dns.unwrap_or_default(),
                bootstrap_node.unwrap_or_default(),
            ))
        }
    })
}
