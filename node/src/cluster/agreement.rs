//! Comparing the states of the members.
//!
//! All nodes have the same state at the same log index, unless there is a hardware fault or a bug. Each node
//! hashes its state after the same log entries, keeps the last hashes, and compares them with those of the
//! other members.
//!
//! A majority decides which state is right ([`Verdict`]). A node whose state is wrong answers no requests and
//! hands over leadership, also after a restart, until its state is replaced (`lockstepd rejoin`). If no
//! majority has one state, because two members differ and no third can be compared, any of them may be wrong,
//! and none answers: no answer is better than a wrong one.
//!
//! Hashes are compared at the same log index, because an entry may change the state without changing the
//! revision, and in the same format, because a build with another snapshot format hashes other bytes. A
//! member with another format is not comparable; that does not count as a difference.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lockstep_machine::State;
use lockstep_proto::raft::{StateHash, StateHashesRequest};
use openraft_rt_tokio::TokioRuntime;
use parking_lot::Mutex;

use lockstep_raft::consensus::network::{ClusterTag, addressed, channel, client};
use lockstep_raft::consensus::{Consensus, Member, MemberStatus, NodeId};
use lockstep_raft::store::DiskStore;

/// Minimum number of revisions between two hashes.
const APART_MIN: u64 = 4096;
/// The same per instance: keeps the cost of a pass over the state small compared with that of the
/// changes in between.
const APART_PER_INSTANCE: u64 = 16;
/// How many of the events that are kept a pass may encode for each change in between.
const EVENTS_PER_CHANGE: u64 = 2;
/// Hashes remembered, so that members that lag can be compared.
const KEPT: usize = 16;
/// Timeout of one member's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The last hashes of this node.
#[derive(Debug, Default)]
pub struct RecentHashes {
    /// Oldest first.
    kept: Mutex<VecDeque<StateHash>>,
    /// The revision after the last log entry.
    seen: AtomicU64,
    /// Whether a hash is being computed; one that becomes due meanwhile is skipped.
    hashing: AtomicBool,
}

impl RecentHashes {
    /// Hashes the state on another thread, if a hash is due after this log entry. All nodes hash after the same
    /// entries. Called after each batch, in order, inside a tokio runtime.
    ///
    /// The first batch after a start is always hashed, perhaps by this node alone: other nodes have no
    /// hash of that index.
    pub fn look(self: &Arc<Self>, log_index: u64, state: &State) {
        let before = self.seen.swap(state.revision().0, Ordering::Relaxed);
        if !is_due(before, state) || self.hashing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (hashes, state) = (self.clone(), state.clone());
        tokio::task::spawn_blocking(move || {
            let hash = state.hash();
            hashes.keep(StateHash {
                log_index,
                format: hash.format.into(),
                value: as_tested(hash.value).to_be_bytes().to_vec(),
            });
            hashes.hashing.store(false, Ordering::Release);
        });
    }

    /// The hashes, oldest first.
    pub fn kept(&self) -> Vec<StateHash> {
        self.kept.lock().iter().cloned().collect()
    }

    fn keep(&self, hash: StateHash) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(hash);
    }
}

/// For tests of what follows: the node claims another state than it has.
#[cfg(debug_assertions)]
fn as_tested(value: u128) -> u128 {
    match std::env::var_os("LOCKSTEP_TEST_STATE_DIFFERS") {
        Some(_) => !value,
        None => value,
    }
}

#[cfg(not(debug_assertions))]
fn as_tested(value: u128) -> u128 {
    value
}

/// Whether a hash is due after an entry. Depends only on what is the same on every node: the
/// revisions before and after the entry, and the state.
fn is_due(before: u64, state: &State) -> bool {
    // A power of two: members of a release with another rule have hashes after some of the same entries.
    let apart = (state.instance_count().saturating_mul(APART_PER_INSTANCE))
        .max(state.event_count() / EVENTS_PER_CHANGE)
        .max(APART_MIN)
        .next_power_of_two();
    before / apart != state.revision().0 / apart
}

/// A member whose state differs from this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub member: String,
    /// The log entry after which it differs.
    pub log_index: u64,
    /// The hash of its state then.
    value: Vec<u8>,
}

/// What the comparison with the other members says about this node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A majority has the same state.
    Right,
    /// A majority has one other state.
    Wrong,
    /// No majority has the same state: this node's may be wrong.
    Open,
}

