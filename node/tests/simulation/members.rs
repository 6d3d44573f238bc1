//! Changes the members while things go wrong: from three to five nodes and back, with learners, promotions,
//! demotions, replacements after the loss of a disk, and leaders that die in the middle of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use super::bugs::Bug;
use super::chance::{nap, one_of, sleep_ms, up_to};
use super::cluster::Cluster;
use super::network::SimConsensus;
use lockstep_machine::FeatureLevel;
use lockstep_proto::ErrorCode;
use lockstep_raft::Deadline;
use lockstep_raft::consensus::{Member, MemberChange, MemberError, NodeId};

/// More nodes than this are not added.
const NODES_MAX: usize = 5;
/// Fewer voters than this are not left: the loss of a disk must not be the loss of a quorum.
const VOTERS_MIN: usize = 3;
const ATTEMPT: Duration = Duration::from_secs(3);

/// The members that there should be.
pub type Intended = BTreeMap<NodeId, Member>;

/// The members that founded the cluster.
pub fn founders(cluster: &Cluster) -> Intended {
    let nodes = cluster.nodes().into_iter();
    nodes.map(|id| (id, cluster.member(id))).collect()
}

/// Makes one change after the other, each until it is complete, and ends with the clients. Returns the members
/// that there should be then.
pub async fn change(cluster: Cluster) -> Intended {
    let mut operator = Operator {
        intended: founders(&cluster),
        named: cluster.nodes().len(),
        cluster,
    };
    loop {
        sleep_ms(200 + up_to(1000)).await;
        if operator.cluster.quiet() {
            return operator.intended;
        }
        operator.one_change().await;
    }
}

/// Whether a node knows that exactly these are the members, and that no change is half done.
pub fn are_the_members(consensus: &SimConsensus, intended: &Intended) -> bool {
    let metrics = consensus.raft.metrics();
    let stored = metrics.borrow_watched().committed_membership_config.clone();
    let membership = stored.membership();
    let ids = membership.nodes().map(|(id, _)| *id);
    let learners = intended.iter().filter(|(_, member)| member.learner);
    let learners: BTreeSet<_> = learners.map(|(id, _)| *id).collect();
    let voters = intended.keys().filter(|id| !learners.contains(*id));
    let voters: BTreeSet<_> = voters.copied().collect();
    membership.get_joint_config().len() == 1
        && ids.eq(intended.keys().copied())
        && membership.voter_ids().collect::<BTreeSet<_>>() == voters
}

struct Operator {
    cluster: Cluster,
    intended: Intended,
    /// How many names were given out.
    named: usize,
}

impl Operator {
    async fn one_change(&mut self) {
        let any = self.any(|_| true);
        let learner = self.any(|member| member.learner);
        let voters = self.intended.values().filter(|it| !it.learner).count();
        match one_of(6) {
            0 | 1 if self.intended.len() < NODES_MAX => self.add().await,
            2 => self.replace(any).await,
            3 => match learner {
                Some(id) => self.set_learner(id, false).await,
                None if voters > VOTERS_MIN => self.set_learner_of_any(any).await,
                None => {}
            },
            _ if voters > VOTERS_MIN => self.remove(any).await,
            _ => {}
        }
    }

    /// One of the members of which this holds.
    fn any(&self, holds: impl Fn(&Member) -> bool) -> Option<NodeId> {
        let found = self.intended.iter().filter(|(_, member)| holds(member));
        let found: Vec<_> = found.map(|(id, _)| *id).collect();
        let index = one_of(found.len().max(1) as u64) as usize;
        found.get(index).copied()
    }

    async fn add(&mut self) {
        self.named += 1;
        let id = self.cluster.add_node(&format!("node-{}", self.named));
        let member = Member {
            learner: one_of(3) == 0,
            ..self.cluster.member(id)
        };
        self.cluster.start(id).await;
        self.intended.insert(id, member.clone());
        self.make(MemberChange::Add {
            id,
            member,
            supports: FeatureLevel::NEWEST,
        })
        .await;
        self.completed("members added").await;
    }

    async fn remove(&mut self, any: Option<NodeId>) {
        let Some(id) = any else { return };
        self.intended.remove(&id);
        self.make(MemberChange::Remove(id)).await;
        self.completed("members removed").await;
    }

    async fn set_learner_of_any(&mut self, any: Option<NodeId>) {
        if let Some(id) = any {
            self.set_learner(id, true).await;
        }
    }

    async fn set_learner(&mut self, id: NodeId, learner: bool) {
        if let Some(member) = self.intended.get_mut(&id) {
            member.learner = learner;
        }
        let (change, what) = match learner {
            true => (MemberChange::Demote(id), "members demoted"),
            false => (MemberChange::Promote(id), "members promoted"),
        };
        self.make(change).await;
        self.completed(what).await;
    }

    /// A node loses its disk, and returns under its name with a new id.
    async fn replace(&mut self, any: Option<NodeId>) {
        let Some(id) = any else { return };
        if self.cluster.has(Bug::WipedDiskKeepsId) {
            self.cluster.wipe(id).await;
            return self.cluster.start(id).await;
        }
        let Some(member) = self.intended.remove(&id) else {
            return;
        };
        self.cluster.discard(id).await;
        let id = self.cluster.add_node(&member.name);
        self.cluster.start(id).await;
        self.intended.insert(id, member.clone());
        self.make(MemberChange::Add {
            id,
            member,
            supports: FeatureLevel::NEWEST,
        })
        .await;
        self.completed("members replaced").await;
    }

    /// Asks whoever leads, until the change is accepted.
    async fn make(&self, change: MemberChange) {
        if one_of(3) == 0 {
            drop(SimRuntime::spawn(crash_the_leader(self.cluster.clone())));
        }
        loop {
            if let Some((_, leader)) = self.cluster.leader() {
                let attempt = Deadline::<SimRuntime>::after(ATTEMPT);
                let changed = Box::pin(leader.change_members(&change, false));
                match attempt.bound(changed).await {
                    Some(Ok(_)) => return,
                    // An attempt whose outcome was unknown had succeeded.
                    Some(Err(MemberError::UnknownMember(_)))
                        if matches!(change, MemberChange::Remove(_)) =>
                    {
                        return;
                    }
                    // A leader that was just elected asks to try again.
                    Some(Err(MemberError::Refused {
                        code: ErrorCode::Unavailable,
                        ..
                    })) => {}
                    Some(Err(
                        error @ (MemberError::LastVoter(_) | MemberError::Refused { .. }),
                    )) => {
                        let text = format!("{change:?} was refused: {error}");
                        return self.cluster.oracle().violated(text);
                    }
                    Some(Err(_)) | None => {}
                }
            }
            sleep_ms(100).await;
        }
    }

    /// Waits until the change is complete.
    async fn completed(&self, what: &'static str) {
        let complete =
            |(_, consensus): &(_, SimConsensus)| are_the_members(consensus, &self.intended);
        while !self.cluster.running().iter().any(complete) {
            sleep_ms(50).await;
        }
        self.cluster.oracle().count(what);
    }
}

async fn crash_the_leader(cluster: Cluster) {
    nap(Duration::from_millis(60)).await;
    let Some((id, _)) = cluster.leader() else {
        return;
    };
    cluster
        .oracle()
        .count("leaders that died in a membership change");
    cluster.crash(id).await;
    nap(Duration::from_secs(1)).await;
    cluster.start(id).await;
}
