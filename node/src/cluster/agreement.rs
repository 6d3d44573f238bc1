//! Comparing the states of the members.
//!
//! A replicated state machine has the same state everywhere, unless hardware, compiler or a defect
//! interfered. Each node hashes its state at the same revisions, remembers the last hashes, and
//! compares them with those of the other members. A node that differs from more members than it
//! agrees with stops being ready; which side is right is for an operator to find out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lockstep_machine::{GlobalRevision, SNAPSHOT_FORMAT, State, StateHash};
use lockstep_proto::Malformed;
use lockstep_proto::raft as pb;
use lockstep_proto::raft::peer_client::PeerClient;
use openraft_rt_tokio::TokioRuntime;
use parking_lot::Mutex;

use lockstep_raft::consensus::network::{ClusterTag, addressed, channel};
use lockstep_raft::consensus::{Consensus, Member, NodeId};
use lockstep_raft::store::DiskStore;

/// Minimum number of revisions between two hashes.
const APART_MIN: u64 = 4096;
/// The same per instance: keeps the cost of a pass over the state small compared with that of the
/// changes in between.
const APART_PER_INSTANCE: u64 = 16;
/// Hashes remembered, so that members that lag can be compared.
const KEPT: usize = 16;
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// For the answer of one member.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The state's hash at one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The cluster's revision.
    pub revision: GlobalRevision,
    /// Over the whole state.
    pub hash: StateHash,
}

/// The last checkpoints of this node.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Oldest first.
    kept: Mutex<VecDeque<Checkpoint>>,
    /// The revision after the last log entry.
    seen: AtomicU64,
    /// Whether a hash is being computed; one that becomes due meanwhile is skipped.
    hashing: AtomicBool,
}

impl Checkpoints {
    /// Hashes the state on another thread if every node does so after this log entry. Called after
    /// each entry, in order, inside a tokio runtime.
    pub fn look(self: &Arc<Self>, state: &State) {
        let before = self.seen.swap(state.revision().0, Ordering::Relaxed);
        if !is_due(before, state) || self.hashing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (checkpoints, state) = (self.clone(), state.clone());
        tokio::task::spawn_blocking(move || {
            checkpoints.keep(Checkpoint {
                revision: state.revision(),
                hash: state.hash(),
            });
            checkpoints.hashing.store(false, Ordering::Release);
        });
    }

    /// The checkpoints, oldest first.
    pub fn kept(&self) -> Vec<Checkpoint> {
        self.kept.lock().iter().copied().collect()
    }

    fn keep(&self, checkpoint: Checkpoint) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(checkpoint);
    }
}

/// Whether a hash is due after an entry. Depends only on what is the same on every node: the
/// revisions before and after the entry, and the state.
fn is_due(before: u64, state: &State) -> bool {
    let apart = (state.instance_count().saturating_mul(APART_PER_INSTANCE))
        .max(APART_MIN)
        .next_power_of_two();
    before / apart != state.revision().0 / apart
}

/// The result of a comparison with the other members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Members with the same hash at the latest revision in common.
    pub same: usize,
    /// Members with another one, and the revision.
    pub differing: Vec<(String, GlobalRevision)>,
}

impl Comparison {
    fn add(&mut self, name: &str, ours: &[Checkpoint], theirs: &[Checkpoint]) {
        let common = ours.iter().rev().find_map(|our| {
            let their = theirs.iter().find(|it| it.revision == our.revision)?;
            Some((our, their))
        });
        match common {
            Some((our, their)) if our.hash == their.hash => self.same += 1,
            Some((our, _)) => self.differing.push((name.to_owned(), our.revision)),
            None => {}
        }
    }

    /// Whether this node differs from more members than it agrees with.
    pub fn is_outvoted(&self) -> bool {
        self.differing.len() > self.same
    }
}

