//! Makes a new cluster of one voter on the disk of a stopped node: from a state ([`found`]), or from the node's
//! own log ([`keep_only`]).
//!
//! Log indexes and terms continue where the earlier cluster was. So revisions and event cursors go on, and a
//! leader of the new cluster has a later term than any that claimed a sink in the state.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use lockstep_machine::{BackupHeader, DecodedBatch, State, Timestamp};
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use openraft_rt_tokio::TokioRuntime;

use super::log::LogStore;
use super::state_machine::read_meta;
use super::types::{
    Entry, LogId, Member, Membership, NodeId, Payload, SnapshotMeta, StoredMembership, Types, Vote,
};
use super::wire;
use crate::failpoints::{self, Failpoint};
use crate::store::{Record, Slot, Storage};

/// Bytes of log in memory at a time.
const READ_BYTES_MAX: usize = 1 << 20;

type OnTokio = Types<TokioRuntime>;

/// What the disk of a stopped node has.
#[derive(Debug, Clone)]
pub struct Remains {
    /// The members that its last membership names: id, name and addresses, and whether it votes.
    pub members: Vec<(NodeId, Member, bool)>,
    /// The highest term it knows.
    pub term: u64,
    /// The last log index covered by its snapshot; 0 for none.
    pub snapshot_index: u64,
    /// Known to be committed; 0 for none. More may have been.
    pub committed_index: u64,
    /// The last log index; 0 for none.
    pub last_index: u64,
    /// The term of the last log entry; 0 for none.
    pub last_term: u64,
    /// The leader's clock in the last log entry with requests, if such an entry is in the log.
    pub last_stamp: Option<Timestamp>,
    /// What the snapshot covers, if the log ends before that.
    hole: Option<LogId>,
}

/// Writes the state of a backup to an empty disk, for a cluster whose only member is `id`.
///
/// # Errors
///
/// The disk could not be written.
pub async fn found<S: Storage>(
    storage: &S,
    id: NodeId,
    member: Member,
    header: &BackupHeader,
    state: State,
) -> io::Result<()> {
    let (term, index) = (header.term, header.log_index);
    let last = LogId::new_term_index(term, index);
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), alone(id, member)?),
    };
    let meta = wire::SNAPSHOT_META.encode(&meta);
    storage.write_snapshot(index, meta, state).await?;
    failpoints::reach(Failpoint::RestoreSnapshotWritten);
    let log = LogStore::open(storage.clone(), 0).await?;
    save_vote(&log, term, id).await?;
    failpoints::reach(Failpoint::RestoreVoteSaved);
    Ok(())
}

/// Reads what the disk has.
///
/// # Errors
///
/// It cannot be read, or the node never belonged to a cluster.
pub async fn inspect<S: Storage>(storage: &S) -> io::Result<Remains> {
    let mut log = LogStore::open(storage.clone(), 0).await?;
    let vote = RaftLogReader::<OnTokio>::read_vote(&mut log).await?;
    let kept = RaftLogStorage::<OnTokio>::get_log_state(&mut log).await?;
    let committed = RaftLogStorage::<OnTokio>::read_committed(&mut log).await?;
    let snapshot = storage.current_snapshot();
    let snapshot = snapshot.map(|it| read_meta(&it)).transpose()?;
    let covered = snapshot.as_ref().and_then(|meta| meta.last_log_id);
    let mut membership = snapshot.map(|meta| meta.last_membership.membership().clone());
    let mut last_stamp = None;
    let (mut from, to) = (log.extent().0.max(1), log.extent().1 + 1);
    // The first entry of a cluster, its first membership, has index 0.
    if kept.last_purged_log_id.is_none() {
        from = 0;
    }
    while from < to {
        let entries = log.read(from, to, READ_BYTES_MAX).await?;
        let Some(last) = entries.last().map(|it| it.log_id.index) else {
            break;
        };
        from = last + 1;
        for entry in entries {
            match entry.payload {
                EntryPayload::Membership(it) => membership = Some(it),
                EntryPayload::Normal(Payload(bytes)) => {
                    let batch = DecodedBatch::decode(&bytes)
                        .map_err(|error| wire::unreadable_payload(entry.log_id.index, error))?;
                    last_stamp = Some(batch.stamp());
                }
                EntryPayload::Blank => {}
            }
        }
    }
    let membership = membership.filter(|it| it.nodes().next().is_some());
    let membership = membership.ok_or_else(|| {
        io::Error::other("the data folder has no members: its node never belonged to a cluster")
    })?;
    let voters: Vec<NodeId> = membership.voter_ids().collect();
    let nodes = membership.nodes();
    let members = nodes.map(|(id, member)| (*id, member.clone(), voters.contains(id)));
    let last = kept.last_log_id.max(covered);
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    let last_term = last.map_or(0, |id| id.leader_id.term);
    Ok(Remains {
        members: members.collect(),
        term: vote.map_or(0, |vote| vote.leader_id.term).max(last_term),
        snapshot_index: index(covered),
        committed_index: index(committed.max(covered)),
        last_index: index(last),
        last_term,
        last_stamp,
        hole: covered.filter(|covered| kept.last_log_id.as_ref() < Some(covered)),
    })
}

