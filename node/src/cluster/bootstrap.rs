//! Which nodes may form a cluster, from what they say about themselves. It decides only, and sends no request.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::raft as pb;

use super::identify::Silence;
use crate::discovery::FoundPeer;
use lockstep_raft::consensus::Member;
use lockstep_raft::consensus::network::PROTOCOL;
use lockstep_raft::store::PlannedMember;

/// Why a node does not belong to a cluster yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It has to wait, as when nodes start one after another.
    Normal(String),
    /// An operator has to act.
    Fault(String),
}

impl Waiting {
    pub(super) fn reason(&self) -> &str {
        match self {
            Waiting::Normal(reason) | Waiting::Fault(reason) => reason,
        }
    }
}

/// A node that discovery lists, and what it answered.
pub(super) type Asked = (FoundPeer, Result<pb::IdentifyResponse, Silence>);

/// The nodes that may form a cluster, at least `expect`, ordered by name, this one included; or why they may not.
pub(super) fn candidates(
    me: &pb::IdentifyResponse,
    asked: Vec<Asked>,
    expect: usize,
) -> Result<Vec<PlannedMember>, Waiting> {
    // By id: a node may be listed twice.
    let mut nodes = BTreeMap::new();
    let mut silent = Vec::new();
    for (peer, answer) in asked {
        match answer {
            Ok(answer) => drop(nodes.insert(answer.node_id, answer)),
            Err(silence) => silent.push((peer, silence)),
        }
    }
    unique_names(me, nodes.values())?;
    for answer in nodes.values() {
        same_list(me, answer)?;
        same_protocol(answer)?;
    }
    if !nodes.contains_key(&me.node_id) {
        return Err(unlisted(me, &silent));
    }
    if nodes.len() < expect {
        return Err(too_few(nodes.values(), &silent, expect));
    }
    let mut members: Vec<_> = nodes.into_values().map(member).collect();
    members.sort_by(|a, b| a.member.name.cmp(&b.member.name));
    Ok(members)
}

fn member(answer: pb::IdentifyResponse) -> PlannedMember {
    PlannedMember {
        node_id: answer.node_id,
        member: Member {
            name: answer.name,
            grpc_address: answer.grpc_address,
            http_address: answer.http_address,
            learner: false,
        },
    }
}

fn unique_names<'a>(
    me: &'a pb::IdentifyResponse,
    answers: impl Iterator<Item = &'a pb::IdentifyResponse>,
) -> Result<(), Waiting> {
    let mut named = BTreeMap::from([(&me.name, me)]);
    for answer in answers {
        let Some(other) = named.insert(&answer.name, answer) else {
            continue;
        };
        if other.node_id != answer.node_id {
            return Err(Waiting::Fault(format!(
                "two nodes have the name {:?}: {} at {} and {} at {}; give each node a unique name",
                answer.name, other.node_id, other.grpc_address, answer.node_id, answer.grpc_address
            )));
        }
    }
    Ok(())
}

/// Nodes whose lists of peers differ could form two clusters, or wait for each other forever.
fn same_list(me: &pb::IdentifyResponse, other: &pb::IdentifyResponse) -> Result<(), Waiting> {
    if me.peers.is_empty() || other.peers.is_empty() {
        return Ok(());
    }
    let names = |it: &pb::IdentifyResponse| -> BTreeSet<String> {
        it.peers.iter().map(|peer| peer.name.clone()).collect()
    };
    let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (ours, theirs) = (names(me), names(other));
    let (more, fewer) = (
        list(theirs.difference(&ours).collect()),
        list(ours.difference(&theirs).collect()),
    );
    let difference = match (more.is_empty(), fewer.is_empty()) {
        (true, true) => return Ok(()),
        (true, false) => format!("does not list {fewer}"),
        (false, true) => format!("also lists {more}"),
        (false, false) => format!("also lists {more}, and does not list {fewer}"),
    };
    Err(Waiting::Fault(format!(
        "the nodes in the configuration of {} at {} differ from this node's: it {difference}; give all nodes the same discovery.peers, or discovery.bootstrap_node",
        other.name, other.grpc_address
    )))
}

fn same_protocol(answer: &pb::IdentifyResponse) -> Result<(), Waiting> {
    if answer.protocol != PROTOCOL {
        return Err(Waiting::Fault(format!(
            "{} uses version {} of the peer protocol, this node version {PROTOCOL}: run the same release on all nodes to bootstrap the cluster",
            answer.name, answer.protocol
        )));
    }
    Ok(())
}

fn unlisted(me: &pb::IdentifyResponse, silent: &[(FoundPeer, Silence)]) -> Waiting {
    match silent.iter().find(|(peer, _)| peer.name == me.name) {
        Some((peer, silence)) => Waiting::Fault(format!(
            "this node does not answer at its own address in discovery, {}: {silence}",
            peer.grpc_address
        )),
        None => Waiting::Normal("this node is not listed in discovery yet".to_owned()),
    }
}

