//! Handing leadership over, and which voter may take over.
//!
//! From the moment it hands over until another node leads, openraft takes no requests, and it never gives up. So the
//! successor must answer, and must lack no more than [`LAG_MAX`] log entries.
//!
//! A node may be unfit to lead ([`Unfit`]). Members report their own disk and state in the answers to votes and
//! heartbeats, as they report their clocks; so a leader knows this of the quorum that elected it. A leader that is unfit
//! hands over only to a voter that is fitter: otherwise leadership would move back and forth.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ErrorCode, raft as pb};
use parking_lot::Mutex;

use super::clocks::Clocks;
use super::membership::MemberError;
use super::node::Consensus;
use super::standing::{Role, Standing};
use super::types::{MemberStatus, NodeId, Runtime};
use crate::Deadline;
use crate::store::Storage;

/// Pause before a leader looks again for a voter that can take over.
const SUCCESSOR_POLL: Duration = Duration::from_millis(50);
/// How long a leader waits for one: a leader that was just elected has not heard from anyone yet.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(2);
/// How many log entries a successor may lack: it needs a fraction of a second for them.
const LAG_MAX: u64 = 1000;

/// Why a node should not lead, from the least to the most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unfit {
    /// As leader it would stamp entries with the median of the clocks, or late.
    #[error("its clock is off from the other members' clocks: correct it")]
    ClockSkewed,
    /// As leader it would refuse writes.
    #[error("its disk is nearly full: free some space there")]
    DiskFull,
    /// As leader it would answer nothing.
    #[error("its state may be wrong: run `lockstepd rejoin` there")]
    StateDiffers,
}

/// What is known about the fitness of the other nodes. Clones share it.
#[derive(Clone)]
pub struct Fitness {
    clocks: Clocks,
    reported: Arc<Mutex<HashMap<NodeId, Unfit>>>,
}

impl Fitness {
    /// Nothing but what `clocks` learns.
    pub fn new(clocks: Clocks) -> Self {
        Self {
            clocks,
            reported: Arc::default(),
        }
    }

    /// Notes what a peer reports of itself. An earlier release reports nothing: it counts as fit.
    pub(super) fn note(&self, peer: NodeId, reported: pb::Unfit) {
        let unfit = match reported {
            pb::Unfit::Unspecified => None,
            pb::Unfit::DiskFull => Some(Unfit::DiskFull),
            pb::Unfit::StateDiffers => Some(Unfit::StateDiffers),
        };
        let mut known = self.reported.lock();
        match unfit {
            Some(unfit) => known.insert(peer, unfit),
            None => known.remove(&peer),
        };
    }

    fn of(&self, peer: NodeId) -> Option<Unfit> {
        let reported = self.reported.lock().get(&peer).copied();
        let skewed = self.clocks.is_off(peer).then_some(Unfit::ClockSkewed);
        reported.max(skewed)
    }
}

/// Who is to lead.
#[derive(Debug, Clone, Copy)]
enum Successor {
    /// This voter, if it is fit.
    Named(NodeId),
    /// The fittest voter, whatever it is.
    Fittest,
    /// The fittest voter, if it is fitter than this.
    FitterThan(Option<Unfit>),
}

/// Why no voter can take over now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    /// There is none to wait for.
    #[error("no other voter can lead")]
    Nobody,
    #[error(
        "no other voter that answers has caught up with the log; look at the members, then retry"
    )]
    NoneReady,
    #[error("{0} does not answer: start it, or choose another voter")]
    Silent(String),
    #[error("{name} lacks {entries} log entries: wait until it has caught up")]
    Lags { name: String, entries: u64 },
    #[error("{name} should not lead, because {unfit}; or choose another voter")]
    Unfit { name: String, unfit: Unfit },
}

impl Obstacle {
    /// Whether it may be gone soon.
    fn may_pass(&self) -> bool {
        !matches!(self, Obstacle::Nobody | Obstacle::Unfit { .. })
    }
}

impl From<Obstacle> for MemberError {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Nobody => MemberError::NoSuccessor,
            other => MemberError::Refused {
                code: ErrorCode::NoSuccessor,
                message: other.to_string(),
            },
        }
    }
}

