//! A disk in memory that is slow, forgets what was not flushed, fails and fills up.
//!
//! A [`Medium`] outlives the process; a [`SimDisk`] is the handle of one process. A crash advances the
//! medium's generation, after which writes through older handles have no effect.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lockstep_raft::store::{Done, Record, Slot, SnapshotHandle as _};
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use tokio::sync::Notify;

use super::bugs::Bug;
use super::chance::{nap, sleep_ms, up_to};
use super::storage::SimSnapshot;

/// With a bug that acknowledges a vote too early: so much later it is flushed.
const UNFLUSHED_MS: u64 = 2000;

/// The flushed content.
#[derive(Default)]
pub struct Image {
    pub log: BTreeMap<u64, Bytes>,
    pub slots: HashMap<Slot, Bytes>,
    pub snapshot: Option<SimSnapshot>,
}

/// A write that is not flushed yet.
pub enum Change {
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
                let current = self.snapshot.as_ref();
                if current.is_none_or(|current| current.index() < snapshot.index()) {
                    self.snapshot = Some(snapshot);
                }
            }
        }
    }
}

/// A disk, whichever process has it open.
#[derive(Clone)]
pub struct Medium(Arc<Mutex<MediumInner>>);

#[derive(Default)]
struct MediumInner {
    durable: Image,
    /// Asked for, not flushed, oldest first.
    pending: VecDeque<(Change, Option<Done>)>,
    generation: u64,
    flush_max: Duration,
    /// The next flush fails.
    fails_next: bool,
    /// A flush has failed: every later write fails, until the disk is opened again.
    failed: bool,
    full: bool,
    bug: Option<Bug>,
}

impl MediumInner {
    /// Makes a random prefix of the pending writes durable, and forgets the others. Returns whom that concerns.
    fn lose(&mut self) -> Vec<Done> {
        let survive = up_to(self.pending.len() as u64) as usize;
        let mut concerned = Vec::new();
        for (position, (change, done)) in self.pending.drain(..).enumerate() {
            concerned.extend(done);
            match change {
                change if position < survive => self.durable.make(change),
                Change::Append(mut records) if position == survive => {
                    records.truncate(up_to(records.len() as u64) as usize);
                    self.durable.make(Change::Append(records));
                }
                _ => {}
            }
        }
        concerned
    }

    /// Makes `count` pending writes durable, and returns whom to notify, in order.
    fn flush(&mut self, count: usize) -> Vec<Done> {
        let mut completions = Vec::new();
        for done in 0..count {
            let next = match self.bug {
                Some(Bug::WritesOutOfOrder) if count > 1 && done > 0 => None,
                Some(Bug::WritesOutOfOrder) => self.pending.remove(count - 1),
                _ => self.pending.pop_front(),
            };
            let Some((change, done)) = next else { break };
            self.durable.make(change);
            completions.extend(done);
        }
        completions
    }
}

impl Medium {
    /// An empty disk.
    pub fn new(bug: Option<Bug>) -> Self {
        Self(Arc::new(Mutex::new(MediumInner {
            bug,
            ..MediumInner::default()
        })))
    }