fn too_few<'a>(
    answers: impl Iterator<Item = &'a pb::IdentifyResponse>,
    silent: &[(FoundPeer, Silence)],
    expect: usize,
) -> Waiting {
    let names: BTreeSet<&str> = answers.map(|it| it.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut reason = format!(
        "{} of {expect} nodes have answered: {}",
        names.len(),
        names.join(", ")
    );
    for (peer, silence) in silent {
        reason += &format!(
            "; no answer from {} at {}: {silence}",
            peer.name, peer.grpc_address
        );
    }
    match silent
        .iter()
        .any(|(_, it)| matches!(it, Silence::Unresolved(_)))
    {
        true => Waiting::Fault(reason),
        false => Waiting::Normal(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node_id: u64, name: &str) -> pb::IdentifyResponse {
        pb::IdentifyResponse {
            node_id,
            name: name.to_owned(),
            grpc_address: format!("{name}.example:4333"),
            protocol: PROTOCOL,
            ..Default::default()
        }
    }

    fn listing(mut answer: pb::IdentifyResponse, names: &[&str]) -> pb::IdentifyResponse {
        let listed = |name: &&str| pb::ListedPeer {
            name: (*name).to_owned(),
            grpc_address: format!("{name}.example:4333"),
        };
        answer.peers = names.iter().map(listed).collect();
        answer
    }

    fn peer(name: &str) -> FoundPeer {
        FoundPeer {
            name: name.to_owned(),
            grpc_address: format!("{name}.example:4333"),
            http_address: None,
            tags: vec![],
        }
    }

    fn found(
        me: &pb::IdentifyResponse,
        answers: &[pb::IdentifyResponse],
    ) -> Result<Vec<String>, Waiting> {
        let asked = answers.iter().map(|it| (peer(&it.name), Ok(it.clone())));
        let members = candidates(me, asked.collect(), 2)?;
        Ok(members.into_iter().map(|it| it.member.name).collect())
    }

    fn fault(found: Result<Vec<String>, Waiting>) -> String {
        match found {
            Err(Waiting::Fault(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn members_are_planned_in_order_of_name_and_once_each() {
        let me = answer(1, "node1");
        let three = answer(3, "node3");
        let names = found(&me, &[three.clone(), me.clone(), three]).unwrap();
        assert_eq!(names, ["node1", "node3"]);
    }

    #[test]
    fn a_name_that_is_taken_is_reported_with_the_other_nodes_address() {
        let me = answer(1, "node2");
        let mut other = answer(2, "node2");
        other.grpc_address = "10.0.0.7:4333".to_owned();
        let reason = fault(found(&me, &[answer(3, "node3"), other]));
        assert!(reason.contains("name \"node2\""), "{reason}");
        assert!(reason.contains("2 at 10.0.0.7:4333"), "{reason}");
        let third = answer(4, "node4");
        let reason = fault(found(&third, &[third.clone(), me, other_named("node2")]));
        assert!(reason.contains("name \"node2\""), "{reason}");
    }

    fn other_named(name: &str) -> pb::IdentifyResponse {
        answer(9, name)
    }

    #[test]
    fn lists_that_differ_are_reported_with_the_difference() {
        let me = listing(answer(1, "node1"), &["node1", "node2", "node3"]);
        let two = |names: &[&str]| listing(answer(2, "node2"), names);
        for (theirs, difference) in [
            (&["node1", "node2"][..], "it does not list node3;"),
            (
                &["node1", "node2", "node3", "node4"],
                "it also lists node4;",
            ),
            (
                &["node1", "node2", "node4"],
                "it also lists node4, and does not list node3;",
            ),
        ] {
            let reason = fault(found(&me, &[me.clone(), two(theirs)]));
            assert!(reason.contains("node2 at node2.example:4333"), "{reason}");
            assert!(reason.contains(difference), "{reason}");
        }
        let same = two(&["node3", "node2", "node1"]);
        assert!(found(&me, &[me.clone(), same]).is_ok());
        let older = answer(2, "node2");
        assert!(found(&me, &[me.clone(), older]).is_ok());
    }

    #[test]
    fn nodes_that_do_not_answer_are_named_with_the_reason() {
        let me = answer(1, "node1");
        let with = |silence: Silence| {
            let asked = vec![
                (peer("node1"), Ok(me.clone())),
                (peer("node2"), Err(silence)),
            ];
            candidates(&me, asked, 2).unwrap_err()
        };
        let waiting = with(Silence::NoAnswer("connection refused".to_owned()));
        let expected = "1 of 2 nodes have answered: node1; no answer from node2 at node2.example:4333: connection refused";
        assert_eq!(waiting, Waiting::Normal(expected.to_owned()));
        let waiting = with(Silence::Unresolved("no such host".to_owned()));
        let expected = "its host name does not resolve: no such host";
        assert!(matches!(&waiting, Waiting::Fault(reason) if reason.ends_with(expected)));
    }

    #[test]
    fn a_node_that_does_not_answer_at_its_own_address_says_so() {
        let me = answer(1, "node1");
        let silence = Silence::NoAnswer("connection refused".to_owned());
        let asked = vec![
            (peer("node1"), Err(silence)),
            (peer("node2"), Ok(answer(2, "node2"))),
        ];
        let waiting = candidates(&me, asked, 2).unwrap_err();
        assert!(
            waiting
                .reason()
                .contains("its own address in discovery, node1.example:4333")
        );
        let waiting = found(&me, &[answer(2, "node2")]).unwrap_err();
        assert!(waiting.reason().contains("not listed"));
    }
}
