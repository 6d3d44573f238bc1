//! The log: segments in files, and their catalogue in sled.
//!
//! [`Log`] is what the log holds; any thread reads it. [`LogWriter`](super::log_writer::LogWriter) changes it, on the
//! writer thread.
//!
//! # Crashes
//!
//! - Entries are appended to the last segment and flushed before they are acknowledged. What a crash leaves of
//!   the others, whole or torn, is at the end. Opening flushes what is whole. The first append after it begins
//!   another segment, and the catalogue then says where the last one ended. So nothing behind that place ever counts.
//! - The end is cut off in the catalogue, with one flush: segments go from the last one on, then the segment that
//!   is kept in part gets an end. A crash in between leaves more of the log, without a gap.
//! - A purge only moves the purge point. Segments before it are removed afterwards, from the catalogue and from the
//!   disk, in any order: below the purge point nothing is missing.
//! - A file that is not in the catalogue was being created or removed. It goes when the log is opened for writing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::catalogue::{self, Sealed};
use super::segment::{ENTRY, Scan, Segment, SegmentId};
use super::slots::Slots;
use super::{Record, StoreError, codec};

/// The log. Clones share it. One thread writes; any thread reads.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) dir: Arc<Path>,
    pub(super) node_id: u64,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) extent: Mutex<Extent>,
    /// Held for writing while the end is cut off, so that no reader sees entries of two histories.
    pub(super) cutting: RwLock<()>,
}

/// What the log holds: everything after the purge point, without gaps.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// The last index purged.
    pub(super) purged: Option<u64>,
    /// What is not purged, and for a while what is.
    pub(super) segments: VecDeque<Segment>,
    /// The checksum of the last record, while it is known.
    pub(super) last_crc: Option<u32>,
    /// Why the last segment ends where it does, if not with zeros.
    torn: Option<StoreError>,
}

impl Extent {
    pub(super) fn last(&self) -> Option<u64> {
        self.segments.iter().rev().find_map(|it| it.last)
    }

    /// First and last index that were not purged.
    fn bounds(&self) -> Option<(u64, u64)> {
        let first = self.segments.front()?.first.max(self.start());
        self.last()
            .filter(|last| *last >= first)
            .map(|last| (first, last))
    }

    /// The index that an append must start with; any, when nothing was ever written.
    pub(super) fn next(&self) -> Option<u64> {
        let last = self.last().max(self.purged);
        last.map(|index| index.saturating_add(1))
    }

    /// The lowest index that was not purged.
    fn start(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.saturating_add(1))
    }

    /// The segment that holds `index`.
    fn find(&self, index: u64) -> Option<&Segment> {
        let behind = self.segments.partition_point(|it| it.first <= index);
        let segment = self.segments.get(behind.checked_sub(1)?)?;
        segment.last.filter(|last| *last >= index).map(|_| segment)
    }
}

impl Log {
    /// Reads and checks every record. Changes nothing.
    pub(super) fn open(dir: &Path, node_id: u64, slots: &Slots) -> Result<Log, StoreError> {
        let purged = slots.purge_point()?.map(|(upto, _)| upto);
        let mut extent = Extent {
            purged,
            ..Extent::default()
        };
        let start = extent.start();
        let listed = catalogue::list(slots)?;
        let count = listed.len();
        for (position, (number, listed)) in listed.into_iter().enumerate() {
            let sealed = listed.sealed;
            if sealed.is_some_and(|sealed| sealed.last < start) {
                continue;
            }
            if sealed.is_none() && position + 1 < count {
                let reason = "the catalogue does not say where it ends, but there are later ones";
                return Err(StoreError::damaged(
                    "log segment",
                    number.to_string(),
                    reason,
                ));
            }
            let first = listed.first;
            let expected = extent.last().map(|last| last + 1);
            match expected {
                Some(expected) if first != expected => return Err(missing(expected)),
                None if purged.is_some() && first > start => return Err(missing(start)),
                _ => {}
            }
            let id = SegmentId {
                node_id,
                number,
                first,
            };
            extent.read(dir, id, sealed)?;
        }
        if extent.last() < purged {
            extent.segments.clear();
        }
        Ok(Log {
            dir: dir.into(),
            node_id,
            shared: Arc::new(Shared {
                extent: Mutex::new(extent),
                cutting: RwLock::new(()),
            }),
        })
    }

