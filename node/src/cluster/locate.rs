//! Finding the members that have moved.
//!
//! A container may restart at another address. Discovery lists the new one, the membership in the log still
//! has the old one. So each node asks the nodes that discovery lists for their ids, and notes where the
//! members are ([`Addresses`]).

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::raft as pb;
use lockstep_raft::consensus::{Addresses, Member, MemberStatus, NodeId};

use super::LocalNode;
use super::identify::identify;
use crate::discovery::FoundPeer;

/// Each node is asked again after this many rounds, in case two have exchanged their addresses.
const ASK_ALL_EVERY: u64 = 5;

/// Asks `found` nodes and the `members` for their ids, and notes where the members are. In most rounds
/// only addresses that are not known yet are asked. Returns the log index of a membership that does not
/// contain this node, if one of them knows it.
pub async fn locate(
    local: &LocalNode,
    addresses: &Addresses,
    members: &[MemberStatus],
    found: &[FoundPeer],
    round: u64,
) -> Option<u64> {
    let known = addresses.known();
    let is_known = |address: &&str| known.values().any(|it| it.grpc_address == **address);
    // The members as well: discovery may list none of those that are left.
    let listed = found.iter().map(|it| it.grpc_address.as_str());
    let all: BTreeSet<&str> = listed
        .chain(members.iter().map(|it| it.member.grpc_address.as_str()))
        .collect();
    let asked: Vec<&str> = match round % ASK_ALL_EVERY {
        0 => all.into_iter().collect(),
        _ => all.into_iter().filter(|it| !is_known(it)).collect(),
    };
    if asked.is_empty() {
        return None;
    }
    let me = local.announcement();
    let asking = asked.iter().map(|it| identify(it, Some(me.node_id)));
    let answers = futures::future::join_all(asking).await;
    let ours = |it: &pb::IdentifyResponse| me.cluster_id.as_ref() == Some(&it.cluster_id);
    let not_a_member = answers.iter().flatten().filter(|it| ours(it));
    let not_a_member_since = not_a_member.filter_map(|it| it.not_a_member_since).max();
    let answered = asked
        .into_iter()
        .zip(answers)
        .filter_map(|(address, answer)| {
            let answer = answer.ok().filter(ours)?;
            let member = Member {
                name: answer.name,
                // Where it has just answered.
                grpc_address: address.to_owned(),
                http_address: answer.http_address,
                ..Member::default()
            };
            Some((answer.node_id, member))
        });
    let merged = merge(&known, answered.collect(), members);
    for (id, member) in addresses.replace(merged) {
        let moved =
            |it: &&MemberStatus| it.id == id && it.member.grpc_address != member.grpc_address;
        if let Some(before) = members.iter().find(moved) {
            tracing::info!(
                member = member.name,
                from = before.member.grpc_address,
                to = member.grpc_address,
                "a member has moved"
            );
        }
    }
    not_a_member_since
}

/// What is known of the members after these answers. An address belongs to the node that answered there last.
fn merge(
    known: &BTreeMap<NodeId, Member>,
    answered: BTreeMap<NodeId, Member>,
    members: &[MemberStatus],
) -> BTreeMap<NodeId, Member> {
    let taken = |member: &Member| {
        let same = |it: &Member| it.grpc_address == member.grpc_address;
        answered.values().any(same)
    };
    let mut merged: BTreeMap<NodeId, Member> = known
        .iter()
        .filter(|(_, member)| !taken(member))
        .map(|(id, member)| (*id, member.clone()))
        .collect();
    merged.extend(answered);
    merged.retain(|id, _| members.iter().any(|member| member.id == *id));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(id: NodeId, address: &str) -> (NodeId, Member) {
        let member = Member {
            name: format!("node{id}"),
            grpc_address: address.to_owned(),
            ..Member::default()
        };
        (id, member)
    }

    fn members(ids: &[NodeId]) -> Vec<MemberStatus> {
        let member = |id: &NodeId| MemberStatus {
            id: *id,
            member: at(*id, "old:1").1,
            voter: true,
            matched_index: None,
            contact: None,
        };
        ids.iter().map(member).collect()
    }

    #[test]
    fn members_that_exchanged_addresses_are_both_known_at_their_new_ones() {
        let known = [at(1, "a:1"), at(2, "b:1")].into();
        let merged = merge(
            &known,
            [at(1, "b:1"), at(2, "a:1")].into(),
            &members(&[1, 2]),
        );
        assert_eq!(merged, [at(1, "b:1"), at(2, "a:1")].into());
    }

    #[test]
    fn an_address_that_another_member_took_is_forgotten() {
        let known = [at(1, "a:1"), at(2, "b:1")].into();
        let merged = merge(&known, [at(1, "b:1")].into(), &members(&[1, 2]));
        assert_eq!(merged, [at(1, "b:1")].into());
    }

    #[test]
    fn only_members_are_kept() {
        let merged = merge(
            &BTreeMap::new(),
            [at(1, "a:1"), at(9, "x:1")].into(),
            &members(&[1]),
        );
        assert_eq!(merged, [at(1, "a:1")].into());
    }
}
