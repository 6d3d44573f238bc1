//! Combines the answers of several nodes.

use lockstep_proto::v1::{Role, StatusResponse as NodeStatus};

use super::Leader;

/// Whether further answers could not change who leads: a majority of the voters agree on the
/// newest term's leader, and that leader is among them.
pub(crate) fn is_settled(answers: &[NodeStatus]) -> bool {
    let Some(newest) = newest(answers) else {
        return false;
    };
    let voters = newest.members.iter().filter(|member| member.voter).count();
    let agreeing = answers
        .iter()
        .filter(|answer| answer.term == newest.term && answer.leader_id == newest.leader_id)
        .count();
    newest.role() == Role::Leader && voters > 0 && agreeing > voters / 2
}

/// The leader, when the answer from the newest term names one.
///
/// A node cut off from its cluster may still believe in the leader of an older term.
pub(crate) fn leader(answers: &[NodeStatus]) -> Option<Leader> {
    let view = newest(answers)?;
    Some(Leader {
        term: view.term,
        member: view.leader()?.clone(),
    })
}

/// The best answer: of those from the newest term, the leader's own; else one that names a leader; else
/// any.
pub(crate) fn newest(answers: &[NodeStatus]) -> Option<&NodeStatus> {
    answers.iter().max_by_key(|answer| {
        (
            answer.term,
            answer.role() == Role::Leader,
            answer.leader_id.is_some(),
            answer.applied_index,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::v1;

    fn answer(id: u64, term: u64, leader_id: Option<u64>) -> NodeStatus {
        let member = |id| v1::Member {
            id,
            name: format!("node{id}"),
            voter: true,
            ..Default::default()
        };
        v1::StatusResponse {
            node: Some(member(id)),
            term,
            leader_id,
            role: if leader_id == Some(id) {
                v1::Role::Leader
            } else {
                v1::Role::Follower
            }
            .into(),
            members: (1..=3).map(member).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn the_newest_term_says_who_leads() {
        let answers = [
            answer(1, 4, Some(1)),
            answer(2, 5, Some(3)),
            answer(3, 5, Some(3)),
        ];
        let leader = leader(&answers).expect("a leader is known");
        assert_eq!((leader.member.name.as_str(), leader.term), ("node3", 5));
    }

    #[test]
    fn during_an_election_there_is_no_leader() {
        assert_eq!(leader(&[answer(1, 4, Some(1)), answer(2, 5, None)]), None);
        assert_eq!(leader(&[]), None);
    }

    #[test]
    fn an_old_leader_alone_settles_nothing() {
        assert!(!is_settled(&[answer(1, 4, Some(1))]));
        assert!(!is_settled(&[answer(1, 4, Some(1)), answer(2, 5, None)]));
        assert!(!is_settled(&[answer(2, 4, Some(1)), answer(3, 4, Some(1))]));
        assert!(is_settled(&[answer(1, 4, Some(1)), answer(2, 4, Some(1))]));
    }
}
