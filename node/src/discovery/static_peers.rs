//! Discovery by a list in the configuration.
//!
//! Nothing outside the nodes can hold a bootstrap plan, so exactly one node may propose one: the first
//! name in order. The others wait for its leader to call.

use async_trait::async_trait;

use super::{Announcement, Discovery, DiscoveryError, FoundPeer};
use crate::config::StaticPeer;
use lockstep_raft::store::BootstrapPlan;

/// Discovery by a fixed list: it contains all configured nodes, whether they run or not.
#[derive(Debug)]
pub struct StaticDiscovery {
    peers: Vec<StaticPeer>,
}

impl StaticDiscovery {
    /// Discovery by a list of every node, this one included.
    pub fn new(peers: Vec<StaticPeer>) -> Self {
        Self { peers }
    }
}

#[async_trait]
impl Discovery for StaticDiscovery {
    fn kind(&self) -> &'static str {
        "static"
    }

    async fn announce(&self, _me: &Announcement) -> Result<(), DiscoveryError> {
        Ok(())
    }

    async fn peers(&self) -> Result<Vec<FoundPeer>, DiscoveryError> {
        let found = |peer: &StaticPeer| FoundPeer {
            name: peer.name.clone(),
            grpc_address: peer.grpc.clone(),
            http_address: None,
            tags: Vec::new(),
        };
        Ok(self.peers.iter().map(found).collect())
    }

    async fn latched(&self) -> Result<Option<BootstrapPlan>, DiscoveryError> {
        Ok(None)
    }

    async fn latch(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        Ok(plan.clone())
    }

    fn bootstrap_node(&self) -> Option<&str> {
        // Uses the whole list, not the reachable nodes, so that two nodes never both consider themselves first.
        self.peers.iter().map(|peer| peer.name.as_str()).min()
    }

    async fn withdraw(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> StaticDiscovery {
        let peer = |name: &&str| StaticPeer {
            name: name.to_string(),
            grpc: format!("{name}:4333"),
        };
        StaticDiscovery::new(names.iter().map(peer).collect())
    }

    #[test]
    fn only_the_first_name_in_order_may_propose() {
        let discovery = list(&["node2", "node1", "node3"]);
        assert_eq!(discovery.bootstrap_node(), Some("node1"));
    }

    #[tokio::test]
    async fn the_list_is_what_is_found() {
        let discovery = list(&["node2", "node1"]);
        let found = discovery.peers().await.expect("a list does not fail");
        let addresses: Vec<_> = found
            .iter()
            .map(|peer| peer.grpc_address.as_str())
            .collect();
        assert_eq!(addresses, ["node2:4333", "node1:4333"]);
    }

    #[tokio::test]
    async fn nothing_is_latched_and_a_proposed_plan_is_final() {
        let discovery = list(&["node1"]);
        let plan = BootstrapPlan {
            cluster_id: "c".to_string(),
            members: Vec::new(),
        };
        assert_eq!(
            discovery.latch(&plan).await.expect("a list does not fail"),
            plan
        );
        assert_eq!(
            discovery.latched().await.expect("a list does not fail"),
            None
        );
    }
}
