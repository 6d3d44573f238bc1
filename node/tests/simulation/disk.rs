//! A disk in memory that is slow, and forgets what was not flushed.
//!
//! A [`Medium`] outlives the process; a [`SimDisk`] is the handle of one process. A crash advances the
//! medium's generation, after which writes through older handles have no effect.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lockstep_machine::{Restore, State};
use lockstep_raft::store::{BoxFuture, DiskSpace, Done, Record, Slot, SnapshotHandle, Storage};
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use tokio::sync::Notify;

use super::chance::{nap, up_to};

/// The flushed content.
#[derive(Default)]
struct Image {
    log: BTreeMap<u64, Bytes>,
    slots: HashMap<Slot, Bytes>,
    snapshot: Option<SimSnapshot>,
}

/// A write that is not flushed yet.
enum Change {
    Append(Vec<Record>),
    TruncateAfter(Option<u64>),
    Purge { upto: u64, marker: Bytes },
    Save(Slot, Bytes),
    Snapshot(SimSnapshot),
}

impl Image {
    fn make(&mut self, change: Change) {
        match change {
            Change::Append(records) => self
                .log
                .extend(records.into_iter().map(|r| (r.index, r.bytes))),
            Change::TruncateAfter(kept) => {
                drop(self.log.split_off(&kept.map_or(0, |kept| kept + 1)))
            }
            Change::Purge { upto, marker } => {
                self.slots.insert(Slot::Purged, marker);
                self.log = self.log.split_off(&(upto + 1));
            }
            Change::Save(slot, value) => drop(self.slots.insert(slot, value)),
            Change::Snapshot(snapshot) => {
                if self
                    .snapshot
                    .as_ref()
                    .is_none_or(|current| current.index < snapshot.index)
                {
                    self.snapshot = Some(snapshot);
                }
            }
        }
    }
}

/// A disk, whichever process has it open.
#[derive(Clone, Default)]
pub struct Medium(Arc<Mutex<MediumInner>>);

#[derive(Default)]
struct MediumInner {
    durable: Image,
    /// Asked for, not flushed, oldest first.
    pending: VecDeque<(Change, Option<Done>)>,
    generation: u64,
    flush_max: Duration,
    acks_before_flush: bool,
}

impl Medium {
    /// A flush takes up to this long from now on.
    pub fn set_flush_max(&self, flush_max: Duration) -> Duration {
        std::mem::replace(&mut self.0.lock().unwrap().flush_max, flush_max)
    }

    /// An injected bug: appends are acknowledged before they are flushed.
    pub fn plant_acks_before_flush(&self) {
        self.0.lock().unwrap().acks_before_flush = true;
    }

    /// The process crashes. A random prefix of the unflushed writes survives.
    pub fn crash(&self) {
        let forgotten = {
            let mut inner = self.0.lock().unwrap();
            inner.generation += 1;
            let survive = up_to(inner.pending.len() as u64);
            for _ in 0..survive {
                let Some((change, _)) = inner.pending.pop_front() else {
                    break;
                };
                inner.durable.make(change);
            }
            if let Some((Change::Append(mut records), _)) = inner.pending.pop_front() {
                records.truncate(up_to(records.len() as u64) as usize);
                inner.durable.make(Change::Append(records));
            }
            std::mem::take(&mut inner.pending)
        };
        // Outside the lock: dropping the completions notifies their waiters.
        drop(forgotten);
    }

    /// Opens it, as a new process does.
    pub fn open(&self) -> SimDisk {
        self.crash();
        let generation = self.0.lock().unwrap().generation;
        let disk = SimDisk {
            medium: self.clone(),
            generation,
            asked: Arc::new(Notify::new()),
        };
        drop(SimRuntime::spawn(disk.clone().flush_for_ever()));
        disk
    }
}

/// One process's opening of a [`Medium`].
#[derive(Clone)]
pub struct SimDisk {
    medium: Medium,
    generation: u64,
    asked: Arc<Notify>,
}

fn crashed() -> io::Error {
    io::Error::other("the simulated process has crashed")
}

impl SimDisk {
    /// Group commit: everything asked for before a flush begins is in it.
    async fn flush_for_ever(self) {
        loop {
            let (count, flush_max) = {
                let inner = self.medium.0.lock().unwrap();
                if inner.generation != self.generation {
                    return;
                }
                (inner.pending.len(), inner.flush_max)
            };
            if count == 0 {
                self.asked.notified().await;
                continue;
            }
            nap(flush_max).await;
            let mut completions = Vec::new();
            {
                let mut inner = self.medium.0.lock().unwrap();
                if inner.generation != self.generation {
                    return;
                }
                for _ in 0..count {
                    let Some((change, done)) = inner.pending.pop_front() else {
                        break;
                    };
                    inner.durable.make(change);
                    completions.extend(done);
                }
            }
            for done in completions {
                done(Ok(()));
            }
        }
    }

    fn ask(&self, change: Change, done: Done) {
        let mut inner = self.medium.0.lock().unwrap();
        if inner.generation != self.generation {
            drop(inner);
            return done(Err(crashed()));
        }
        if inner.acks_before_flush && matches!(change, Change::Append(_)) {
            inner.pending.push_back((change, None));
            drop(inner);
            done(Ok(()));
        } else {
            inner.pending.push_back((change, Some(done)));
        }
        self.asked.notify_one();
    }

