//! Keeps the log and the disk within bounds: when to write a snapshot, how much of the log to keep, and
//! when the disk is too full for writes.
//!
//! openraft counts entries only, and ends the node if a snapshot cannot be written. So its own policies are
//! off: `Compactor` writes the snapshot, retries what fails, and tells openraft of a snapshot that is
//! complete. Purging stays openraft's, which never removes an entry that is not in a snapshot.
//!
//! # Bounds
//!
//! A snapshot is due after `snapshot_entries` entries, or half of the bound in bytes. After it, the log
//! keeps `log_keep_entries` entries or a quarter of the bound, whichever is less, so that followers which
//! lag a little need no snapshot. The log may exceed half of its bound for a follower that answers, but
//! not the bound itself: a follower that lags further is sent a snapshot.
//!
//! The bound in bytes is `log_bytes_max`, or less on a small disk: there must be room for the log, two
//! snapshots, and the free space below which commands are rejected. A snapshot counts as a quarter of the
//! disk at least, because the state may still grow.
//!
//! Appends wait (`LogRoom`) while a snapshot is written and the log behind it has reached its bound; and while what
//! the snapshot covers is half as large again as the bound, because a purge would take what a follower is being sent.
//!
//! # A disk without space
//!
//! | level | free space | effect |
//! |---|---|---|
//! | low | below `free_bytes_warn` | a warning; the log keeps only what followers need, and little else |
//! | full | below `free_bytes_min` | also: as leader, the node rejects commands; reads continue |
//! | exhausted | below a quarter of that | also: the node takes no commands from a leader, and so cannot serve linearizable reads |
//!
//! Both end by themselves once there is space again.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::oneshot;

use super::node::Consensus;
use super::state_machine::write_snapshot;
use super::types::{MemberStatus, Runtime};
use crate::Deadline;
use crate::store::{DiskSpace, LOG_OVERHEAD_BYTES, SnapshotHandle as _, Storage};

/// Time between two checks at most; they are more frequent while entries are applied.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time between two checks at least.
const CHECK_PAUSE: Duration = Duration::from_millis(100);
/// Time after which a snapshot that could not be written is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The bound in bytes is never below this: with less, one snapshot would follow the other.
const LOG_BYTES_MIN: u64 = 16 << 20;
/// With less than this fraction of `free_bytes_min` free, the log takes no more commands.
const EXHAUSTED_FRACTION: u64 = 4;
/// What the log keeps on a disk without space.
const LOG_KEEP_BYTES: u64 = 4 << 20;

/// Bounds on the log and the disk.
#[derive(Debug, Clone, Copy)]
pub struct CompactionSettings {
    /// Snapshot after this many log entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, within the bound in bytes.
    pub log_keep_entries: u64,
    /// Bytes of log entries on disk.
    pub log_bytes_max: u64,
    /// Below this much free space, bytes, the disk is low.
    pub free_bytes_warn: u64,
    /// Below this much free space, bytes, it is full.
    pub free_bytes_min: u64,
}

/// How much space a disk has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    /// Enough.
    #[default]
    Enough,
    /// Less than `free_bytes_warn`.
    Low,
    /// Less than `free_bytes_min`: commands are rejected.
    Full,
}

/// The log of a node as compaction sees it.
#[derive(Debug, Clone, Copy)]
struct LogStatus {
    /// The last index applied, and that of the current snapshot.
    applied: u64,
    snapshot: u64,
    /// Bytes of the current snapshot.
    snapshot_bytes: u64,
    /// Bytes of the log, and of what it holds beyond the snapshot.
    bytes: u64,
    bytes_after_snapshot: u64,
    /// The first index that a follower which answers may still need, and the bytes from there on; only a leader
    /// knows it.
    needed_from: Option<u64>,
    bytes_needed: u64,
}

impl CompactionSettings {
    /// The level of a disk that was at `before`: it rises again only with a quarter more than the threshold.
    fn level(&self, space: &DiskSpace, before: DiskLevel) -> DiskLevel {
        let below = |threshold: u64, level: DiskLevel| {
            let margin = if before >= level { threshold / 4 } else { 0 };
            space.free < threshold.saturating_add(margin)
        };
        if below(self.free_bytes_min, DiskLevel::Full) {
            DiskLevel::Full
        } else if below(self.free_bytes_warn, DiskLevel::Low) {
            DiskLevel::Low
        } else {
            DiskLevel::Enough
        }
    }

    /// The bound in bytes on this disk.
    fn log_bytes_max(&self, space: &DiskSpace, snapshot_bytes: u64) -> u64 {
        let disk = space.free.saturating_add(space.used);
        let snapshots = snapshot_bytes.max(disk / 4).saturating_mul(9) / 4;
        let kept_free = self.free_bytes_min.saturating_mul(5) / 4;
        let room = disk.saturating_sub(snapshots).saturating_sub(kept_free);
        let room = room.saturating_sub(LOG_OVERHEAD_BYTES).max(LOG_BYTES_MIN);
        self.log_bytes_max.min(room)
    }