/// Appends a membership of `id` alone, in a later term than any that the node knows. Every entry in the log stays,
/// and is committed once the node leads: any of them may have been acknowledged, because this node may have been
/// part of the quorum that flushed it. Can be repeated.
///
/// # Errors
///
/// The disk could not be written.
pub async fn keep_only<S: Storage>(
    storage: &S,
    remains: &Remains,
    id: NodeId,
    member: Member,
) -> io::Result<()> {
    let mut log = LogStore::open(storage.clone(), 0).await?;
    if let Some(covered) = remains.hole {
        // A crash came between installing the snapshot and this.
        RaftLogStorage::<OnTokio>::purge(&mut log, covered).await?;
    }
    let term = remains.term + 1;
    let index = remains.last_index + 1;
    // First, because no entry may have a later term than the vote.
    save_vote(&log, term, id).await?;
    failpoints::reach(Failpoint::RecoverVoteSaved);
    let entry = Entry {
        log_id: LogId::new_term_index(term, index),
        payload: EntryPayload::Membership(alone(id, member)?),
    };
    let bytes = wire::ENTRY.encode(&entry);
    log.wait(|storage, done| storage.append(vec![Record { index, bytes }], done))
        .await?;
    failpoints::reach(Failpoint::RecoverAppended);
    Ok(())
}

fn alone(id: NodeId, member: Member) -> io::Result<Membership> {
    let member = Member {
        learner: false,
        ..member
    };
    let (voters, members) = (BTreeSet::from([id]), BTreeMap::from([(id, member)]));
    Membership::new(vec![voters], members).map_err(io::Error::other)
}

/// Not one that a quorum granted: the node stands for election in the next term.
async fn save_vote<S: Storage>(log: &LogStore<S>, term: u64, id: NodeId) -> io::Result<()> {
    let vote = wire::VOTE.encode(&Vote::new(term, id));
    log.wait(|storage, done| storage.save(Slot::Vote, vote, done))
        .await
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::store::{DiskStore, Identity, IdentityFile, StoreOptions};

    fn open(dir: &Path) -> DiskStore {
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            reserve_bytes: 0,
            free_bytes_min: 0,
        };
        let mut identity = IdentityFile::open(dir).unwrap();
        DiskStore::open(&mut identity, options, Arc::new(())).unwrap()
    }

    fn member(name: &str) -> Member {
        Member {
            name: name.to_owned(),
            learner: true,
            ..Member::default()
        }
    }

    fn names(remains: &Remains) -> Vec<(NodeId, &str, bool)> {
        let members = remains.members.iter();
        members
            .map(|(id, member, voter)| (*id, member.name.as_str(), *voter && !member.learner))
            .collect()
    }

    #[tokio::test]
    async fn a_new_cluster_has_one_voter_and_continues_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let header = BackupHeader::of(&State::default(), 42, 3);
        let store = open(dir.path());
        found(&store, 7, member("node1"), &header, State::default())
            .await
            .unwrap();
        drop(store);
        let mut identity = IdentityFile::open(dir.path()).unwrap();
        let belongs = |it: &mut Identity| it.cluster_id = Some("c9".to_owned());
        identity.update(belongs).unwrap();
        drop(identity);
        let store = open(dir.path());
        let remains = inspect(&store).await.unwrap();
        assert_eq!(names(&remains), [(7, "node1", true)]);
        assert_eq!((remains.last_term, remains.last_index), (3, 42));
        assert_eq!((remains.committed_index, remains.term), (42, 3));
    }

    #[tokio::test]
    async fn a_node_that_is_kept_alone_keeps_its_log_and_advances_its_term() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let first = Entry {
            log_id: LogId::new_term_index(0, 0),
            payload: EntryPayload::Membership(
                Membership::new(
                    vec![BTreeSet::from([1, 2, 3])],
                    BTreeMap::from([1, 2, 3].map(|id| (id, member("one of three")))),
                )
                .unwrap(),
            ),
        };
        let blank = |index| Entry {
            log_id: LogId::new_term_index(4, index),
            payload: EntryPayload::Blank,
        };
        let log = LogStore::open(store.clone(), 0).await.unwrap();
        let entries = [first, blank(1), blank(2)].map(|entry| Record {
            index: entry.log_id.index,
            bytes: wire::ENTRY.encode(&entry),
        });
        log.wait(|storage, done| storage.append(entries.into(), done))
            .await
            .unwrap();
        save_vote(&log, 6, 2).await.unwrap();
        let remains = inspect(&store).await.unwrap();
        assert_eq!(remains.members.len(), 3);
        assert_eq!((remains.last_index, remains.last_term), (2, 4));
        assert_eq!((remains.term, remains.committed_index), (6, 0));
        // Interrupted after this, the work is repeated.
        for repeated in 0..2 {
            let remains = inspect(&store).await.unwrap();
            keep_only(&store, &remains, 3, member("node3"))
                .await
                .unwrap();
            let kept = inspect(&store).await.unwrap();
            assert_eq!(names(&kept), [(3, "node3", true)]);
            assert_eq!(
                (kept.last_index, kept.last_term),
                (3 + repeated, 7 + repeated)
            );
            assert_eq!(kept.term, 7 + repeated);
        }
        assert_eq!(store.bounds().unwrap(), Some((0, 4)));
    }

    #[tokio::test]
    async fn a_log_that_ends_before_the_snapshot_continues_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let header = BackupHeader::of(&State::default(), 42, 3);
        found(&store, 7, member("node1"), &header, State::default())
            .await
            .unwrap();
        let remains = inspect(&store).await.unwrap();
        keep_only(&store, &remains, 7, member("node1"))
            .await
            .unwrap();
        assert_eq!(store.bounds().unwrap(), Some((43, 43)));
    }

    #[tokio::test]
    async fn a_node_that_never_joined_cannot_be_recovered() {
        let dir = tempfile::tempdir().unwrap();
        let error = inspect(&open(dir.path())).await.unwrap_err().to_string();
        assert!(error.contains("never belonged to a cluster"), "{error}");
    }
}
