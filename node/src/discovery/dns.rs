//! Discovery through DNS: one host name that resolves to the addresses of all nodes, such as that of a headless
//! service in Kubernetes.
//!
//! DNS gives addresses and nothing else: names and ids come from the nodes themselves (`Identify`), and the port
//! is the same for all. The name is resolved again for every look, by the system's resolver, so nodes may move.
//!
//! **Bootstrap.** A DNS answer may be partial or stale, and two nodes may get different ones, so no rule over the
//! nodes that an answer shows can decide who bootstraps: with four pristine nodes and `expect = 3`, one node may see
//! nodes 1, 3, 4 and another 2, 3, 4, and each plan has a majority without the other. So the configuration names
//! the one node that may propose a plan, as the first name of a static list does. It needs `expect` pristine nodes
//! that answer, itself included, and stores its plan durably before it acts on it. So there are two plans only if
//! two data folders have had that name: the node lost its disk, or two nodes have the same name. The first is
//! harmless while the node reaches any member of its cluster, because it then joins; to bootstrap again, it must
//! find `expect` nodes that belong to no cluster, and no other.
//!
//! What DNS cannot guarantee, and the operator must: the named node is unique (a StatefulSet ensures that); no more
//! than `expect` nodes run until the cluster has formed; and an address that DNS still lists after its node is gone
//! is not given to a node of another Lockstep cluster meanwhile, because a pristine node would join that one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::{Announcement, Discovery, DiscoveryError, FoundPeer};
use lockstep_raft::store::BootstrapPlan;

/// How long the resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most addresses that are used of an answer: more than nodes that a cluster can have.
const PEERS_MAX: usize = 128;

/// Discovery through a name in DNS.
#[derive(Debug)]
pub struct DnsDiscovery {
    /// `host:port`.
    address: String,
    bootstrap_node: String,
}

impl DnsDiscovery {
    /// Discovery of the nodes at `address`, a `host:port`; the cluster is bootstrapped by the node of that name.
    pub fn new(address: String, bootstrap_node: String) -> Self {
        Self {
            address,
            bootstrap_node,
        }
    }

    fn failed(&self, reason: impl ToString) -> DiscoveryError {
        DiscoveryError::Dns {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }
}

#[async_trait]
impl Discovery for DnsDiscovery {
    fn kind(&self) -> &'static str {
        "dns"
    }

    async fn announce(&self, _me: &Announcement) -> Result<(), DiscoveryError> {
        Ok(())
    }

    async fn peers(&self) -> Result<Vec<FoundPeer>, DiscoveryError> {
        let resolving = tokio::net::lookup_host(&self.address);
        let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, resolving).await;
        let resolved = resolved
            .map_err(|_| self.failed(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())))?
            .map_err(|error| self.failed(error))?;
        let addresses: BTreeSet<SocketAddr> = resolved.collect();
        let found = |address: SocketAddr| FoundPeer {
            name: address.ip().to_string(),
            grpc_address: address.to_string(),
            http_address: None,
            tags: Vec::new(),
        };
        Ok(addresses.into_iter().take(PEERS_MAX).map(found).collect())
    }

    async fn latched(&self) -> Result<Option<BootstrapPlan>, DiscoveryError> {
        Ok(None)
    }

    async fn latch(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        Ok(plan.clone())
    }

    fn bootstrap_node(&self) -> Option<&str> {
        Some(&self.bootstrap_node)
    }

    async fn withdraw(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> DnsDiscovery {
        DnsDiscovery::new(address.to_owned(), "node-0".to_owned())
    }

    #[tokio::test]
    async fn every_address_of_the_name_is_listed_once_with_the_port() {
        let found = at("localhost:4333").peers().await.expect("localhost");
        let addresses: BTreeSet<_> = found.iter().map(|it| it.grpc_address.as_str()).collect();
        assert_eq!(addresses.len(), found.len());
        assert!(addresses.contains("127.0.0.1:4333"), "{addresses:?}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_named() {
        let error = at("nowhere.invalid:4333").peers().await.unwrap_err();
        assert!(
            error.to_string().contains("nowhere.invalid:4333"),
            "{error}"
        );
    }
}
