//! Changing the members of the cluster, one change at a time, and never at the cost of the quorum.
//!
//! A new member begins as a learner: it receives the log and does not vote. Once it has caught up, the
//! leader promotes it ([`Consensus::keep_members`]), unless it is to stay a learner. If another member has
//! the same name, the new member replaces it: the old one is removed in the same change. A permanent learner
//! replaces a member of its name only if that member does not answer. All of this follows from the membership
//! in the log, so a new leader continues where the previous one stopped.
//!
//! A change of the voters goes through joint consensus (the Raft paper, section 6). A leader that finds a
//! joint membership, because its predecessor failed in between, completes the change.
//!
//! Every change is checked before it is proposed: of the voters after it, a quorum must have answered the
//! leader within [`ANSWERED_WITHIN`]. The check and the change refer to the same membership. A leader that has led
//! for a shorter time takes no member for silent that has not answered it yet.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lockstep_machine::FeatureLevel;
use lockstep_proto::ErrorCode;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{ChangeMembers, Instant as _};

use super::node::Consensus;
use super::standing::Role;
use super::types::{LogId, Member, MemberStatus, NodeId, Runtime, StoredMembership};
use crate::Deadline;
use crate::failpoints::{self, Failpoint};
use crate::store::Storage;

/// A member that has not answered the leader for this long does not count towards a quorum.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// More voters slow down every write and tolerate little more. Further members stay learners.
pub const VOTERS_MAX: usize = 9;
/// Time between two checks. A learner has caught up when it holds the log as it was at the previous one: the last
/// of the rounds of Ongaro's dissertation, section 4.2.1.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// For the leader to apply what was committed before.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(2);
/// For another voter to take over from a leader that is removed or demoted.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A change of the membership that an operator or a joining node asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a node, as a learner at first.
    Add {
        /// Its id.
        id: NodeId,
        /// Its name and addresses, and whether it stays a learner.
        member: Member,
        /// The highest feature level that it supports.
        supports: FeatureLevel,
    },
    /// Makes a learner a voter, once it has caught up.
    Promote(NodeId),
    /// Makes a voter a learner, which it then stays.
    Demote(NodeId),
    /// Removes a member.
    Remove(NodeId),
}

/// The voters before and after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumChange {
    /// Voters before.
    pub voters_before: usize,
    /// Voters after.
    pub voters_after: usize,
    /// Of these, how many answer the leader now, itself included.
    pub answering_after: usize,
}

/// A majority of so many voters.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl QuorumChange {
    /// Whether a quorum of the voters after the change answers now.
    pub fn keeps_quorum(&self) -> bool {
        self.answering_after >= quorum(self.voters_after)
    }
}

impl fmt::Display for QuorumChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            voters_before,
            voters_after,
            answering_after,
        } = *self;
        write!(
            f,
            "{voters_before} -> {voters_after} voters, quorum {} -> {}, {answering_after} of the {voters_after} answer",
            quorum(voters_before),
            quorum(voters_after)
        )
    }
}

/// Why the membership was not changed, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// This node does not lead.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader it knows.
        leader: Option<NodeId>,
    },
    /// Another change is not complete.
    #[error("another membership change is in progress; retry once it is complete")]
    InProgress,
    /// There is no such member.
    #[error("no member has the id {0}")]
    UnknownMember(NodeId),
    /// A live member has the name.
    #[error(
        "the name {name} belongs to node {id} at {address}, which answers; give the new node another name, or stop that one first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: NodeId,
        /// Where that member is.
        address: String,
    },
    /// Without it there is no voter.
    #[error("{0} is the last voter; a cluster needs one")]
    LastVoter(String),
    /// A quorum of the voters after the change does not answer.
    #[error(
        "this would lose the quorum ({0}): bring members back first, or force it and risk that the cluster accepts no writes until they return"
    )]
    QuorumLost(QuorumChange),
    /// The new node could not apply the log.
    #[error(
        "node {name} supports feature levels up to {supports}, and the cluster is at level {level}: upgrade that node"
    )]
    NodeTooOld {
        /// Its name.
        name: String,
        /// The highest level that it supports.
        supports: FeatureLevel,
        /// The cluster's.
        level: FeatureLevel,
    },
    /// No other voter could take over.
    #[error("no other voter that answers took over leadership")]
    NoSuccessor,
    /// The leader refused, in these words.
    #[error("{message}")]
    Refused {
        /// The stable code.
        code: ErrorCode,
        /// Why.
        message: String,
    },
    /// The change may or may not take effect.
    #[error(
        "the leader changed before the membership change was confirmed; look at the members before you retry"
    )]
    Unknown,
}