    fn snapshot_due(&self, log: &LogStatus, bytes_max: u64, level: DiskLevel) -> bool {
        let entries = log.applied.saturating_sub(log.snapshot);
        let bytes = match level {
            DiskLevel::Enough => bytes_max / 2,
            // Not for every few entries: a snapshot is written as a whole.
            DiskLevel::Low | DiskLevel::Full => (bytes_max / 8)
                .max(log.snapshot_bytes / 4)
                .min(bytes_max / 2),
        };
        entries >= self.snapshot_entries || (entries > 0 && log.bytes_after_snapshot >= bytes)
    }

    /// The index up to which to purge, if to purge at all. `tail` gives the index from which on the log
    /// takes that many bytes.
    fn purge_upto(
        &self,
        log: &LogStatus,
        bytes_max: u64,
        level: DiskLevel,
        tail: impl Fn(u64) -> Option<u64>,
    ) -> Option<u64> {
        let by_entries = log.snapshot.saturating_sub(self.log_keep_entries);
        let needed_from = log.needed_from.unwrap_or(u64::MAX);
        let keep = match level {
            DiskLevel::Enough => bytes_max / 4,
            DiskLevel::Low | DiskLevel::Full => LOG_KEEP_BYTES.min(bytes_max / 4),
        };
        let by_bytes = if log.bytes > bytes_max {
            tail(bytes_max / 4)
        } else if log.bytes > keep.saturating_mul(2) {
            tail(keep).map(|from| from.min(needed_from))
        } else {
            None
        };
        let by_bytes = by_bytes.map_or(0, |from| from.saturating_sub(1));
        let mut upto = by_entries.max(by_bytes).min(log.snapshot);
        // openraft purges nothing while a follower is being sent some of it. One that lags all the time would
        // keep the log from ever being purged.
        if upto >= needed_from && log.bytes_needed <= bytes_max {
            upto = needed_from - 1;
        }
        Some(upto).filter(|upto| *upto > 0)
    }
}

/// Keeps one node's log and disk within bounds.
pub(super) struct Compactor<RT: Runtime, S: Storage> {
    level: DiskLevel,
    /// The snapshot that is being written.
    writing: Option<oneshot::Receiver<io::Result<()>>>,
    /// When a snapshot could not be written.
    failed: Option<RT::Instant>,
    consensus: Consensus<RT, S>,
}

impl<RT: Runtime, S: Storage> Compactor<RT, S> {
    pub(super) fn new(consensus: Consensus<RT, S>) -> Self {
        Self {
            level: DiskLevel::Enough,
            writing: None,
            failed: None,
            consensus,
        }
    }

    /// Checks again and again, until the core has ended.
    pub(super) async fn run(mut self) {
        let mut applied = self.consensus.state().changes();
        loop {
            if let Err(error) = self.check().await {
                tracing::warn!(%error, "cannot check the disk space");
            }
            RT::sleep(CHECK_PAUSE).await;
            // While writes wait, nothing is applied that would bring on the next check.
            let next = match self.consensus.room.is_open() {
                true => CHECK_EVERY,
                false => Duration::ZERO,
            };
            let deadline = Deadline::<RT>::after(next);
            tokio::select! {
                // The same in every run of the simulation.
                biased;
                // Writes may wait for the snapshot: what follows from it must not wait for a write.
                written = answer_of(&mut self.writing) => self.finish_snapshot(written),
                changed = deadline.bound(applied.changed()) => {
                    if changed.is_some_and(|changed| changed.is_err()) {
                        return;
                    }
                }
            }
        }
    }

    async fn check(&mut self) -> io::Result<()> {
        let storage = self.consensus.storage.clone();
        let settings = self.consensus.compaction;
        let space = storage.space().await?;
        let log = self.log();
        self.set_level(&space);
        let bytes_max = settings.log_bytes_max(&space, log.snapshot_bytes);
        if self.may_write() && settings.snapshot_due(&log, bytes_max, self.level) {
            self.begin_snapshot();
        }
        let lack = self.lack_of_room(&log, bytes_max, &space);
        self.consensus.room.set(lack);
        let tail = |bytes| storage.log_tail(bytes);
        let upto = settings.purge_upto(&log, bytes_max, self.level, tail);
        self.release(log.snapshot, upto).await;
        Ok(())
    }

