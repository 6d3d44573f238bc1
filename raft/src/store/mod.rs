//! What a node keeps on disk: the log, the vote, the snapshots, its identity.
//!
//! [`Storage`] is the disk as consensus sees it. [`DiskStore`] is the real one; the simulation has one
//! in memory that forgets what was not flushed.
//!
//! # Files
//!
//! ```text
//! <data folder>/identity.json   node id, name, cluster id, bootstrap plan    IdentityFile
//! <data folder>/lock            held while a process works in the folder     IdentityFile
//! <data folder>/unfinished      only while the folder is restored or recovered  OfflineFolder
//! <data folder>/log/db ...       sled: the slots, among them the catalogue    Slots
//! <data folder>/log/*.segment    the entries                                 Log, LogWriter
//! <data folder>/watermark       what the log must still hold when it is opened            Watermark
//! <data folder>/snapshots/      one file for each snapshot; a slot names the current one
//! <data folder>/reserve         space that is freed when the disk is full
//! ```
//!
//! # Writing
//!
//! Every write puts an operation into one queue and returns. A single thread takes everything in the queue,
//! carries it out in order, flushes once, records the end of the log in the file `watermark`, and calls the
//! completions in order. So one flush serves many operations, and no caller on the async runtime waits for a
//! disk.
//!
//! Entries are appended to files, the segments. sled holds the catalogue of segments: which ones there are, and where
//! each ends. It changes with one flush when a segment is begun, truncated or removed, so the log is always a
//! sequence without gaps, whatever a crash leaves in the folder. Bytes after the last flushed entry were never
//! acknowledged: the next append begins another segment, and they are never read again.
//!
//! A snapshot is written to a temporary file, flushed, read back and checked, renamed, and then named in
//! the slot. The previous snapshot is removed after that, and entries that a snapshot covers are purged
//! only once the snapshot is durable.
//!
//! # Guarantees
//!
//! - An operation whose completion was called with `Ok` survives a power loss. The exception is
//!   [`Slot::Committed`], which is an optimization: it only speeds up recovery, and is written now and then.
//! - Operations reach the disk in call order. After a crash the disk holds a prefix of them.
//! - A failure is final: what a disk holds after a failed flush is unknown, so every later operation
//!   fails too, until the process is started again. On a full disk the reserve is freed first, so that
//!   the restart succeeds.
//! - Opening reads and checks every byte. Damage is reported with its position, an unknown format with
//!   both versions, and neither is modified. Where sled panics on damage, the process ends, and its panic hook
//!   gets the same report from [`damage`].
//! - A folder whose identity, log and snapshots do not belong together is refused (module `binding`).
//!
//! # Limits
//!
//! - Corruption is detected, not repaired: discard the folder (`lockstepd rejoin`), and the node joins under a
//!   new id. Never restore an older copy of the folder: it has forgotten votes and flushed entries.
//! - There is no encryption, and checksums are CRC-32: they detect accidental corruption, not tampering.
//! - One process works in a data folder at a time; the lock is advisory.
//!
//! # Changing a format
//!
//! The golden files in `tests/golden` contain a sample of every form as written by an earlier build; their test
//! describes how to change one.

mod binding;
mod catalogue;
mod codec;
mod database;
mod disk;
mod durability;
mod error;
mod files;
#[cfg(test)]
pub(crate) mod golden_tests;
mod identity;
mod legacy;
mod log;
mod log_writer;
mod offline;
mod opening;
mod reserve;
mod segment;
mod slots;
mod snapshot;
#[cfg(test)]
mod tests;
mod watermark;
mod writer;

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use lockstep_machine::State;

pub use disk::{DiskStore, StoreObserver, StoreOptions};
pub use durability::assert_linked;
pub use error::StoreError;
pub use identity::{
    BootstrapPlan, Identity, IdentityFile, Member, PlannedMember, discard, read_identity,
};
pub use offline::{OfflineFolder, Rewrite};
pub use opening::damage;
pub use reserve::free_bytes;
pub use snapshot::{SnapshotFile, SnapshotReceiver, in_background};

/// The names of what a data folder holds beside the identity, the watermark and the lock.
const LOG: &str = "log";
const SNAPSHOTS: &str = "snapshots";
const RESERVE: &str = "reserve";

/// The Raft group whose log a data folder holds. There is one group; its number is part of log
/// keys, slot keys, snapshot names and peer metadata, so that more can be added.
pub const GROUP: u32 = 0;