    fn look<T>(&self, look: impl FnOnce(&Image) -> T) -> io::Result<T> {
        let inner = self.medium.0.lock().unwrap();
        if inner.generation == self.generation {
            Ok(look(&inner.durable))
        } else {
            Err(crashed())
        }
    }

    async fn make_current(&self, snapshot: SimSnapshot) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.ask(
            Change::Snapshot(snapshot),
            Box::new(move |result| drop(tx.send(result))),
        );
        rx.await.unwrap_or_else(|_| Err(crashed()))
    }

    fn flush_max(&self) -> Duration {
        self.medium.0.lock().unwrap().flush_max
    }
}

/// Reads see only what is flushed, which is all that [`Storage`] guarantees.
impl Storage for SimDisk {
    type Snapshot = SimSnapshot;

    fn bounds(&self) -> io::Result<Option<(u64, u64)>> {
        self.look(|image| {
            let (first, _) = image.log.first_key_value()?;
            let (last, _) = image.log.last_key_value()?;
            Some((*first, *last))
        })
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> BoxFuture<io::Result<Vec<Record>>> {
        let read = self.look(|image| {
            let (mut records, mut bytes) = (Vec::new(), 0);
            for (&index, value) in image.log.range(from..to.max(from)) {
                bytes += value.len();
                let gap = index != from + records.len() as u64;
                if gap || (bytes > bytes_max && !records.is_empty()) {
                    break;
                }
                records.push(Record {
                    index,
                    bytes: value.clone(),
                });
            }
            records
        });
        Box::pin(std::future::ready(read))
    }

    fn append(&self, records: Vec<Record>, done: Done) {
        self.ask(Change::Append(records), done);
    }

    fn truncate_after(&self, last_kept: Option<u64>, done: Done) {
        self.ask(Change::TruncateAfter(last_kept), done);
    }

    fn purge(&self, upto: u64, marker: Bytes, done: Done) {
        self.ask(Change::Purge { upto, marker }, done);
    }

    fn log_bytes_after(&self, index: u64) -> u64 {
        let bytes = self.look(|image| {
            let after = image.log.range(index.saturating_add(1)..);
            after.map(|(_, value)| value.len() as u64).sum()
        });
        bytes.unwrap_or(0)
    }

    fn log_tail(&self, bytes: u64) -> Option<u64> {
        let tail = self.look(|image| {
            let mut sum = 0;
            let tail = image.log.iter().rev().take_while(|(_, value)| {
                sum += value.len() as u64;
                sum <= bytes
            });
            let first = tail.last().or(image.log.last_key_value());
            first.map(|(index, _)| *index)
        });
        tail.ok().flatten()
    }

    fn space(&self) -> BoxFuture<io::Result<DiskSpace>> {
        let space = self.look(|_| DiskSpace {
            free: 1 << 40,
            ..DiskSpace::default()
        });
        Box::pin(std::future::ready(space))
    }

    fn save(&self, slot: Slot, value: Bytes, done: Done) {
        assert_ne!(slot, Slot::Purged, "only a purge writes the purge point");
        self.ask(Change::Save(slot, value), done);
    }

    fn load(&self, slot: Slot) -> io::Result<Option<Bytes>> {
        self.look(|image| image.slots.get(&slot).cloned())
    }

    fn write_snapshot(
        &self,
        index: u64,
        meta: Bytes,
        state: State,
    ) -> BoxFuture<io::Result<SimSnapshot>> {
        let disk = self.clone();
        Box::pin(async move {
            let snapshot = SimSnapshot {
                index,
                meta,
                records: Arc::new(state.records().collect()),
            };
            nap(disk.flush_max() * 4).await;
            disk.make_current(snapshot.clone()).await?;
            Ok(snapshot)
        })
    }

    fn read_snapshot(&self, snapshot: SimSnapshot) -> BoxFuture<io::Result<State>> {
        let slow = self.flush_max();
        Box::pin(async move {
            nap(slow).await;
            let mut restore = Restore::new();
            for record in snapshot.records.iter() {
                restore.push(record).map_err(io::Error::other)?;
            }
            restore.finish().map_err(io::Error::other)
        })
    }

    fn adopt_snapshot(&self, snapshot: SimSnapshot) -> BoxFuture<io::Result<()>> {
        let disk = self.clone();
        Box::pin(async move { disk.make_current(snapshot).await })
    }

    fn current_snapshot(&self) -> Option<SimSnapshot> {
        self.look(|image| image.snapshot.clone()).ok().flatten()
    }
}

/// A snapshot on a [`Medium`], or on its way to one.
#[derive(Clone)]
pub struct SimSnapshot {
    index: u64,
    meta: Bytes,
    records: Arc<Vec<Vec<u8>>>,
}

impl SnapshotHandle for SimSnapshot {
    fn index(&self) -> u64 {
        self.index
    }

    fn meta(&self) -> Bytes {
        self.meta.clone()
    }

    fn length(&self) -> u64 {
        self.records.iter().map(|record| record.len() as u64).sum()
    }
}