impl Standing {
    /// The voter that is to take over from this leader.
    fn successor(&self, whom: Successor, fitness: &Fitness) -> Result<NodeId, Obstacle> {
        let others = || {
            let others = self.members.iter().filter(|it| it.voter);
            others.filter(|it| it.id != self.node_id)
        };
        if let Successor::Named(id) = whom {
            let named = others().find(|it| it.id == id);
            return self.can_take_over(named.ok_or(Obstacle::Nobody)?, fitness);
        }
        let ready = others().filter(|it| it.answers() && self.lag(it) <= LAG_MAX);
        let ready = ready.map(|it| (fitness.of(it.id), Reverse(it.matched_index), it.id));
        match (ready.min(), whom) {
            (None, _) if others().next().is_some() => Err(Obstacle::NoneReady),
            (None, _) => Err(Obstacle::Nobody),
            (Some((unfit, ..)), Successor::FitterThan(own)) if unfit >= own => {
                Err(Obstacle::Nobody)
            }
            (Some((.., id)), _) => Ok(id),
        }
    }

    fn can_take_over(&self, named: &MemberStatus, fitness: &Fitness) -> Result<NodeId, Obstacle> {
        let name = named.member.name.clone();
        if let Some(unfit) = fitness.of(named.id) {
            return Err(Obstacle::Unfit { name, unfit });
        }
        match self.lag(named) {
            _ if !named.answers() => Err(Obstacle::Silent(name)),
            entries if entries > LAG_MAX => Err(Obstacle::Lags { name, entries }),
            _ => Ok(named.id),
        }
    }

    /// How many of the leader's log entries a member lacks.
    fn lag(&self, member: &MemberStatus) -> u64 {
        let matched = member.matched_index.unwrap_or_default();
        self.log_last_index.saturating_sub(matched)
    }
}