impl MemberError {
    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            MemberError::NotLeader { .. } => ErrorCode::Unavailable,
            MemberError::InProgress => ErrorCode::MembershipChangeInProgress,
            MemberError::UnknownMember(_) => ErrorCode::UnknownMember,
            MemberError::NameTaken { .. } => ErrorCode::MemberNameTaken,
            MemberError::LastVoter(_) => ErrorCode::LastVoter,
            MemberError::QuorumLost(_) => ErrorCode::QuorumLost,
            MemberError::NodeTooOld { .. } => ErrorCode::NodeTooOld,
            MemberError::NoSuccessor => ErrorCode::NoSuccessor,
            MemberError::Refused { code, .. } => *code,
            MemberError::Unknown => ErrorCode::OutcomeUnknown,
        }
    }
}

/// The membership as the leader sees it.
#[derive(Debug, Clone, Default)]
struct Roster {
    /// Whether this node leads. If not, the members are not known here.
    leads: bool,
    /// How long it has led. Whoever has not answered it for so long may still be live.
    led_for: Duration,
    /// The log entry that set it.
    log_id: Option<LogId>,
    /// Whether it is committed. If not, it may still be taken back.
    is_committed: bool,
    /// Whether a change is half done.
    is_joint: bool,
    /// Whether that change makes a voter a learner, rather than removing it.
    demotes: bool,
    members: Vec<MemberStatus>,
}

/// What to propose, and the voters it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    changes: Vec<ChangeMembers<NodeId, Member>>,
    voters: BTreeSet<NodeId>,
    /// Whether a voter that is none any more stays a member.
    demotes: bool,
}

impl Step {
    fn new(change: ChangeMembers<NodeId, Member>, voters: BTreeSet<NodeId>) -> Self {
        Self {
            changes: vec![change],
            voters,
            demotes: false,
        }
    }
}

impl Roster {
    fn find(&self, id: NodeId) -> Result<&MemberStatus, MemberError> {
        let found = self.members.iter().find(|it| it.id == id);
        found.ok_or(MemberError::UnknownMember(id))
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        let voters = self.members.iter().filter(|it| it.voter);
        voters.map(|it| it.id).collect()
    }

    fn same_name(&self, id: NodeId, name: &str) -> impl Iterator<Item = &MemberStatus> {
        let others = self.members.iter().filter(move |it| it.id != id);
        others.filter(move |it| it.member.name == name)
    }

    /// Fails if a member that is live, or may be, has the name of a new node.
    fn check_name(&self, id: NodeId, name: &str) -> Result<(), MemberError> {
        for other in self.same_name(id, name) {
            if other.answers() {
                return Err(MemberError::NameTaken {
                    name: name.to_owned(),
                    id: other.id,
                    address: other.member.grpc_address.clone(),
                });
            }
            if other.contact.is_none() && self.led_for < ANSWERED_WITHIN {
                return Err(MemberError::Refused {
                    code: ErrorCode::Unavailable,
                    message: format!(
                        "the leader was elected {:.1?} ago, and does not know yet whether node {}, which has the name {name}, is live; retry in {} s",
                        self.led_for,
                        other.id,
                        ANSWERED_WITHIN.as_secs()
                    ),
                });
            }
        }
        Ok(())
    }