    /// First and last index.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        self.shared.extent.lock().bounds()
    }

    /// Bytes of the records after `index`, about.
    pub(super) fn bytes_after(&self, index: u64) -> u64 {
        let extent = self.shared.extent.lock();
        let index = index.max(extent.purged.unwrap_or(0));
        let segments = extent.segments.iter();
        segments.map(|segment| segment.bytes_after(index)).sum()
    }

    /// The lowest index from which on the records take `bytes` at most, about; where even the last ones take more,
    /// the index from which on these are.
    pub(super) fn tail(&self, bytes: u64) -> Option<u64> {
        let extent = self.shared.extent.lock();
        let start = extent.start();
        let (mut found, mut behind) = (None, 0);
        for segment in extent.segments.iter().rev() {
            for (index, from_there) in segment.tails() {
                if found.is_some() && behind + from_there > bytes {
                    return found;
                }
                found = Some(index.max(start));
                if index <= start {
                    return found;
                }
            }
            behind += segment.bytes_after(0);
        }
        found
    }

    /// The last index purged.
    pub(super) fn purged(&self) -> Option<u64> {
        self.shared.extent.lock().purged
    }

    /// Why nothing behind the end was read, if something is there: the rest of an entry that was never
    /// acknowledged, unless the log should go on.
    pub(super) fn take_torn(&self) -> Option<StoreError> {
        self.shared.extent.lock().torn.take()
    }

    /// The checksum of a record, if it is there.
    pub(super) fn record_crc(&self, index: u64) -> Result<Option<u32>, StoreError> {
        {
            let extent = self.shared.extent.lock();
            if extent.last() == Some(index) && extent.last_crc.is_some() {
                return Ok(extent.last_crc);
            }
        }
        let record = self.read(index, index.saturating_add(1), 0)?.pop();
        Ok(record.map(|record| codec::record_crc(index, &record.bytes)))
    }

    /// Records `from..to` that were not purged: at least one where there is one, then as many as
    /// stay within `bytes_max`.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let _not_cutting = self.shared.cutting.read();
        loop {
            let Some((first, last)) = self.bounds() else {
                return Ok(Vec::new());
            };
            let from = from.max(first);
            let answer = self.read_present(from, to.min(last.saturating_add(1)), bytes_max);
            // What was purged while it was being read is not missing.
            if answer.is_err() && self.shared.extent.lock().start() > from {
                continue;
            }
            return answer;
        }
    }

    fn read_present(
        &self,
        mut from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0usize);
        while from < to {
            let found = {
                let extent = self.shared.extent.lock();
                let segment = extent.find(from);
                segment.map(|it| (it.number, it.before(from), it.end))
            };
            let (number, place, end) = found.ok_or_else(|| missing(from))?;
            let mut scan = Scan::at(&self.dir, number, place, Some(end))?;
            while let Some(record) = scan.next()? {
                if record.index < from {
                    continue;
                }
                bytes = bytes.saturating_add(record.bytes.len());
                if record.index >= to || (bytes > bytes_max && !records.is_empty()) {
                    return Ok(records);
                }
                from = record.index + 1;
                records.push(record);
            }
            if scan.offset() < end {
                return Err(missing(from));
            }
        }
        Ok(records)
    }
}

impl Extent {
    /// Reads and checks one more segment.
    fn read(
        &mut self,
        dir: &Path,
        id: SegmentId,
        sealed: Option<Sealed>,
    ) -> Result<(), StoreError> {
        let mut scan = Scan::open(dir, id, sealed.map(|it| it.end))?;
        let mut segment = Segment::new(id.number, id.first);
        loop {
            match scan.next() {
                Ok(Some(record)) => segment.push(record.index, record.bytes.len()),
                Ok(None) => break,
                Err(torn @ StoreError::Damaged { .. }) if sealed.is_none() => {
                    self.torn = Some(torn);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        match sealed {
            // What a process wrote that ended before its flush is part of the log now, and must not be lost later.
            None => scan.sync()?,
            Some(Sealed { last, end }) if (segment.last, segment.end) != (Some(last), end) => {
                return Err(missing(segment.last.map_or(id.first, |last| last + 1)));
            }
            Some(_) => {}
        }
        self.segments.push_back(segment);
        Ok(())
    }
}

/// An entry that should be there.
pub(super) fn missing(index: u64) -> StoreError {
    let reason = "it is missing, but later entries exist";
    StoreError::damaged(ENTRY, index.to_string(), reason)
}
