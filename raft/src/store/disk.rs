//! The real disk: slots in sled, the log and the snapshots in files.
//!
//! ```text
//! <data folder>/log/         sled: slots and the catalogue; and the log's segments
//! <data folder>/watermark    what the log must still hold
//! <data folder>/snapshots/   one file each
//! <data folder>/reserve      preallocated, deleted when the disk is full
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_machine::State;

use super::log::Log;
use super::log_writer::LogWriter;
use super::opening::opening;
use super::reserve::{self, Reserve};
use super::slots::{SlotName, Slots};
use super::snapshot::{self, SnapshotFile, SnapshotReceiver, Snapshots, on_disk_thread};
use super::watermark::Watermark;
use super::writer::{Operation, Writer};
use super::{
    BoxFuture, DiskSpace, Done, IdentityFile, Record, Slot, Storage, StoreError, binding, database,
    files, legacy,
};
use crate::failpoints::{self, Failpoint};

/// How much memory and disk the store may take for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// sled's page cache, bytes.
    pub cache_bytes: u64,
    /// Size of the reserve file in bytes; 0 for none.
    pub reserve_bytes: u64,
    /// Bytes that a snapshot leaves free while it is written or received, for the log.
    pub free_bytes_min: u64,
}

/// Callbacks from the store. They must return quickly: all but the first run on the writer thread.
#[allow(unused_variables)]
pub trait StoreObserver: Send + Sync {
    /// While the store opens: so many bytes of the current snapshot are restored, of so many.
    fn restoring(&self, bytes: u64, of: u64) {}

    /// A flush finished: its duration, and the number of operations it made durable. Called before their completions.
    fn flushed(&self, took: Duration, operations: usize) {}

    /// The store failed permanently; the node must exit. Called once, before the completions.
    fn failed(&self, error: &StoreError) {}
}

/// An observer that does nothing.
impl StoreObserver for () {}

/// [`Storage`] over a data folder. Clones share it; the last one to go waits for what is queued.
#[derive(Clone)]
pub struct DiskStore {
    dir: Arc<Path>,
    writer: Arc<Writer>,
    log: Log,
    slots: Slots,
    snapshots: Arc<Snapshots>,
    /// The vote that the watermark had, when the store was opened.
    noted_vote: Option<Bytes>,
}

/// What an open data folder consists of.
struct Opened {
    log: Log,
    log_writer: LogWriter,
    slots: Slots,
    watermark: Watermark,
    snapshots: Snapshots,
    noted_vote: Option<Bytes>,
}

impl DiskStore {
    /// Opens the store in the data folder of `identity`, makes it where there is none, and reads and checks
    /// everything in it. Binds the folder's files to each other, if that was not done. Blocks.
    ///
    /// On a full disk, the reserve file is deleted, and opening is tried once more. If a process that was just
    /// killed still holds the lock, waits a few seconds for it.
    pub fn open(
        identity: &mut IdentityFile,
        options: StoreOptions,
        observer: Arc<dyn StoreObserver>,
    ) -> Result<DiskStore, StoreError> {
        let dir = &identity.dir().to_owned();
        let reserve = Reserve::new(dir, options.reserve_bytes);
        let open = || open(identity, options, &*observer);
        let opened = opening(dir, || match open() {
            Err(error) if error.is_disk_full() && reserve.give_back() => open(),
            opened => opened,
        });
        let opened = opened.map_err(|error| error.found_in(dir))?;
        binding::complete(identity)?;
        reserve.ensure();
        let Opened {
            log,
            log_writer,
            slots,
            watermark,
            snapshots,
            noted_vote,
        } = opened;
        let parts = (log.clone(), log_writer, slots.clone());
        let writer = Writer::start(parts, watermark, reserve, observer)
            .map_err(StoreError::io("start the writing thread for", dir))?;
        Ok(DiskStore {
            dir: dir.as_path().into(),
            writer: Arc::new(writer),
            log,
            slots,
            snapshots: Arc::new(snapshots),
            noted_vote,
        })
    }

    /// Begins to take in a snapshot of `length` bytes from a peer. Blocks, briefly.
    pub fn receive_snapshot(&self, length: u64) -> io::Result<SnapshotReceiver> {
        self.snapshots.receive(length)
    }

    /// Restores a received snapshot in advance, so that Raft accepts none from which no state can be restored.
    /// The next to read it gets that state.
    pub async fn restore_in_advance(&self, snapshot: &SnapshotFile) -> io::Result<()> {
        let state = self.read_snapshot(snapshot.clone()).await?;
        snapshot.keep_restored(state);
        Ok(())
    }

    fn make_current(&self, snapshot: &SnapshotFile) -> io::Result<()> {
        self.snapshots.make_current(snapshot, |value| {
            self.writer.perform(Operation::Save {
                name: SlotName::Snapshot,
                value,
            })
        })
    }
}