    /// The step for a change; `None` if nothing is left to do.
    fn plan(&self, change: &MemberChange) -> Result<Option<Step>, MemberError> {
        let step = |change, voters| Ok(Some(Step::new(change, voters)));
        let mut voters = self.voters();
        let only = |id: NodeId| voters.len() == 1 && voters.contains(&id);
        match change {
            MemberChange::Add { id, .. } if self.find(*id).is_ok() => Ok(None),
            MemberChange::Add { id, member, .. } => {
                self.check_name(*id, &member.name)?;
                let nodes = [(*id, member.clone())].into();
                step(ChangeMembers::AddNodes(nodes), voters)
            }
            // The leader promotes whoever need not stay a learner.
            MemberChange::Promote(id) => {
                let found = self.find(*id)?;
                let member = Member {
                    learner: false,
                    ..found.member.clone()
                };
                match found.member.learner {
                    true => step(ChangeMembers::SetNodes([(*id, member)].into()), voters),
                    false => Ok(None),
                }
            }
            MemberChange::Demote(id) => {
                let found = self.find(*id)?;
                if only(*id) {
                    return Err(MemberError::LastVoter(found.member.name.clone()));
                }
                let member = Member {
                    learner: true,
                    ..found.member.clone()
                };
                if !found.voter && found.member.learner {
                    return Ok(None);
                }
                voters.remove(id);
                let mut step = Step::new(ChangeMembers::SetNodes([(*id, member)].into()), voters);
                if found.voter {
                    step.changes.push(ChangeMembers::RemoveVoters([*id].into()));
                    step.demotes = true;
                }
                Ok(Some(step))
            }
            MemberChange::Remove(id) => {
                let found = self.find(*id)?;
                if only(*id) {
                    return Err(MemberError::LastVoter(found.member.name.clone()));
                }
                voters.remove(id);
                step(removal(found), voters)
            }
        }
    }

    /// What a leader does unasked: completes a change that was interrupted, promotes a learner that has caught
    /// up, and lets it take the place of the member with its name. A learner that stays one does so only if that
    /// member does not answer. A learner has caught up when it holds the log up to `round`, by entries or by a
    /// snapshot that it has installed.
    fn upkeep(&self, round: u64) -> Option<Step> {
        let voters = self.voters();
        if self.is_joint {
            let mut step = Step::new(ChangeMembers::AddVoterIds(BTreeSet::new()), voters);
            step.demotes = self.demotes;
            return Some(step);
        }
        let replaced = |it: &MemberStatus| -> Vec<&MemberStatus> {
            let former = self.same_name(it.id, &it.member.name);
            let leaves = |former: &&MemberStatus| !it.member.learner || !former.answers();
            former.filter(leaves).collect()
        };
        let due = |it: &&MemberStatus| {
            let holds_round = it.matched_index.is_some_and(|matched| matched >= round);
            let caught_up = !it.voter && it.answers() && holds_round;
            caught_up && !(it.member.learner && replaced(it).is_empty())
        };
        let caught_up = self.members.iter().find(due)?;
        let mut step = Step {
            changes: Vec::new(),
            voters: voters.clone(),
            demotes: false,
        };
        if !caught_up.member.learner {
            let add = ChangeMembers::AddVoterIds([caught_up.id].into());
            step.changes.push(add);
            step.voters.insert(caught_up.id);
        }
        for replaced in replaced(caught_up) {
            step.voters.remove(&replaced.id);
            step.changes.push(removal(replaced));
        }
        let fits = step.voters.len() <= VOTERS_MAX.max(voters.len());
        (fits && self.quorum_change(&step.voters).keeps_quorum()).then_some(step)
    }

    fn quorum_change(&self, after: &BTreeSet<NodeId>) -> QuorumChange {
        let answering = self.members.iter();
        let answering = answering.filter(|it| after.contains(&it.id) && it.answers());
        QuorumChange {
            voters_before: self.voters().len(),
            voters_after: after.len(),
            answering_after: answering.count(),
        }
    }
}

fn removal(member: &MemberStatus) -> ChangeMembers<NodeId, Member> {
    let ids = [member.id].into();
    match member.voter {
        true => ChangeMembers::RemoveVoters(ids),
        false => ChangeMembers::RemoveNodes(ids),
    }
}

