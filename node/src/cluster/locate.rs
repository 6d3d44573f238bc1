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
use crate::discovery::{Announcement, FoundPeer};

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
    let mut answers = ask(&me, asked.iter().copied()).await;
    // One that answers at a second address may still be at the first: only then has it not moved.
    let elsewhere = answers.iter().filter_map(|(address, answer)| {
        let before = known.get(&answer.node_id)?.grpc_address.as_str();
        (before != *address && !asked.contains(&before)).then_some(before)
    });
    let elsewhere: BTreeSet<&str> = elsewhere.collect();
    answers.extend(ask(&me, elsewhere.into_iter()).await);
    let not_a_member_since = answers.iter().filter_map(|(_, it)| it.not_a_member_since);
    let not_a_member_since = not_a_member_since.max();
    let merged = merge(&known, latest(&known, answers), members);
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

/// The answers of this cluster's nodes, with the addresses at which they were asked.
async fn ask<'a>(
    me: &Announcement,
    addresses: impl Iterator<Item = &'a str>,
) -> Vec<(&'a str, pb::IdentifyResponse)> {
    let asking = addresses.map(async |address| {
        let answer = identify(address, Some(me.node_id)).await.ok()?;
        (me.cluster_id.as_ref() == Some(&answer.cluster_id)).then_some((address, answer))
    });
    let answers = futures::future::join_all(asking).await;
    answers.into_iter().flatten().collect()
}

/// Where each node that answered is: if it answered at several addresses, where it was known already. Discovery
/// may list a node by its IP address, and the membership by its host name.
fn latest(
    known: &BTreeMap<NodeId, Member>,
    answers: Vec<(&str, pb::IdentifyResponse)>,
) -> BTreeMap<NodeId, Member> {
    let mut latest = BTreeMap::<NodeId, Member>::new();
    for (address, answer) in answers {
        let id = answer.node_id;
        let was_known_there = known.get(&id).is_some_and(|it| it.grpc_address == address);
        if was_known_there || !latest.contains_key(&id) {
            let member = Member {
                name: answer.name,
                // Where it has just answered.
                grpc_address: address.to_owned(),
                http_address: answer.http_address,
                ..Member::default()
            };
            latest.insert(id, member);
        }
    }
    latest
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
    fn a_member_with_two_addresses_stays_known_at_one() {
        let answer = |address| {
            let answer = pb::IdentifyResponse {
                node_id: 1,
                name: "node1".to_owned(),
                ..Default::default()
            };
            (address, answer)
        };
        let known: BTreeMap<_, _> = [at(1, "b:1")].into();
        for answers in [["a:1", "b:1"], ["b:1", "a:1"]] {
            assert_eq!(latest(&known, answers.map(answer).into()), known);
        }
        // It does not answer there any more.
        let moved = latest(&known, vec![answer("a:1"), answer("c:1")]);
        assert_eq!(moved, [at(1, "a:1")].into());
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