/// The result of a comparison with the other members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Members with the same hash at the latest log index in common.
    pub same: usize,
    /// Members with another value of the same format.
    pub differing: Vec<Difference>,
    /// Members that have hashes at the same log indexes, all in another format.
    pub incomparable: usize,
}

impl Comparison {
    fn add(&mut self, name: &str, ours: &[StateHash], theirs: &[StateHash]) {
        let common = ours.iter().rev().filter_map(|our| {
            let their = theirs.iter().find(|it| it.log_index == our.log_index)?;
            Some((our, their))
        });
        let comparable = |(our, their): &(&StateHash, &StateHash)| our.format == their.format;
        match common.clone().find(comparable) {
            Some((our, their)) if our.value == their.value => self.same += 1,
            Some((our, their)) => self.differing.push(Difference {
                member: name.to_owned(),
                log_index: our.log_index,
                value: their.value.clone(),
            }),
            None if common.count() > 0 => self.incomparable += 1,
            None => {}
        }
    }

    /// What a majority of the members that can be compared says, this node included; `None` if no other
    /// member can.
    pub fn verdict(&self) -> Option<Verdict> {
        let compared = 1 + self.same + self.differing.len();
        let agree = |it: &Difference| {
            let equal =
                |other: &&Difference| (other.log_index, &other.value) == (it.log_index, &it.value);
            self.differing.iter().filter(equal).count()
        };
        let is_majority = |members: usize| 2 * members > compared;
        Some(match self.differing.iter().map(agree).max() {
            _ if compared == 1 => return None,
            _ if is_majority(1 + self.same) => Verdict::Right,
            Some(others) if is_majority(others) => Verdict::Wrong,
            _ => Verdict::Open,
        })
    }
}

/// Compares this node's hashes with those of the other members.
pub async fn compare(
    cluster: &ClusterTag,
    consensus: &Consensus<TokioRuntime, DiskStore>,
    hashes: &RecentHashes,
) -> Comparison {
    let ours = hashes.kept();
    let mut comparison = Comparison::default();
    for MemberStatus { id, member, .. } in consensus.standing().members {
        if id == consensus.node_id() || ours.is_empty() {
            continue;
        }
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(cluster, id, &member)).await;
        if let Ok(Some(theirs)) = asked {
            comparison.add(&member.name, &ours, &theirs);
        }
    }
    comparison
}