/// Whether a node knows no membership, or knows of its addition only from an entry that may not be committed.
fn is_unconfirmed(id: NodeId, last: &StoredMembership, committed: &StoredMembership) -> bool {
    let contains = |it: &StoredMembership| it.membership().get_node(&id).is_some();
    last.log_id().is_none() || (contains(last) && !contains(committed))
}

impl MemberStatus {
    /// Whether it has answered the leader lately; only a leader knows.
    pub fn answers(&self) -> bool {
        self.contact.is_some_and(|ago| ago <= ANSWERED_WITHIN)
    }
}

impl<RT: Runtime, S: Storage> Consensus<RT, S> {
    /// Changes the membership, if this node leads: one change at a time. Waits until the change is
    /// committed, which may take forever without a quorum: set a timeout. `force` skips the check of the
    /// quorum.
    ///
    /// # Errors
    ///
    /// [`MemberError::Unknown`] leaves open whether the change takes effect; after any other error it does
    /// not.
    pub async fn change_members(
        &self,
        change: &MemberChange,
        force: bool,
    ) -> Result<QuorumChange, MemberError> {
        let _raising = self.raising.lock().await;
        if let MemberChange::Add {
            member, supports, ..
        } = change
        {
            self.check_level(&member.name, *supports).await?;
        }
        let mut roster = self.roster();
        if !roster.leads {
            let leader = self.leader().map(|(id, _)| id);
            return Err(MemberError::NotLeader { leader });
        }
        // Afterwards: if it was elected again meanwhile, the roster counts as that of a new leader.
        roster.led_for = self.led_for().await;
        if roster.is_joint || !roster.is_committed {
            return Err(MemberError::InProgress);
        }
        let Some(step) = roster.plan(change)? else {
            return Ok(roster.quorum_change(&roster.voters()));
        };
        let quorum = roster.quorum_change(&step.voters);
        let grows_only = step.voters.is_superset(&roster.voters());
        if !(force || grows_only || quorum.keeps_quorum()) {
            return Err(MemberError::QuorumLost(quorum));
        }
        if !step.voters.contains(&self.node_id()) {
            // openraft does not carry on as a leader without a vote. The next leader makes the change.
            let leader = self.hand_over(None, HAND_OVER_TIMEOUT).await?;
            return Err(MemberError::NotLeader {
                leader: Some(leader),
            });
        }
        failpoints::reach(Failpoint::MembershipChecked);
        self.take(&roster, step).await?;
        failpoints::reach(Failpoint::MembershipChanged);
        tracing::info!(?change, %quorum, "changed the membership");
        Ok(quorum)
    }