/// Compares this node's checkpoints with those of the other members again and again, and reports each
/// result to `found`. Runs until dropped.
pub async fn keep_comparing(
    cluster: ClusterTag,
    consensus: &Consensus<TokioRuntime, DiskStore>,
    checkpoints: &Checkpoints,
    mut found: impl FnMut(&Comparison) + Send,
) {
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let ours = checkpoints.kept();
        let mut comparison = Comparison::default();
        for (id, (member, _, _)) in consensus.standing().members {
            if id == consensus.node_id() || ours.is_empty() {
                continue;
            }
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(&cluster, id, &member)).await;
            if let Ok(Some(theirs)) = asked {
                comparison.add(&member.name, &ours, &theirs);
            }
        }
        found(&comparison);
    }
}

/// A member's checkpoints; none if it does not answer.
async fn ask(cluster: &ClusterTag, id: NodeId, member: &Member) -> Option<Vec<Checkpoint>> {
    let request = addressed(pb::CheckpointsRequest {}, cluster, id).ok()?;
    let mut client = PeerClient::new(channel(&member.grpc_address).ok()?);
    let answer = client.checkpoints(request).await.ok()?.into_inner();
    let checkpoints = answer.checkpoints.into_iter().take(KEPT);
    Some(
        checkpoints
            .filter_map(|it| Checkpoint::try_from(it).ok())
            .collect(),
    )
}

impl From<Checkpoint> for pb::Checkpoint {
    fn from(it: Checkpoint) -> Self {
        Self {
            revision: it.revision.0,
            hash: it.hash.0.to_be_bytes().to_vec(),
            format: u32::from(SNAPSHOT_FORMAT),
        }
    }
}

impl TryFrom<pb::Checkpoint> for Checkpoint {
    type Error = Malformed;
    fn try_from(it: pb::Checkpoint) -> Result<Self, Self::Error> {
        // The hash is over the snapshot's records: another format is another hash.
        if it.format != u32::from(SNAPSHOT_FORMAT) {
            return Err(Malformed::new("checkpoint.format", it.format));
        }
        let hash = it.hash.as_slice().try_into();
        Ok(Self {
            revision: GlobalRevision(it.revision),
            hash: StateHash(u128::from_be_bytes(
                hash.map_err(|e| Malformed::new("checkpoint.hash", e))?,
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(revision: u64, hash: u128) -> Checkpoint {
        Checkpoint {
            revision: GlobalRevision(revision),
            hash: StateHash(hash),
        }
    }

    #[test]
    fn nodes_are_compared_at_the_latest_revision_they_have_in_common() {
        let ours = [checkpoint(1, 10), checkpoint(2, 20), checkpoint(3, 30)];
        let mut found = Comparison::default();
        found.add(
            "equal, and behind",
            &ours,
            &[checkpoint(1, 11), checkpoint(2, 20)],
        );
        found.add(
            "equal, and ahead",
            &ours,
            &[checkpoint(3, 30), checkpoint(4, 41)],
        );
        found.add("nothing in common", &ours, &[checkpoint(5, 50)]);
        assert_eq!((found.same, found.is_outvoted()), (2, false));
        found.add("another", &ours, &[checkpoint(3, 31)]);
        assert_eq!(found.differing, [("another".to_owned(), GlobalRevision(3))]);
        assert!(!found.is_outvoted());
        found.add("a third", &ours, &[checkpoint(2, 21)]);
        found.add("a fourth", &ours, &[checkpoint(2, 22)]);
        assert!(found.is_outvoted());
    }

    #[test]
    fn the_latest_checkpoints_are_kept() {
        let checkpoints = Checkpoints::default();
        for revision in 0..2 * KEPT as u64 {
            checkpoints.keep(checkpoint(revision, 0));
        }
        let kept = checkpoints.kept();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].revision.0, KEPT as u64);
    }

    #[test]
    fn a_checkpoint_survives_the_wire_and_a_short_hash_does_not() {
        let it = checkpoint(7, u128::MAX - 1);
        assert_eq!(Checkpoint::try_from(pb::Checkpoint::from(it)).unwrap(), it);
        let short = pb::Checkpoint {
            revision: 7,
            hash: vec![1],
            format: u32::from(SNAPSHOT_FORMAT),
        };
        assert!(Checkpoint::try_from(short).is_err());
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
}
