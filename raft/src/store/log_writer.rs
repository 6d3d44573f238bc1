//! Changes the log: appends to its last segment, begins another one, cuts off, purges. Runs on the writer thread.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::catalogue::{self, Listed, Sealed};
use super::log::Log;
use super::segment::{self, Scan, Segment, SegmentId};
use super::slots::Slots;
use super::{Record, StoreError, durability, files};

/// Size of a segment, unless one record needs more. Small in unit tests, which write little.
pub(super) const SEGMENT_BYTES: u64 = if cfg!(test) { 256 << 10 } else { 8 << 20 };

/// Capacity that the buffer keeps between two flushes.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Changes the log. What it says is in sled is durable with the next flush of the slots.
pub(super) struct LogWriter {
    log: Log,
    slots: Slots,
    active: Option<Active>,
    next_number: u64,
    /// What the disk still holds of what is no longer in the log.
    leftovers: VecDeque<Leftover>,
}

/// The segment that is written.
struct Active {
    file: File,
    /// Where the buffer goes.
    end: u64,
    /// How far the file may be written.
    capacity: u64,
    /// Records that were not written yet: their index, length and checksum, and their form.
    unwritten: Vec<(u64, usize, u32)>,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Leftover {
    File(u64),
    SpaceBehind(u64, u64),
}

impl LogWriter {
    /// Takes over a log that was checked, and lists what else is in its folder, to be removed.
    pub(super) fn new(log: Log, slots: Slots) -> Result<LogWriter, StoreError> {
        let kept: Vec<u64> = {
            let extent = log.shared.extent.lock();
            extent.segments.iter().map(|it| it.number).collect()
        };
        let mut next_number = kept.last().map_or(0, |last| last + 1);
        for number in slots.segments()? {
            next_number = next_number.max(number + 1);
            if !kept.contains(&number) {
                catalogue::remove(&slots, number)?;
            }
        }
        // One of them may have no end in the catalogue: it would be missing if its file went first.
        slots.flush()?;
        let mut leftovers = VecDeque::new();
        for number in files_in(&log.dir)? {
            next_number = next_number.max(number + 1);
            if !kept.contains(&number) {
                leftovers.push_back(Leftover::File(number));
            }
        }
        Ok(LogWriter {
            log,
            slots,
            active: None,
            next_number,
            leftovers,
        })
    }

    /// Adds a record after the last one. It is part of the log from the next [`flush`](Self::flush) on.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        let index = record.index;
        let unwritten = self.active.as_ref().and_then(|it| it.unwritten.last());
        let expected = match unwritten {
            Some((last, ..)) => Some(last + 1),
            None => self.log.shared.extent.lock().next(),
        };
        if let Some(expected) = expected.filter(|expected| *expected != index) {
            return Err(StoreError::OutOfOrder { index, expected });
        }
        let size = segment::record_size(record.bytes.len());
        let has_room = |it: &Active| it.end + it.buffer.len() as u64 + size <= it.capacity;
        if !self.active.as_ref().is_some_and(has_room) {
            self.begin_segment(index, size)?;
        }
        if let Some(active) = &mut self.active {
            let crc = segment::encode(record, &mut active.buffer)?;
            active.unwritten.push((index, record.bytes.len(), crc));
        }
        Ok(())
    }