fn open(
    identity: &IdentityFile,
    options: StoreOptions,
    observer: &dyn StoreObserver,
) -> Result<Opened, StoreError> {
    let dir = identity.dir();
    let log_dir = log_dir(dir);
    binding::check_log_exists(identity, &log_dir)?;
    let database = database::open(&log_dir, options.cache_bytes)?;
    failpoints::reach(Failpoint::DatabaseOpened);
    let slots = Slots::open(database.meta)?;
    let has_entries = legacy::has_entries(&database.log)? || !slots.segments()?.is_empty();
    binding::check_owner(identity, &slots, has_entries)?;
    let node = identity.identity();
    legacy::move_entries(&database.log, &log_dir, node.node_id, &slots)?;
    let log = Log::open(&log_dir, node.node_id, &slots)?;
    let snapshots = Snapshots::open(
        dir.join(super::SNAPSHOTS),
        options.free_bytes_min,
        slots.load(SlotName::Snapshot)?,
        &|bytes, of| observer.restoring(bytes, of),
    )?;
    binding::set_owner(identity, &slots)?;
    slots.flush()?;
    let (watermark, noted_vote) = Watermark::open(dir, node.node_id, node.bound, &log, &slots)?;
    if log.take_torn().is_some() {
        tracing::info!(
            last = log.bounds().map(|(_, last)| last),
            "ignoring an incomplete log entry that a crash left after the last one; it was never acknowledged"
        );
    }
    Ok(Opened {
        log_writer: LogWriter::new(log.clone(), slots.clone())?,
        log,
        slots,
        watermark,
        snapshots,
        noted_vote,
    })
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join(super::LOG)
}

impl Storage for DiskStore {
    type Snapshot = SnapshotFile;

    /// Opening has checked that the log has no gaps.
    fn bounds(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(self.log.bounds())
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> BoxFuture<io::Result<Vec<Record>>> {
        let log = self.log.clone();
        Box::pin(on_disk_thread(move || Ok(log.read(from, to, bytes_max)?)))
    }

    fn append(&self, records: Vec<Record>, done: Done) {
        self.writer.submit(Operation::Append(records), done);
    }

    fn truncate_after(&self, last_kept: Option<u64>, done: Done) {
        self.writer
            .submit(Operation::TruncateAfter(last_kept), done);
    }

    fn purge(&self, upto: u64, marker: Bytes, done: Done) {
        self.writer.submit(Operation::Purge { upto, marker }, done);
    }

    fn log_bytes_after(&self, index: u64) -> u64 {
        self.log.bytes_after(index)
    }

    fn log_tail(&self, bytes: u64) -> Option<u64> {
        self.log.tail(bytes)
    }

    fn space(&self) -> BoxFuture<io::Result<DiskSpace>> {
        let dir = self.dir.clone();
        Box::pin(on_disk_thread(move || {
            let log_used = files::size_on_disk(&log_dir(&dir))?;
            Ok(DiskSpace {
                free: reserve::free_bytes(&dir)?,
                used: log_used + files::size_on_disk(&dir.join(super::SNAPSHOTS))?,
                log_used,
            })
        }))
    }

    fn save(&self, slot: Slot, value: Bytes, done: Done) {
        if slot == Slot::Purged {
            return done(Err(StoreError::PurgePointSaved.into()));
        }
        if slot == Slot::Committed {
            self.writer.note_committed(value);
            return done(Ok(()));
        }
        self.writer.submit(
            Operation::Save {
                name: SlotName::Public(slot),
                value,
            },
            done,
        );
    }

    fn noted_vote(&self) -> Option<Bytes> {
        self.noted_vote.clone()
    }

    fn load(&self, slot: Slot) -> io::Result<Option<Bytes>> {
        Ok(match slot {
            Slot::Purged => self.slots.purge_point()?.map(|(_, marker)| marker),
            slot => self.slots.load(SlotName::Public(slot))?,
        })
    }

    fn write_snapshot(
        &self,
        index: u64,
        meta: Bytes,
        state: State,
    ) -> BoxFuture<io::Result<SnapshotFile>> {
        let store = self.clone();
        Box::pin(snapshot::in_background(move || {
            let snapshot = store.snapshots.write(index, &meta, state.records())?;
            store.make_current(&snapshot)?;
            Ok(snapshot)
        }))
    }

    fn read_snapshot(&self, snapshot: SnapshotFile) -> BoxFuture<io::Result<State>> {
        Box::pin(on_disk_thread(move || snapshot::restore(&snapshot)))
    }

    /// A current snapshot that is newer stays.
    fn adopt_snapshot(&self, snapshot: SnapshotFile) -> BoxFuture<io::Result<()>> {
        let store = self.clone();
        Box::pin(on_disk_thread(move || store.make_current(&snapshot)))
    }

    fn current_snapshot(&self) -> Option<SnapshotFile> {
        self.snapshots.current()
    }
}