    /// Tells openraft of the current snapshot, which ends at log index `snapshot`, and purges the log up
    /// to `purge_upto`, but not beyond a snapshot that openraft knows.
    async fn release(&self, snapshot: u64, purge_upto: Option<u64>) {
        let raft = &self.consensus.raft;
        let known = raft.metrics().borrow_watched().snapshot;
        let trigger = raft.trigger();
        // Both fail only if the core has ended, which its watcher reports.
        if known.map_or(0, |id| id.index) < snapshot {
            drop(trigger.snapshot().await);
        }
        let (first, last) = self.consensus.log.extent();
        let purged = if first == 0 { last } else { first - 1 };
        if let Some(upto) = purge_upto.filter(|upto| *upto > purged) {
            drop(trigger.purge_log(upto).await);
        }
    }

    /// Why the log takes nothing for now.
    fn lack_of_room(
        &self,
        log: &LogStatus,
        bytes_max: u64,
        space: &DiskSpace,
    ) -> Option<&'static str> {
        if space.free < self.consensus.compaction.free_bytes_min / EXHAUSTED_FRACTION {
            Some("the disk has hardly any space left")
        } else if self.writing.is_some() && log.bytes_after_snapshot >= bytes_max {
            Some("a snapshot must be complete before more of the log can be purged")
        } else if log.bytes.saturating_sub(log.bytes_after_snapshot) >= bytes_max / 2 * 3 {
            Some("a follower is being sent what should be purged")
        } else {
            None
        }
    }

    fn log(&self) -> LogStatus {
        let storage = &self.consensus.storage;
        let current = storage.current_snapshot();
        let snapshot = current.as_ref().map_or(0, |it| it.index());
        let needed_from = self.needed_from();
        LogStatus {
            applied: self.consensus.state().read().index(),
            snapshot,
            snapshot_bytes: current.map_or(0, |it| it.length()),
            bytes: storage.log_bytes_after(0),
            bytes_after_snapshot: storage.log_bytes_after(snapshot),
            needed_from,
            bytes_needed: needed_from.map_or(0, |from| storage.log_bytes_after(from - 1)),
        }
    }

    /// As leader, the first log index that a follower which answers may still need.
    fn needed_from(&self) -> Option<u64> {
        let standing = self.consensus.standing();
        let answers = |it: &&MemberStatus| it.id != standing.node_id && it.answers();
        let members = standing.members.iter().filter(answers);
        let needed = members.map(|it| it.matched_index.unwrap_or(0) + 1);
        // What is not in the log any more is sent in a snapshot.
        let (first, _) = self.consensus.log.extent();
        needed.filter(|from| *from >= first).min()
    }

    fn set_level(&mut self, space: &DiskSpace) {
        let level = self.consensus.compaction.level(space, self.level);
        let CompactionSettings {
            free_bytes_warn,
            free_bytes_min,
            ..
        } = self.consensus.compaction;
        let free = space.free;
        match level {
            _ if level == self.level => {}
            DiskLevel::Full => tracing::error!(
                free,
                free_bytes_min,
                "the disk is nearly full: as leader, this node refuses writes; free some space"
            ),
            DiskLevel::Low => tracing::warn!(
                free,
                free_bytes_warn,
                free_bytes_min,
                "disk space is low: the log is kept short"
            ),
            DiskLevel::Enough => tracing::info!(free, "the disk has enough free space again"),
        }
        self.level = level;
        let is_full = level == DiskLevel::Full;
        self.consensus.disk_full.store(is_full, Ordering::Relaxed);
        self.consensus.environment.observer.disk(space, level);
    }

    fn may_write(&self) -> bool {
        let waits = |at: &RT::Instant| at.elapsed() < RETRY_AFTER;
        self.writing.is_none() && !self.failed.as_ref().is_some_and(waits)
    }

    /// Writing takes long for a large state, and the disk is watched in the meantime.
    fn begin_snapshot(&mut self) {
        let (answer, answered) = oneshot::channel();
        let consensus = self.consensus.clone();
        drop(RT::spawn(async move {
            let observer = &*consensus.environment.observer;
            let (shared, storage) = (consensus.state(), &consensus.storage);
            let written = write_snapshot::<RT, S>(shared, storage, observer).await;
            // Nobody waits once the core has ended.
            drop(answer.send(written.map(drop)));
        }));
        self.writing = Some(answered);
    }

    fn finish_snapshot(&mut self, written: io::Result<()>) {
        self.writing = None;
        self.failed = None;
        if let Err(error) = written {
            self.failed = Some(RT::Instant::now());
            let retry_after_s = RETRY_AFTER.as_secs();
            tracing::warn!(%error, retry_after_s, "cannot write a snapshot");
        }
    }
}