/// Bytes that the log takes on disk beyond its entries, at most: the segment that is written, the one that is purged
/// in part, and sled.
pub const LOG_OVERHEAD_BYTES: u64 = 2 * log_writer::SEGMENT_BYTES + (8 << 20);

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Called once, from any thread, when an operation is durable or has failed permanently.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send + 'static>;

/// One encoded log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its log index.
    pub index: u64,
    /// The entry, encoded.
    pub bytes: Bytes,
}

/// Small values kept beside the log, each overwritten as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The vote. Durable when its completion is called.
    Vote,
    /// The committed position. Written after the entries before it, but not waited for: until the store is closed,
    /// an older one may be read.
    Committed,
    /// The last purged log id. Set by [`Storage::purge`] only.
    Purged,
}

/// Space on the disk that holds a data folder, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free for an unprivileged process, the reserve not included.
    pub free: u64,
    /// Taken by the log and the snapshots.
    pub used: u64,
    /// Taken by the log.
    pub log_used: u64,
}

/// A disk. Writes are queued without blocking, and reach the disk in call order. Long reads are futures, so
/// that they can run off the runtime's threads.
pub trait Storage: Clone + Send + Sync + 'static {
    /// A complete, immutable, verified snapshot: a handle, not its bytes. A snapshot that is being
    /// read stays readable when a newer one replaces it.
    type Snapshot: SnapshotHandle;

    /// The first and the last record's index. Called once, before anything is written.
    fn bounds(&self) -> io::Result<Option<(u64, u64)>>;

    /// Records `from..to`, in order, without gaps: at least one where there is one, then as many as
    /// stay within `bytes_max`. Sees every record whose append has completed.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> BoxFuture<io::Result<Vec<Record>>>;

    /// Appends records; they follow the last one without a gap, except after a purge beyond the end.
    fn append(&self, records: Vec<Record>, done: Done);

    /// Removes every record after `last_kept`, from the end backwards; all of them when `None`.
    fn truncate_after(&self, last_kept: Option<u64>, done: Done);

    /// Writes `marker` to [`Slot::Purged`] durably, then removes every record up to `upto`.
    /// Completes once the marker is written; the removal may continue in the background.
    fn purge(&self, upto: u64, marker: Bytes, done: Done);

    /// Bytes of the records after `index`: at least that much, and at most a small constant more.
    fn log_bytes_after(&self, index: u64) -> u64;

    /// The lowest index from which on the records take `bytes` at most, with the same precision.
    fn log_tail(&self, bytes: u64) -> Option<u64>;

    /// The space on the disk now.
    fn space(&self) -> BoxFuture<io::Result<DiskSpace>>;

    /// Overwrites a slot.
    fn save(&self, slot: Slot, value: Bytes, done: Done);

    /// A vote whose saving has completed, as noted apart from the slot when it was opened. The slot holds this vote
    /// or a later one; otherwise it is damaged. None where there is no such note.
    fn noted_vote(&self) -> Option<Bytes> {
        None
    }

    /// Reads a slot as last saved.
    fn load(&self, slot: Slot) -> io::Result<Option<Bytes>>;

    /// Writes `state` as a snapshot beside the current one and makes it current, unless that is
    /// newer. `index` is the last log index it covers, `meta` is opaque and kept with it. An error
    /// leaves everything as it was, for example if the disk has no space for a second snapshot.
    fn write_snapshot(
        &self,
        index: u64,
        meta: Bytes,
        state: State,
    ) -> BoxFuture<io::Result<Self::Snapshot>>;

    /// Reads a snapshot back whole. Does not change which one is current.
    fn read_snapshot(&self, snapshot: Self::Snapshot) -> BoxFuture<io::Result<State>>;

    /// Makes a received snapshot current, durably.
    fn adopt_snapshot(&self, snapshot: Self::Snapshot) -> BoxFuture<io::Result<()>>;

    /// The current snapshot.
    fn current_snapshot(&self) -> Option<Self::Snapshot>;
}

/// A snapshot on a disk.
pub trait SnapshotHandle: Clone + Send + Sync + 'static {
    /// The last log index it covers.
    fn index(&self) -> u64;
    /// What was written beside it.
    fn meta(&self) -> Bytes;
    /// Its size in bytes.
    fn length(&self) -> u64;
}