/// A member's hashes; none if it does not answer.
async fn ask(cluster: &ClusterTag, id: NodeId, member: &Member) -> Option<Vec<StateHash>> {
    let request = addressed(StateHashesRequest {}, cluster, id).ok()?;
    let mut client = client(channel(&member.grpc_address).ok()?);
    let answer = client.state_hashes(request).await.ok()?.into_inner();
    Some(answer.hashes.into_iter().take(KEPT).collect())
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{
        Batch, Command, InstanceId, Limits, Origin, Request, SessionId, StateName, Timestamp,
        Transition, Trigger,
    };

    use super::*;

    fn hash(log_index: u64, value: u128) -> StateHash {
        StateHash {
            log_index,
            format: 1,
            value: value.to_be_bytes().to_vec(),
        }
    }

    #[test]
    fn nodes_are_compared_at_the_latest_log_index_they_have_in_common() {
        let ours = [hash(1, 10), hash(2, 20), hash(3, 30)];
        let mut found = Comparison::default();
        found.add("equal, and behind", &ours, &[hash(1, 11), hash(2, 20)]);
        found.add("equal, and ahead", &ours, &[hash(3, 30), hash(4, 41)]);
        found.add("nothing in common", &ours, &[hash(5, 50)]);
        assert_eq!((found.same, found.differing.len()), (2, 0));
        found.add("another", &ours, &[hash(3, 31)]);
        assert_eq!(differing(&found), [("another", 3)]);
        assert_eq!(found.incomparable, 0);
    }

    fn differing(found: &Comparison) -> Vec<(&str, u64)> {
        let differing = found.differing.iter();
        differing.map(|it| (&*it.member, it.log_index)).collect()
    }

    #[test]
    fn a_majority_decides_which_state_is_right() {
        // This node has 0.
        let verdict = |others: &[u128]| {
            let mut found = Comparison::default();
            for value in others {
                found.add("another", &[hash(1, 0)], &[hash(1, *value)]);
            }
            found.verdict()
        };
        assert_eq!(verdict(&[]), None);
        for right in [&[0_u128][..], &[0, 0], &[0, 7], &[0, 0, 7, 7]] {
            assert_eq!(verdict(right), Some(Verdict::Right), "{right:?}");
        }
        for wrong in [&[7_u128, 7][..], &[7, 7, 7], &[0, 7, 7, 7]] {
            assert_eq!(verdict(wrong), Some(Verdict::Wrong), "{wrong:?}");
        }
        for open in [&[7_u128][..], &[7, 8], &[0, 7, 7], &[0, 7, 7, 8]] {
            assert_eq!(verdict(open), Some(Verdict::Open), "{open:?}");
        }
    }

    #[test]
    fn another_format_is_not_comparable_and_no_difference() {
        let of_format = |format, mut it: StateHash| {
            it.format = format;
            it
        };
        let ours = [hash(1, 10), hash(2, 20)];
        let mut found = Comparison::default();
        let upgraded = [of_format(2, hash(1, 11)), of_format(2, hash(2, 21))];
        found.add("upgraded", &ours, &upgraded);
        found.add(
            "the same value by chance",
            &ours,
            &[of_format(2, hash(2, 20))],
        );
        let expected = Comparison {
            incomparable: 2,
            ..Comparison::default()
        };
        assert_eq!(found, expected);
        // It may have been upgraded between two hashes: the latest of one format counts.
        found.add(
            "differed before",
            &ours,
            &[hash(1, 11), upgraded[1].clone()],
        );
        assert_eq!(differing(&found), [("differed before", 1)]);
    }

    #[tokio::test]
    async fn a_change_without_a_new_revision_is_no_difference() {
        // Two nodes at one revision, of which one has applied a rejected request more.
        let (ours, theirs) = (Arc::new(RecentHashes::default()), Arc::default());
        let mut state = State::new(Limits::default());
        let taken = async |hashes: &Arc<RecentHashes>, log_index, state: &State| {
            hashes.seen.store(APART_MIN, Ordering::Relaxed);
            hashes.look(log_index, state);
            while hashes.hashing.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            hashes.kept()
        };
        let ours = taken(&ours, 7, &state).await;
        let revision = state.revision();
        state.apply(&Batch {
            stamp: Timestamp(1),
            requests: vec![],
        });
        assert_eq!(state.revision(), revision);
        let theirs = taken(&theirs, 8, &state).await;
        assert_ne!(ours[0].value, theirs[0].value);
        let mut found = Comparison::default();
        found.add("node2", &ours, &theirs);
        assert_eq!(found, Comparison::default());
    }

    #[test]
    fn the_latest_hashes_are_kept() {
        let hashes = RecentHashes::default();
        for log_index in 0..2 * KEPT as u64 {
            hashes.keep(hash(log_index, 0));
        }
        let kept = hashes.kept();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].log_index, KEPT as u64);
    }

    #[test]
    fn a_hash_is_due_when_the_revision_passes_a_multiple() {
        // One instance: the built-in one.
        let state = State::default();
        assert_eq!(state.revision().0, 0);
        assert!(!is_due(0, &state));
        assert!(is_due(APART_MIN, &state));
        assert!(!is_due(APART_MIN - 1, &state));
    }

    #[test]
    fn many_events_are_hashed_less_often() {
        let mut state = State::default();
        let mut passes = 0;
        let mut states = ["second", "third", "first"].into_iter().cycle();
        for sequence in 1..=4 * APART_MIN {
            let to = StateName::new(states.next().expect("it cycles")).unwrap();
            let triad = InstanceId::new("triad", "default").unwrap();
            let request = Request {
                origin: Origin {
                    session: SessionId(1),
                    sequence,
                    answered_below: sequence,
                },
                key: None,
                command: Command::Transition(Transition::new(triad, Trigger::To(to))),
            };
            let before = state.revision().0;
            state.apply(&Batch {
                stamp: Timestamp(sequence),
                requests: vec![request],
            });
            passes += u64::from(is_due(before, &state));
        }
        // At 4,096, 8,192 and 16,384 events, and not at 12,288.
        assert_eq!((state.event_count(), passes), (4 * APART_MIN, 3));
    }
}