    /// Makes every record durable, and part of the log.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        let Some(active) = self.active.as_mut().filter(|it| !it.unwritten.is_empty()) else {
            return Ok(());
        };
        let written = (active.file.write_all_at(&active.buffer, active.end))
            .and_then(|()| durability::sync(&active.file));
        written.map_err(StoreError::io("write the log in", &self.log.dir))?;
        active.end += active.buffer.len() as u64;
        active.buffer.clear();
        active.buffer.shrink_to(BUFFER_BYTES_KEPT);
        let mut extent = self.log.shared.extent.lock();
        extent.last_crc = active.unwritten.last().map(|(.., crc)| *crc);
        if let Some(segment) = extent.segments.back_mut() {
            for (index, bytes, _) in active.unwritten.drain(..) {
                segment.push(index, bytes);
            }
        }
        Ok(())
    }

    /// Begins another segment, with room for its first record, and ends the last one.
    fn begin_segment(&mut self, first: u64, size: u64) -> Result<(), StoreError> {
        self.flush()?;
        self.active = None;
        let room = SEGMENT_BYTES.max(size);
        let id = SegmentId {
            node_id: self.log.node_id,
            number: self.next_number,
            first,
        };
        self.next_number += 1;
        let file = segment::create(&self.log.dir, id, room)?;
        let mut extent = self.log.shared.extent.lock();
        if let Some(last) = extent.segments.back() {
            let number = last.number;
            match last.last {
                Some(_) => {
                    seal(&self.slots, last)?;
                    let behind = Leftover::SpaceBehind(number, last.end);
                    self.leftovers.push_back(behind);
                }
                None => {
                    catalogue::remove(&self.slots, number)?;
                    self.leftovers.push_back(Leftover::File(number));
                    extent.segments.pop_back();
                }
            }
        }
        let segment = Segment::new(id.number, first);
        let sealed = None;
        let listed = Listed { first, sealed };
        catalogue::save(&self.slots, id.number, listed)?;
        let end = segment.end;
        extent.segments.push_back(segment);
        drop(extent);
        self.slots.flush()?;
        self.active = Some(Active {
            file,
            end,
            capacity: end + room,
            unwritten: Vec::new(),
            buffer: Vec::new(),
        });
        Ok(())
    }

    /// Removes what follows `last_kept`. What was appended must have been flushed.
    pub(super) fn truncate_after(&mut self, last_kept: Option<u64>) -> Result<(), StoreError> {
        let _cutting = self.log.shared.cutting.write();
        let mut extent = self.log.shared.extent.lock();
        if extent.last().is_none_or(|last| last_kept >= Some(last)) {
            return Ok(());
        }
        self.active = None;
        extent.last_crc = None;
        while let Some(number) = (extent.segments.back())
            .filter(|it| last_kept < Some(it.first))
            .map(|it| it.number)
        {
            extent.segments.pop_back();
            catalogue::remove(&self.slots, number)?;
            self.leftovers.push_back(Leftover::File(number));
        }
        let (Some(segment), Some(kept)) = (extent.segments.back_mut(), last_kept) else {
            return Ok(());
        };
        let place = segment.before(kept);
        let mut scan = Scan::at(&self.log.dir, segment.number, place, Some(segment.end))?;
        while scan.next()?.is_some_and(|record| record.index < kept) {}
        segment.cut(kept, scan.offset());
        let behind = Leftover::SpaceBehind(segment.number, segment.end);
        self.leftovers.push_back(behind);
        seal(&self.slots, segment)
    }

    /// Takes everything up to `upto` out of the log, after the purge point was saved.
    pub(super) fn purge(&mut self, upto: u64) -> Result<(), StoreError> {
        let mut extent = self.log.shared.extent.lock();
        extent.purged = extent.purged.max(Some(upto));
        if extent.last() > extent.purged {
            return Ok(());
        }
        // The last segment goes, too, so the catalogue must say that it is purged.
        self.active = None;
        match extent.segments.back() {
            Some(last) if last.last.is_some() => seal(&self.slots, last),
            _ => Ok(()),
        }
    }

    /// Whether there is something to [`clean`](Self::clean).
    pub(super) fn has_leftovers(&self) -> bool {
        !self.leftovers.is_empty()
    }

    /// Removes one thing from the disk that is no longer in the log, as flushed; whether there may be more.
    pub(super) fn clean(&mut self) -> Result<bool, StoreError> {
        if self.leftovers.is_empty() {
            let mut extent = self.log.shared.extent.lock();
            let purged = extent.purged;
            let gone = |it: &Segment| it.last.is_some() && it.last <= purged;
            let front = extent.segments.front().filter(|it| gone(it));
            let Some(number) = front.map(|it| it.number) else {
                return Ok(false);
            };
            extent.segments.pop_front();
            if extent.segments.is_empty() {
                extent.last_crc = None;
            }
            catalogue::remove(&self.slots, number)?;
            self.leftovers.push_back(Leftover::File(number));
        }
        match self.leftovers.pop_front() {
            Some(Leftover::File(number)) => {
                files::remove(&segment::path(&self.log.dir, number))?;
            }
            // The file may be gone by now.
            Some(Leftover::SpaceBehind(number, end)) => {
                drop(segment::trim(&self.log.dir, number, end));
            }
            None => {}
        }
        Ok(true)
    }
}

/// Writes down where a segment ends.
fn seal(slots: &Slots, segment: &Segment) -> Result<(), StoreError> {
    let sealed = segment.last.map(|last| Sealed {
        last,
        end: segment.end,
    });
    let first = segment.first;
    catalogue::save(slots, segment.number, Listed { first, sealed })
}

/// The numbers of the segments in a folder.
fn files_in(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let list = || -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir)? {
            numbers.extend(segment::number_of(&entry?.file_name().to_string_lossy()));
        }
        Ok(numbers)
    };
    list().map_err(StoreError::io("list", dir))
}