    /// How long ago this node, which leads, was elected.
    async fn led_for(&self) -> Duration {
        // A leader's vote does not change.
        let elected = self.raft.with_raft_state(|it| it.vote_last_modified());
        let elected = elected.await.ok().flatten();
        elected.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Fails if the cluster's feature level is above what a new node supports.
    async fn check_level(&self, name: &str, supports: FeatureLevel) -> Result<(), MemberError> {
        // A former leader may have raised the level: its entries must be applied here first.
        let deadline = Deadline::<RT>::after(LEVEL_TIMEOUT);
        let point = deadline.bound(self.read_point()).await;
        let point = point.and_then(Result::ok);
        let not_leader = MemberError::NotLeader { leader: None };
        let point = point.ok_or_else(|| not_leader.clone())?;
        if !matches!(self.await_applied(point, deadline).await, Ok(true)) {
            return Err(not_leader);
        }
        // A proposal may be committed later than its proposer waits.
        let proposed = FeatureLevel::supported_with(self.raised_to.load(Ordering::Relaxed));
        let level = self.state().read().state.level().max(proposed);
        match supports < level {
            false => Ok(()),
            true => Err(MemberError::NodeTooOld {
                name: name.to_owned(),
                supports,
                level,
            }),
        }
    }

    /// Runs `propose`, which raises the feature level to `level`, if the members are exactly `surveyed`, and keeps
    /// the membership as it is meanwhile. Returns `None` if the members have changed.
    pub async fn raise_level<T>(
        &self,
        surveyed: &BTreeSet<NodeId>,
        level: FeatureLevel,
        propose: impl Future<Output = T>,
    ) -> Option<T> {
        let _raising = self.raising.lock().await;
        let members = self.standing().members;
        let members: BTreeSet<NodeId> = members.iter().map(|it| it.id).collect();
        match members == *surveyed {
            true => {
                self.raised_to.fetch_max(level.get(), Ordering::Relaxed);
                Some(propose.await)
            }
            false => None,
        }
    }

    /// While this node leads, completes what a previous leader began, and promotes learners that have caught
    /// up. Never returns.
    pub async fn keep_members(&self) {
        loop {
            let round = self.leads().then(|| self.log.extent().1);
            RT::sleep(CHECK_EVERY).await;
            let Some(round) = round.filter(|_| self.leads()) else {
                continue;
            };
            let roster = self.roster();
            let Some(step) = roster.upkeep(round) else {
                continue;
            };
            let quorum = roster.quorum_change(&step.voters);
            failpoints::reach(Failpoint::MembershipCaughtUp);
            match self.take(&roster, step).await {
                Ok(()) => tracing::info!(%quorum, "the voters have changed"),
                Err(error) => tracing::debug!(%error, "the voters could not be changed"),
            }
        }
    }

    /// The log index of the membership, if this node leads, with a quorum, and the node `id` is no member. Only
    /// a leader can say: a follower may lag behind the addition of the node that asks.
    pub fn not_a_member_since(&self, id: NodeId) -> Option<u64> {
        self.leader_contact()
            .filter(|ago| self.leads() && *ago <= ANSWERED_WITHIN)?;
        let metrics = self.raft.metrics().borrow_watched().clone();
        let (stored, committed) = (
            metrics.membership_config,
            metrics.committed_membership_config,
        );
        // An addition counts from when it is proposed, a removal from when it is committed.
        let is_member = [&stored, &committed]
            .iter()
            .any(|it| it.membership().get_node(&id).is_some());
        stored.log_id().filter(|_| !is_member).map(|at| at.index)
    }

    /// Whether this node has been removed, according to a membership of log index `since` that does not
    /// contain it: its own is older, or does not contain it either.
    pub fn was_removed(&self, since: u64) -> bool {
        let stored = self
            .raft
            .metrics()
            .borrow_watched()
            .membership_config
            .clone();
        let is_member = stored.membership().get_node(&self.node_id()).is_some();
        !is_member || stored.log_id().is_none_or(|at| at.index < since)
    }

    /// Whether no membership that contains this node was committed, as far as it knows. If a leader says that it is no
    /// member, its addition was lost with the leader that made it.
    pub async fn is_unconfirmed(&self) -> bool {
        let me = self.node_id();
        // Not from the metrics, which have no membership until the core has started.
        let unconfirmed = self.raft.with_raft_state(move |it| {
            let known = &it.membership_state;
            is_unconfirmed(me, known.effective(), known.committed())
        });
        unconfirmed.await.unwrap_or(false)
    }

    fn roster(&self) -> Roster {
        let standing = self.standing();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let stored = metrics.membership_config;
        let membership = stored.membership();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let stays = |id: &NodeId| {
            let target = membership.get_joint_config().last();
            target.is_some_and(|target| target.contains(id))
        };
        let leaves = voters.iter().filter(|id| !stays(id));
        let demoted = leaves
            .filter_map(|id| membership.get_node(id))
            .any(|it| it.learner);
        Roster {
            leads: standing.role == Role::Leader,
            led_for: Duration::ZERO,
            log_id: *stored.log_id(),
            is_committed: stored.log_id() == metrics.committed_membership_config.log_id(),
            is_joint: membership.get_joint_config().len() > 1,
            demotes: demoted,
            members: match standing.role {
                Role::Leader => standing.members,
                Role::Follower | Role::Candidate | Role::Learner => Vec::new(),
            },
        }
    }

    async fn take(&self, roster: &Roster, step: Step) -> Result<(), MemberError> {
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: roster.log_id,
        };
        let changes = ChangeMembers::Batch(step.changes);
        let changed = self
            .raft
            .change_membership_if(changes, step.demotes, [unchanged]);
        match changed.await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(forward) => MemberError::NotLeader {
                    leader: forward.leader_id,
                },
                ClientWriteError::LogEntryDiscarded(_) => MemberError::Unknown,
                // The step was planned for this membership: it has changed meanwhile.
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(_) => MemberError::InProgress,
            }),
            Err(RaftError::Fatal(_)) => Err(MemberError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Membership;
    use super::*;

    /// Where the log ended at the previous check.
    const ROUND: u64 = 500;

    fn member(id: NodeId, voter: bool, answers: bool) -> MemberStatus {
        MemberStatus {
            id,
            member: Member {
                name: format!("node{id}"),
                grpc_address: format!("node{id}:4333"),
                ..Member::default()
            },
            voter,
            matched_index: Some(ROUND),
            contact: answers.then_some(Duration::ZERO),
        }
    }

    fn roster(members: Vec<MemberStatus>) -> Roster {
        Roster {
            members,
            ..Roster::default()
        }
    }

    fn three() -> Vec<MemberStatus> {
        [1, 2, 3].map(|id| member(id, true, true)).into()
    }

    fn voters(step: Option<Step>) -> Vec<NodeId> {
        step.expect("there is a step").voters.into_iter().collect()
    }

    #[test]
    fn a_learner_that_has_caught_up_is_promoted_and_one_that_lags_is_not() {
        let mut members = three();
        members.push(member(4, false, true));
        assert_eq!(voters(roster(members.clone()).upkeep(ROUND)), [1, 2, 3, 4]);
        // Nothing, because it needs a snapshot, which it has not installed; or not all of it.
        for matched in [None, Some(0), Some(ROUND - 1)] {
            members[3].matched_index = matched;
            assert_eq!(roster(members.clone()).upkeep(ROUND), None, "{matched:?}");
        }
        members[3].matched_index = Some(ROUND);
        members[3].member.learner = true;
        assert_eq!(roster(members).upkeep(ROUND), None);
    }

    #[test]
    fn a_promoted_member_takes_the_place_of_the_one_with_its_name() {
        let mut members = three();
        members[1].contact = None;
        let mut returned = member(9, false, true);
        returned.member.name = "node2".to_owned();
        members.push(returned);
        let step = roster(members).upkeep(ROUND);
        assert_eq!(step.as_ref().unwrap().changes.len(), 2);
        assert_eq!(voters(step), [1, 3, 9]);
    }

    #[test]
    fn a_learner_that_stays_one_takes_the_place_of_a_silent_member_with_its_name() {
        let mut members = three();
        for (id, answers) in [(4, false), (9, true)] {
            let mut learner = member(id, false, answers);
            learner.member.name = "replica".to_owned();
            learner.member.learner = true;
            members.push(learner);
        }
        let step = roster(members.clone()).upkeep(ROUND).unwrap();
        let removal = ChangeMembers::RemoveNodes([4].into());
        assert_eq!(step.changes, [removal]);
        members[3].contact = Some(Duration::ZERO);
        assert_eq!(roster(members).upkeep(ROUND), None);
    }

    #[test]
    fn a_learner_is_not_promoted_where_that_would_lose_the_quorum() {
        // Of three voters, one answers besides the learner: with four voters, the quorum is three.
        let mut members = three();
        members[1].contact = None;
        members.push(member(4, false, true));
        members[2].contact = None;
        assert_eq!(roster(members).upkeep(ROUND), None);
    }

    #[test]
    fn an_interrupted_change_is_completed_first() {
        let mut found = roster(three());
        found.is_joint = true;
        found.members.push(member(4, false, true));
        assert_eq!(voters(found.upkeep(ROUND)), [1, 2, 3]);
    }

    #[test]
    fn a_name_that_a_live_member_has_is_refused_and_that_of_a_silent_one_is_not() {
        let mut members = three();
        let add = MemberChange::Add {
            id: 9,
            member: members[1].member.clone(),
            supports: FeatureLevel::NEWEST,
        };
        let refused = roster(members.clone()).plan(&add).unwrap_err();
        assert!(
            matches!(refused, MemberError::NameTaken { id: 2, .. }),
            "{refused}"
        );
        members[1].contact = Some(ANSWERED_WITHIN * 2);
        let step = roster(members).plan(&add).unwrap();
        assert_eq!(voters(step), [1, 2, 3]);
    }

    #[test]
    fn a_new_leader_does_not_take_a_member_for_silent_that_had_no_time_to_answer() {
        let mut members = three();
        members[1].contact = None;
        let add = MemberChange::Add {
            id: 9,
            member: members[1].member.clone(),
            supports: FeatureLevel::NEWEST,
        };
        let mut found = roster(members);
        found.led_for = Duration::from_secs(1);
        let refused = found.plan(&add).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
        found.led_for = ANSWERED_WITHIN;
        assert_eq!(voters(found.plan(&add).unwrap()), [1, 2, 3]);
    }

    #[test]
    fn an_addition_counts_once_the_node_knows_that_it_was_committed() {
        let at = |index, ids: &[NodeId]| {
            let membership = Membership::new_with_defaults(vec![[1].into()], ids.iter().copied());
            StoredMembership::new(Some(LogId::new_term_index(1, index)), membership)
        };
        let (none, without, with) = (StoredMembership::default(), at(1, &[]), at(5, &[9]));
        // It has no log, or its addition is its last entry.
        assert!(is_unconfirmed(9, &none, &none));
        assert!(is_unconfirmed(9, &with, &without));
        assert!(is_unconfirmed(9, &with, &none));
        assert!(!is_unconfirmed(9, &with, &with));
        // Its removal, whether committed or not.
        let removed = at(7, &[]);
        assert!(!is_unconfirmed(9, &removed, &with));
        assert!(!is_unconfirmed(9, &removed, &removed));
    }

    #[test]
    fn the_last_voter_stays() {
        let alone = roster(vec![member(1, true, true), member(2, false, true)]);
        for change in [MemberChange::Remove(1), MemberChange::Demote(1)] {
            let refused = alone.plan(&change).unwrap_err();
            assert_eq!(refused, MemberError::LastVoter("node1".to_owned()));
        }
        assert_eq!(voters(alone.plan(&MemberChange::Remove(2)).unwrap()), [1]);
        let unknown = alone.plan(&MemberChange::Remove(7)).unwrap_err();
        assert_eq!(unknown, MemberError::UnknownMember(7));
    }

    #[test]
    fn a_demoted_voter_stays_a_learner_until_it_is_promoted() {
        let mut found = roster(three());
        let step = found.plan(&MemberChange::Demote(2)).unwrap();
        assert_eq!(voters(step), [1, 3]);
        found.members[1].voter = false;
        found.members[1].member.learner = true;
        assert_eq!(found.upkeep(ROUND), None);
        assert_eq!(found.plan(&MemberChange::Demote(2)), Ok(None));
        let promoted = found.plan(&MemberChange::Promote(2)).unwrap().unwrap();
        assert!(matches!(
            &promoted.changes[..],
            [ChangeMembers::SetNodes(_)]
        ));
    }

    #[test]
    fn removing_one_of_two_that_answer_would_lose_the_quorum_of_three() {
        let mut members = three();
        members[2].contact = None;
        let found = roster(members);
        let step = found.plan(&MemberChange::Remove(2)).unwrap().unwrap();
        let change = found.quorum_change(&step.voters);
        assert!(!change.keeps_quorum());
        assert_eq!(
            change.to_string(),
            "3 -> 2 voters, quorum 2 -> 2, 1 of the 2 answer"
        );
        let step = found.plan(&MemberChange::Remove(3)).unwrap().unwrap();
        assert!(found.quorum_change(&step.voters).keeps_quorum());
    }
}