    fn inner<T>(&self, look: impl FnOnce(&mut MediumInner) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// A flush takes up to this long from now on.
    pub fn set_flush_max(&self, flush_max: Duration) -> Duration {
        self.inner(|inner| std::mem::replace(&mut inner.flush_max, flush_max))
    }

    /// Sets whether the next flush fails.
    pub fn fail_next_flush(&self, fails: bool) {
        self.inner(|inner| inner.fails_next = fails);
    }

    /// Whether a flush has failed since the disk was opened.
    pub fn has_failed(&self) -> bool {
        self.inner(|inner| inner.failed)
    }

    /// Sets whether there is no free space.
    pub fn set_full(&self, full: bool) {
        self.inner(|inner| {
            inner.full = full || (inner.full && inner.bug == Some(Bug::DiskStaysFull))
        });
    }

    /// The process crashes. A random prefix of the unflushed writes survives.
    pub fn crash(&self) {
        let forgotten = self.inner(|inner| {
            inner.generation += 1;
            inner.lose()
        });
        // Outside the lock: dropping the completions notifies their waiters.
        drop(forgotten);
    }

    /// Opens it, as a new process does.
    pub fn open(&self) -> SimDisk {
        self.crash();
        let generation = self.inner(|inner| {
            (inner.fails_next, inner.failed) = (false, false);
            inner.generation
        });
        let disk = SimDisk {
            medium: self.clone(),
            generation,
            asked: Arc::new(Notify::new()),
            unflushed_snapshot: Arc::default(),
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
    /// With [`Bug::SnapshotNotFlushed`]: what counts as current.
    unflushed_snapshot: Arc<Mutex<Option<SimSnapshot>>>,
}

fn crashed() -> io::Error {
    io::Error::other("the simulated process has crashed")
}

fn flush_failed() -> io::Error {
    io::Error::other("the simulated flush has failed")
}

impl SimDisk {
    /// Group commit: everything asked for before a flush begins is in it.
    async fn flush_for_ever(self) {
        loop {
            let (count, flush_max) = {
                let inner = self.medium.0.lock().unwrap();
                if inner.generation != self.generation || inner.failed {
                    return;
                }
                (inner.pending.len(), inner.flush_max)
            };
            if count == 0 {
                self.asked.notified().await;
                continue;
            }
            nap(flush_max).await;
            let (result, completions) = {
                let mut inner = self.medium.0.lock().unwrap();
                if inner.generation != self.generation {
                    return;
                }
                match std::mem::take(&mut inner.fails_next) {
                    false => (true, inner.flush(count)),
                    true => {
                        let ignored = inner.bug == Some(Bug::FlushErrorIgnored);
                        inner.failed = !ignored;
                        (ignored, inner.lose())
                    }
                }
            };
            for done in completions {
                done(if result { Ok(()) } else { Err(flush_failed()) });
            }
        }
    }

    pub fn ask(&self, change: Change, done: Done) {
        if matches!(change, Change::Save(Slot::Vote, _)) && self.has(Bug::VoteAckedBeforeFlush) {
            let disk = self.clone();
            drop(SimRuntime::spawn(async move {
                sleep_ms(UNFLUSHED_MS).await;
                disk.queue(change, Box::new(|_| ()));
            }));
            return done(Ok(()));
        }
        self.queue(change, done);
    }

    fn queue(&self, change: Change, done: Done) {
        let mut inner = self.medium.0.lock().unwrap();
        if inner.generation != self.generation || inner.failed {
            let error = if inner.failed {
                flush_failed()
            } else {
                crashed()
            };
            drop(inner);
            return done(Err(error));
        }
        let acked = match change {
            Change::Append(_) => inner.bug == Some(Bug::AppendAckedBeforeFlush),
            _ => false,
        };
        if acked {
            inner.pending.push_back((change, None));
            drop(inner);
            done(Ok(()));
        } else {
            inner.pending.push_back((change, Some(done)));
        }
        self.asked.notify_one();
    }

    pub fn look<T>(&self, look: impl FnOnce(&Image) -> T) -> io::Result<T> {
        let inner = self.medium.0.lock().unwrap();
        if inner.generation == self.generation {
            Ok(look(&inner.durable))
        } else {
            Err(crashed())
        }
    }

    /// Makes a snapshot current, durably.
    pub async fn make_current(&self, snapshot: SimSnapshot) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let flushed = Box::new(move |result| drop(tx.send(result)));
        if self.has(Bug::SnapshotNotFlushed) {
            *self.unflushed_snapshot.lock().unwrap() = Some(snapshot.clone());
            let disk = self.clone();
            drop(SimRuntime::spawn(async move {
                nap(Duration::from_secs(4)).await;
                disk.ask(Change::Snapshot(snapshot), flushed);
            }));
            return Ok(());
        }
        self.ask(Change::Snapshot(snapshot), flushed);
        rx.await.unwrap_or_else(|_| Err(crashed()))
    }

    /// The current snapshot.
    pub fn current(&self) -> Option<SimSnapshot> {
        let unflushed = self.unflushed_snapshot.lock().unwrap().clone();
        unflushed.or_else(|| self.look(|image| image.snapshot.clone()).ok().flatten())
    }

    pub fn flush_max(&self) -> Duration {
        self.medium.inner(|inner| inner.flush_max)
    }

    pub fn is_full(&self) -> bool {
        self.medium.inner(|inner| inner.full)
    }

    fn has(&self, bug: Bug) -> bool {
        self.medium.inner(|inner| inner.bug == Some(bug))
    }
}
