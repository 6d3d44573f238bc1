//! Implements openraft's log on a [`Storage`].
//!
//! Recent entries stay in memory, decoded, for replication and apply; only older entries are read from
//! disk, and no reader waits for a write. An entry is evicted from memory only once it is durable, so
//! that every reader always sees every entry.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use super::types::{Entry, LogId, Runtime, Types, Vote};
use super::wire;
use crate::failpoints::{self, Failpoint};
use crate::store::{Record, Slot, Storage, StoreError};

/// The most that one read gives to replication or to the state machine, bytes: what fits well into one RPC.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log of one node. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct LogStore<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    storage: S,
    recent: Mutex<Recent>,
    recent_bytes_max: usize,
}

/// The in-memory tail of the log, and the range of the whole log.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Everything up to here is durable.
    durable: u64,
    /// Number of truncations: a completion from before a truncation must not advance `durable`.
    epoch: u64,
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
}

impl<S: Storage> LogStore<S> {
    /// Opens the log on `storage`, keeping about `recent_bytes_max` bytes of it in memory.
    pub async fn open(storage: S, recent_bytes_max: usize) -> io::Result<Self> {
        let purged = wire::PURGED.load(&storage, Slot::Purged)?;
        let vote = wire::VOTE.load(&storage, Slot::Vote)?;
        let noted = storage.noted_vote().map(|it| wire::VOTE.decode(it));
        check_vote(vote, noted.transpose()?)?;
        let last = match storage.bounds()? {
            Some((first, _)) if purged.is_none() && first > 0 => {
                let reason = "it is missing, and the log was never purged";
                return Err(wire::damaged_entry(0, reason));
            }
            Some((_, index)) if purged.is_none_or(|p| p.index < index) => {
                let record = storage.read(index, index + 1, usize::MAX).await?.pop();
                let record = record.ok_or_else(|| wire::damaged_entry(index, "it is missing"))?;
                Some(wire::decode_entry(record.bytes, index)?.log_id)
            }
            _ => purged,
        };
        let recent = Recent {
            durable: last.map_or(0, |id| id.index),
            purged,
            last,
            vote,
            ..Recent::default()
        };
        let inner = Inner {
            storage,
            recent: Mutex::new(recent),
            recent_bytes_max,
        };
        let inner = Arc::new(inner);
        Ok(Self { inner })
    }

    /// The first and the last index of the log; 0 if it is empty.
    pub fn extent(&self) -> (u64, u64) {
        let recent = self.inner.recent.lock();
        let last = recent.last.map_or(0, |id| id.index);
        let first = recent.purged.map_or(0, |id| id.index) + 1;
        (if first <= last { first } else { 0 }, last)
    }

    pub(super) async fn wait(&self, call: impl FnOnce(&S, crate::store::Done)) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(tx.send(result)));
        call(&self.inner.storage, done);
        let stopped = |_| Err(io::Error::other("the store stopped before it answered"));
        rx.await.unwrap_or_else(stopped)
    }

    /// Entries `from..to` from memory and, before that, the disk: stops early at `bytes_max`. Begins
    /// with the first there is.
    pub(super) async fn read(
        &self,
        mut from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        loop {
            let memory_from = {
                let recent = self.inner.recent.lock();
                match recent.entries.front() {
                    Some(first) if first.log_id.index <= from => {
                        return Ok(recent.range(from, to, bytes_max));
                    }
                    Some(first) => first.log_id.index,
                    None => to,
                }
            };
            let storage = &self.inner.storage;
            let records = storage.read(from, to.min(memory_from), bytes_max).await?;
            if records.is_empty() && memory_from < to {
                // An entry that is in memory now may have been evicted by the next lookup.
                from = memory_from;
                continue;
            }
            let entries = records.into_iter();
            return (entries.map(|it| wire::decode_entry(it.bytes, it.index))).collect();
        }
    }
}

/// Refuses to go on with a lower vote than one that was acknowledged: the node could vote twice in a term.
fn check_vote(vote: Option<Vote>, noted: Option<Vote>) -> io::Result<()> {
    // Votes are ordered only in part.
    let is_kept = |noted: &Vote| vote.is_some_and(|vote| vote >= *noted);
    let Some(noted) = noted.filter(|noted| !is_kept(noted)) else {
        return Ok(());
    };
    let found = vote.map_or("no vote".to_owned(), |vote| format!("the vote {vote}"));
    let reason = format!("the log holds {found}, but {noted} was flushed before the node stopped");
    Err(StoreError::damaged("slot", "vote", reason).into())
}

impl<S> Inner<S> {
    fn durable(&self, upto: u64, epoch: u64) {
        let mut recent = self.recent.lock();
        if recent.epoch == epoch {
            recent.durable = recent.durable.max(upto);
        }
        let durable = recent.durable;
        while recent.bytes > self.recent_bytes_max && recent.pop_front(durable) {}
    }
}