/// The answer of a snapshot that is being written; none comes if there is no such snapshot.
async fn answer_of(writing: &mut Option<oneshot::Receiver<io::Result<()>>>) -> io::Result<()> {
    match writing {
        Some(writing) => (writing.await)
            .unwrap_or_else(|_| Err(io::Error::other("the task that writes it has ended"))),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SETTINGS: CompactionSettings = CompactionSettings {
        snapshot_entries: 1000,
        log_keep_entries: 4000,
        log_bytes_max: 64 * MIB,
        free_bytes_warn: 200 * MIB,
        free_bytes_min: 100 * MIB,
    };
    const LOG: LogStatus = LogStatus {
        applied: 10_000,
        snapshot: 9_500,
        snapshot_bytes: MIB,
        bytes: 8 * MIB,
        bytes_after_snapshot: MIB,
        needed_from: None,
        bytes_needed: 0,
    };

    fn space(free: u64) -> DiskSpace {
        DiskSpace {
            free: free * MIB,
            used: 50 * MIB,
            log_used: 24 * MIB,
        }
    }

    #[test]
    fn a_snapshot_is_due_after_entries_or_bytes_and_earlier_on_a_low_disk() {
        let due = |log: LogStatus, level| SETTINGS.snapshot_due(&log, 64 * MIB, level);
        assert!(!due(LOG, DiskLevel::Enough));
        let applied = 10_500;
        assert!(due(LogStatus { applied, ..LOG }, DiskLevel::Enough));
        let grown = |mib| LogStatus {
            bytes_after_snapshot: mib * MIB,
            ..LOG
        };
        assert!(!due(grown(31), DiskLevel::Enough));
        assert!(due(grown(32), DiskLevel::Enough));
        assert!(!due(grown(7), DiskLevel::Low));
        assert!(due(grown(8), DiskLevel::Low));
        let nothing_new = LogStatus {
            applied: LOG.snapshot,
            ..grown(40)
        };
        assert!(!due(nothing_new, DiskLevel::Full));
    }

    #[test]
    fn the_log_is_purged_by_entries_and_by_bytes_but_never_beyond_the_snapshot() {
        // One entry takes 8 KiB here.
        let tail = |bytes: u64| Some(10_001 - (bytes / 8192).min(10_000));
        let upto = |log: LogStatus, level| SETTINGS.purge_upto(&log, 64 * MIB, level, tail);
        assert_eq!(upto(LOG, DiskLevel::Enough), Some(5_500));
        let large = LogStatus {
            bytes: 50 * MIB,
            ..LOG
        };
        // A quarter of the bound stays: 2,048 entries.
        assert_eq!(upto(large, DiskLevel::Enough), Some(7_952));
        // 4 MiB: 512 entries, that is all behind the snapshot but 12.
        assert_eq!(upto(large, DiskLevel::Full), Some(9_488));
        let nothing_in_a_snapshot = LogStatus {
            snapshot: 0,
            ..large
        };
        assert_eq!(upto(nothing_in_a_snapshot, DiskLevel::Full), None);
    }

    #[test]
    fn a_follower_that_answers_keeps_what_it_needs_up_to_the_bound() {
        let tail = |bytes: u64| Some(10_001 - (bytes / 8192).min(10_000));
        let upto = |bytes: u64, bytes_needed: u64| {
            let log = LogStatus {
                bytes: bytes * MIB,
                needed_from: Some(6_001),
                bytes_needed: bytes_needed * MIB,
                ..LOG
            };
            SETTINGS.purge_upto(&log, 64 * MIB, DiskLevel::Enough, tail)
        };
        assert_eq!(upto(50, 40), Some(6_000));
        // It need not lag much to keep a purge from happening at all.
        assert_eq!(upto(65, 40), Some(6_000));
        assert_eq!(upto(65, 65), Some(7_952));
    }

    #[test]
    fn a_small_disk_lowers_the_bound_of_the_log() {
        let bound = |free| SETTINGS.log_bytes_max(&space(free), 8 * MIB);
        assert_eq!(bound(10_000), 64 * MIB);
        // Two snapshots of a quarter of the disk each, and an eighth of one more.
        let disk = 440 * MIB;
        let room = disk - disk / 4 * 9 / 4 - 125 * MIB - LOG_OVERHEAD_BYTES;
        assert_eq!(bound(390), room);
        assert_eq!(bound(0), LOG_BYTES_MIN);
    }

    #[test]
    fn a_level_ends_with_a_quarter_more_than_its_threshold() {
        let level = |free, before| SETTINGS.level(&space(free), before);
        use DiskLevel::{Enough, Full, Low};
        assert_eq!(level(200, Enough), Enough);
        assert_eq!(level(199, Enough), Low);
        assert_eq!(level(249, Low), Low);
        assert_eq!(level(250, Low), Enough);
        assert_eq!(level(99, Low), Full);
        assert_eq!(level(124, Full), Full);
        assert_eq!(level(125, Full), Low);
    }
}
