//! Writes to a store as a node does, for tests: terms that change, entries that are cut off, snapshots, purges.

use std::fs;

use openraft::EntryPayload;
use rand::Rng;

use super::*;
use crate::consensus::types::{Entry, LogId, Payload, Vote};
use crate::consensus::wire;

/// A store, and where its node is.
pub(super) struct Node {
    pub(super) store: DiskStore,
    /// The index of the next entry.
    pub(super) next: u64,
    pub(super) term: u64,
    pub(super) purged: Option<u64>,
    random: StdRng,
}

impl Node {
    /// Goes on where the folder ends.
    pub(super) fn open(dir: &Path) -> Node {
        let store = open(dir).unwrap();
        let purged = purged_of(&store);
        let last = store.bounds().unwrap().map(|(_, last)| last).or(purged);
        let next = last.map_or(0, |last| last + 1);
        Node {
            next,
            term: term_of(&store),
            purged,
            random: StdRng::seed_from_u64(next),
            store,
        }
    }

    pub(super) fn vote(&mut self) {
        self.term += 1;
        let vote = encode_vote(self.term);
        wait(|done| self.store.save(Slot::Vote, vote, done)).unwrap();
    }

    /// Votes in so many terms, without waiting for each.
    pub(super) fn write_votes(&mut self, count: u64) {
        for _ in 1..count {
            self.term += 1;
            self.store
                .save(Slot::Vote, encode_vote(self.term), Box::new(drop));
        }
        self.vote();
    }

    /// Appends so many entries, a few at a time, and waits for all of them.
    pub(super) fn append(&mut self, count: u64) {
        let (answer, answered) = mpsc::channel();
        let end = self.next + count;
        while self.next < end {
            let batch = self.random.random_range(1..=20).min(end - self.next);
            let records = (self.next..self.next + batch).map(|index| Record {
                index,
                bytes: entry_at(index, self.term),
            });
            let answer = answer.clone();
            let done = Box::new(move |result| answer.send(result).unwrap());
            self.store.append(records.collect(), done);
            self.next += batch;
        }
        drop(answer);
        answered.iter().for_each(|result| result.unwrap());
    }

    /// Cuts off so many entries.
    pub(super) fn truncate(&mut self, count: u64) {
        self.next -= count;
        let kept = Some(self.next - 1);
        wait(|done| self.store.truncate_after(kept, done)).unwrap();
    }

    /// Writes a snapshot, and keeps only so many entries minus one.
    pub(super) fn compact(&mut self, keep: u64) {
        let (term, index) = (self.term, self.next - keep);
        let state = State::default();
        let written = (self.store).write_snapshot(index, "meta".into(), state);
        runtime().block_on(written).unwrap();
        let marker = wire::PURGED.encode(&LogId::new_term_index(term, index));
        wait(|done| self.store.purge(index, marker, done)).unwrap();
        self.purged = Some(index);
    }
}

/// The entry at an index that was appended in a term: always the same.
pub(super) fn entry_at(index: u64, term: u64) -> Bytes {
    let mut random = StdRng::seed_from_u64(index << 16 | term);
    let mut payload = vec![0; random.random_range(10..3000)];
    random.fill_bytes(&mut payload);
    wire::ENTRY.encode(&Entry {
        log_id: LogId::new_term_index(term, index),
        payload: EntryPayload::Normal(Payload(payload.into())),
    })
}

pub(super) fn encode_vote(term: u64) -> Bytes {
    wire::VOTE.encode(&Vote::new(term, 1))
}

/// The term of the vote; 0 where there is none.
pub(super) fn term_of(store: &DiskStore) -> u64 {
    let vote = wire::VOTE.load(store, Slot::Vote).unwrap();
    vote.map_or(0, |vote| vote.leader_id.term)
}

pub(super) fn purged_of(store: &DiskStore) -> Option<u64> {
    let purged = wire::PURGED.load(store, Slot::Purged).unwrap();
    purged.map(|id| id.index)
}

/// A copy of a folder, even of one that is in use: what the end of its process would leave.
pub(super) fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_files(dir, copy.path());
    copy
}

pub(super) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_files(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
