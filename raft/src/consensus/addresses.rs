//! At which addresses the members are now.
//!
//! The membership in the log holds the addresses that a member had when it was added. A container may
//! return at another one. So whoever finds a member's present address, by discovery, and has asked the node
//! there for its id, notes it here; calls go to it, and the membership's address is the fallback. No
//! membership change is needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::types::{Member, NodeId};

/// The present addresses of nodes, by id. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Addresses(Arc<ArcSwap<BTreeMap<NodeId, Member>>>);

impl Addresses {
    /// Replaces what is known. Returns the nodes whose addresses are new or have changed.
    pub fn replace(&self, known: BTreeMap<NodeId, Member>) -> Vec<(NodeId, Member)> {
        let before = self.0.swap(Arc::new(known.clone()));
        let changed = |(id, member): &(NodeId, Member)| before.get(id) != Some(member);
        known.into_iter().filter(changed).collect()
    }

    /// What is known.
    pub fn known(&self) -> Arc<BTreeMap<NodeId, Member>> {
        self.0.load_full()
    }

    /// Name and addresses of a member, which is `fallback` in the membership.
    pub fn of(&self, id: NodeId, fallback: &Member) -> Member {
        let found = self.0.load().get(&id).unwrap_or(fallback).clone();
        Member {
            learner: fallback.learner,
            ..found
        }
    }

    /// Its gRPC address, if it differs from `address`.
    pub(super) fn moved(&self, id: NodeId, address: &str) -> Option<String> {
        let known = self.0.load();
        let now = &known.get(&id)?.grpc_address;
        (now != address).then(|| now.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Member {
        Member {
            name: "node2".to_owned(),
            grpc_address: address.to_owned(),
            ..Member::default()
        }
    }

    #[test]
    fn a_member_is_where_it_was_found_last_and_otherwise_where_it_was_added() {
        let addresses = Addresses::default();
        assert_eq!(addresses.of(2, &at("old:1")), at("old:1"));
        let changed = addresses.replace([(2, at("new:1"))].into());
        assert_eq!(changed, [(2, at("new:1"))]);
        assert_eq!(addresses.of(2, &at("old:1")), at("new:1"));
        assert_eq!(addresses.moved(2, "old:1").as_deref(), Some("new:1"));
        assert_eq!(addresses.moved(2, "new:1"), None);
        assert_eq!(addresses.replace([(2, at("new:1"))].into()), []);
    }
}