impl<RT: Runtime, S: Storage> Consensus<RT, S> {
    /// Hands leadership to `to`, or else to the fittest voter that answers and has caught up. Returns who leads then,
    /// after `timeout` at most.
    ///
    /// # Errors
    ///
    /// This node does not lead, `to` is no voter that can lead now, or no node took over.
    pub async fn hand_over(
        &self,
        to: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, MemberError> {
        let whom = to.map_or(Successor::Fittest, Successor::Named);
        self.hand_over_to(whom, timeout).await
    }

    /// Hands leadership to the fittest voter, if that one is fitter than this node.
    ///
    /// # Errors
    ///
    /// This node does not lead, no voter is fitter, or none took over.
    pub async fn hand_over_to_a_fitter_voter(
        &self,
        timeout: Duration,
    ) -> Result<NodeId, MemberError> {
        let whom = Successor::FitterThan(self.unfit());
        self.hand_over_to(whom, timeout).await
    }

    /// Why this node should not lead.
    pub(super) fn unfit(&self) -> Option<Unfit> {
        if self.distrusted() {
            return Some(Unfit::StateDiffers);
        }
        if self.disk_full() {
            return Some(Unfit::DiskFull);
        }
        let skewed = self.environment.fitness.clocks.is_skewed() == Some(true);
        skewed.then_some(Unfit::ClockSkewed)
    }

    /// What this node reports to the others. It leaves its clock to them: a follower knows only the leader's, and cannot
    /// tell which is right.
    pub(super) fn unfit_as_reported(&self) -> pb::Unfit {
        match self.unfit() {
            None | Some(Unfit::ClockSkewed) => pb::Unfit::Unspecified,
            Some(Unfit::DiskFull) => pb::Unfit::DiskFull,
            Some(Unfit::StateDiffers) => pb::Unfit::StateDiffers,
        }
    }

    async fn hand_over_to(
        &self,
        whom: Successor,
        timeout: Duration,
    ) -> Result<NodeId, MemberError> {
        let me = self.node_id();
        let deadline = Deadline::<RT>::after(timeout);
        let ready = deadline.at_most(SUCCESSOR_TIMEOUT);
        let successor = loop {
            let standing = self.standing();
            if standing.role != Role::Leader {
                let leader = standing.leader.map(|(id, _)| id);
                return Err(MemberError::NotLeader { leader });
            }
            if matches!(whom, Successor::Named(id) if id == me) {
                return Ok(me);
            }
            match standing.successor(whom, &self.environment.fitness) {
                Ok(successor) => break successor,
                Err(obstacle) if obstacle.may_pass() && ready.sleep(SUCCESSOR_POLL).await => {}
                Err(obstacle) => return Err(obstacle.into()),
            }
        };
        let trigger = self.raft.trigger();
        let handed = trigger.transfer_leader(successor).await;
        handed.map_err(|_| MemberError::NoSuccessor)?;
        let wait = self.raft.wait(Some(deadline.left()));
        let another = wait.metrics(
            |m| m.current_leader.is_some_and(|l| l != me),
            "another node leads",
        );
        let leader = another.await.ok().and_then(|m| m.current_leader);
        leader.ok_or(MemberError::NoSuccessor)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::Timestamp;

    use super::*;
    use crate::consensus::Member;

    /// Where the leader's log ends.
    const LAST: u64 = 5000;

    fn voter(id: NodeId, matched_index: u64) -> MemberStatus {
        let member = Member {
            name: format!("node{id}"),
            ..Member::default()
        };
        MemberStatus {
            id,
            member,
            voter: true,
            matched_index: Some(matched_index),
            contact: Some(Duration::ZERO),
        }
    }

    /// Node 1 leads node 2, whose log is shorter, and node 3.
    fn three() -> Standing {
        Standing {
            node_id: 1,
            members: vec![voter(1, LAST), voter(2, LAST - 1), voter(3, LAST)],
            log_last_index: LAST,
            ..Standing::default()
        }
    }

    fn fitness(reported: &[(NodeId, pb::Unfit)]) -> Fitness {
        let clocks = Clocks::new(Arc::new(|| Timestamp(1)), Duration::ZERO);
        let fitness = Fitness::new(clocks);
        for (peer, unfit) in reported {
            fitness.note(*peer, *unfit);
        }
        fitness
    }

    const FULL: pb::Unfit = pb::Unfit::DiskFull;
    const WRONG: pb::Unfit = pb::Unfit::StateDiffers;

    #[test]
    fn the_fittest_voter_takes_over_and_of_those_that_are_fit_the_one_with_the_longest_log() {
        for (reported, expected) in [
            (&[][..], 3),
            (&[(3, FULL)], 2),
            (&[(3, WRONG)], 2),
            (&[(2, WRONG), (3, FULL)], 3),
            // Whatever they are, one of them has to lead.
            (&[(2, FULL), (3, WRONG)], 2),
            (&[(3, FULL), (3, pb::Unfit::Unspecified)], 3),
        ] {
            let found = three().successor(Successor::Fittest, &fitness(reported));
            assert_eq!(found, Ok(expected), "{reported:?}");
        }
    }

    #[test]
    fn a_leader_with_a_full_disk_stays_unless_a_voter_is_fitter() {
        let whom = Successor::FitterThan(Some(Unfit::DiskFull));
        let found = three().successor(whom, &fitness(&[(2, FULL), (3, FULL)]));
        assert_eq!(found, Err(Obstacle::Nobody));
        let found = three().successor(whom, &fitness(&[(3, FULL)]));
        assert_eq!(found, Ok(2));
        let fit = Successor::FitterThan(None);
        assert_eq!(three().successor(fit, &fitness(&[])), Err(Obstacle::Nobody));
    }

    #[test]
    fn a_voter_that_lags_or_does_not_answer_does_not_take_over() {
        let mut standing = three();
        standing.members[2].matched_index = Some(LAST - LAG_MAX - 1);
        let found = |standing: &Standing, whom| standing.successor(whom, &fitness(&[]));
        assert_eq!(found(&standing, Successor::Fittest), Ok(2));
        let lags = Obstacle::Lags {
            name: "node3".to_owned(),
            entries: LAG_MAX + 1,
        };
        assert_eq!(found(&standing, Successor::Named(3)), Err(lags));
        standing.members[1].contact = None;
        let silent = Obstacle::Silent("node2".to_owned());
        assert_eq!(found(&standing, Successor::Named(2)), Err(silent));
        assert_eq!(
            found(&standing, Successor::Fittest),
            Err(Obstacle::NoneReady)
        );
        standing.members[2].matched_index = Some(LAST - LAG_MAX);
        assert_eq!(found(&standing, Successor::Named(3)), Ok(3));
    }

    #[test]
    fn a_voter_that_is_unfit_is_refused_by_name_with_the_reason() {
        let refused = three().successor(Successor::Named(3), &fitness(&[(3, FULL)]));
        let message = refused.unwrap_err().to_string();
        let expected = "node3 should not lead, because its disk is nearly full: free some space there; or choose another voter";
        assert_eq!(message, expected);
        let unknown = three().successor(Successor::Named(4), &fitness(&[]));
        assert_eq!(unknown, Err(Obstacle::Nobody));
    }
}