impl Recent {
    fn range(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.entries.front().map(|e| e.log_id.index) else {
            return Vec::new();
        };
        let skip = from.saturating_sub(first) as usize;
        let entries = self.entries.iter().skip(skip);
        let (mut bytes, mut out) = (0, Vec::new());
        for entry in entries.take_while(|it| it.log_id.index < to) {
            bytes += wire::entry_size(entry);
            if bytes > bytes_max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        out
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += wire::entry_size(&entry);
        self.last = Some(entry.log_id);
        self.entries.push_back(entry);
    }

    /// Forgets the first entry if its index is at most `upto`; whether it did.
    fn pop_front(&mut self, upto: u64) -> bool {
        if self.entries.front().is_none_or(|it| it.log_id.index > upto) {
            return false;
        }
        let entry = self.entries.pop_front();
        self.bytes -= entry.as_ref().map_or(0, wire::entry_size);
        true
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(i) => i + 1,
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl<RT: Runtime, S: Storage> RaftLogReader<Types<RT>> for LogStore<S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let entries = RaftLogReader::<Types<RT>>::entries_stream(self, range).await;
        entries.try_collect().await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.read(start, end, READ_BYTES_MAX).await?;
        // What was purged meanwhile must not leave a gap before the rest: openraft would send it.
        if entries.first().is_some_and(|it| it.log_id.index != start) {
            entries.clear();
        }
        Ok(entries)
    }

    /// Entries to be applied, which may be the whole log: in parts, so that only one part is in memory.
    async fn entries_stream<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend {
        let (from, to) = half_open(&range);
        let to = to.min(self.extent().1 + 1);
        let log = self.clone();
        let parts = stream::try_unfold(from, move |from| {
            let log = log.clone();
            async move {
                if from >= to {
                    return Ok::<_, io::Error>(None);
                }
                let part = log.read(from, to, READ_BYTES_MAX).await?;
                let next = part.last().map(|last| last.log_id.index + 1);
                Ok(next.map(|next| (part, next)))
            }
        });
        parts
            .map_ok(|part| stream::iter(part.into_iter().map(Ok)))
            .try_flatten()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.inner.recent.lock().vote)
    }
}

impl<RT: Runtime, S: Storage> RaftLogStorage<Types<RT>> for LogStore<S> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<RT>>> {
        let recent = self.inner.recent.lock();
        Ok(LogState {
            last_purged_log_id: recent.purged,
            last_log_id: recent.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.inner.recent.lock().vote = Some(*vote);
        let bytes = wire::VOTE.encode(vote);
        self.wait(|storage, done| storage.save(Slot::Vote, bytes, done))
            .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let bytes = committed.map_or_else(Bytes::new, |id| wire::COMMITTED.encode(&id));
        // Without waiting: it saves work after a restart and is not needed for safety.
        (self.inner.storage).save(Slot::Committed, bytes, Box::new(|_| ()));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let saved = self.inner.storage.load(Slot::Committed)?;
        let saved = saved.filter(|bytes| !bytes.is_empty());
        let committed = saved
            .map(|bytes| wire::COMMITTED.decode(bytes))
            .transpose()?;
        let last = self.inner.recent.lock().last;
        Ok(committed.filter(|committed| last.as_ref() >= Some(committed)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<RT>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut records, mut reached) = (Vec::new(), None);
        let (upto, epoch) = {
            let mut recent = self.inner.recent.lock();
            for entry in entries {
                if let EntryPayload::Membership(membership) = &entry.payload {
                    reached = Some(match membership.get_joint_config().len() > 1 {
                        true => Failpoint::MembershipJointAppended,
                        false => Failpoint::MembershipFinalAppended,
                    });
                }
                records.push(Record {
                    index: entry.log_id.index,
                    bytes: wire::ENTRY.encode(&entry),
                });
                recent.push(entry);
            }
            (recent.last.map_or(0, |id| id.index), recent.epoch)
        };
        let inner = Arc::downgrade(&self.inner);
        let done = Box::new(move |result: io::Result<()>| {
            if result.is_ok()
                && let Some(inner) = inner.upgrade()
            {
                inner.durable(upto, epoch);
            }
            callback.io_completed(result);
        });
        self.inner.storage.append(records, done);
        reached.into_iter().for_each(failpoints::reach);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let kept = last_log_id.map(|id| id.index);
        {
            let mut recent = self.inner.recent.lock();
            recent.epoch += 1;
            recent.durable = recent.durable.min(kept.unwrap_or(0));
            while (recent.entries.back()).is_some_and(|it| Some(it.log_id.index) > kept) {
                let entry = recent.entries.pop_back();
                recent.bytes -= entry.as_ref().map_or(0, wire::entry_size);
            }
            // Truncating beyond the end has no effect.
            recent.last = recent.last.min(last_log_id).max(recent.purged);
        }
        self.wait(|storage, done| storage.truncate_after(kept, done))
            .await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        {
            let mut recent = self.inner.recent.lock();
            while recent.pop_front(log_id.index) {}
            recent.purged = Some(log_id);
            if recent.last.is_none_or(|last| last < log_id) {
                recent.last = Some(log_id);
                recent.durable = recent.durable.max(log_id.index);
            }
        }
        let marker = wire::PURGED.encode(&log_id);
        self.wait(|storage, done| storage.purge(log_id.index, marker, done))
            .await
    }
}

#[cfg(test)]
mod tests;
