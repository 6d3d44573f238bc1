//! The log in its sled tree. Writes are ordered so that a crash at any point is safe; every byte is checked
//! when it is read.
//!
//! After a crash, sled recovers a prefix of the writes. So a record's part 0 is written last and removed
//! first: a record without it was never acknowledged, or was being removed. Such a record can only be the last
//! one of the log, and [`Log::open`] removes it; anywhere else it is corruption.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};

use super::codec::{self, Part};
use super::sizes::Sizes;
use super::{Record, StoreError};

/// What a record is called in error messages.
const ENTRY: &str = "log entry";

/// The log. Clones share it. One thread writes; any thread reads.
#[derive(Clone)]
pub(super) struct Log {
    tree: sled::Tree,
    shared: Arc<Shared>,
}

struct Shared {
    extent: Mutex<Extent>,
    /// Held for writing while the end is cut off, so that no reader joins parts of two records.
    cutting: RwLock<()>,
}

/// What the log holds: everything after the purge point, without gaps.
#[derive(Debug, Default)]
struct Extent {
    /// The last index purged.
    purged: Option<u64>,
    /// First and last index present.
    present: Option<(u64, u64)>,
    /// The bytes of what is present.
    sizes: Sizes,
}

impl Extent {
    /// The index that an append must start with; any, when nothing was ever written.
    fn next(&self) -> Option<u64> {
        self.present
            .map(|(_, last)| last)
            .or(self.purged)
            .map(|index| index.saturating_add(1))
    }

    /// The lowest index that was not purged.
    fn start(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.saturating_add(1))
    }
}

impl Log {
    /// Finishes what a crash interrupted, then reads and checks every record.
    pub(super) fn open(tree: sled::Tree, purged: Option<u64>) -> Result<Log, StoreError> {
        let log = Log {
            tree,
            shared: Arc::new(Shared {
                extent: Mutex::new(Extent {
                    purged,
                    ..Extent::default()
                }),
                cutting: RwLock::new(()),
            }),
        };
        // Before anything is removed: a log of another format is left alone.
        if let Some((first, _)) = log
            .tree
            .first()
            .map_err(StoreError::database("read the log"))?
        {
            codec::split_key(&first)?;
        }
        if let Some(upto) = purged {
            while log.remove_purged(upto, 1024)? {}
        }
        log.remove_torn_end()?;
        log.verify()?;
        Ok(log)
    }

    /// First and last index.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        self.shared.extent.lock().present
    }

    /// Bytes of the records after `index`, about.
    pub(super) fn bytes_after(&self, index: u64) -> u64 {
        self.shared.extent.lock().sizes.after(index)
    }

    /// The lowest index from which on the records take `bytes` at most, about.
    pub(super) fn tail(&self, bytes: u64) -> Option<u64> {
        self.shared.extent.lock().sizes.tail(bytes)
    }

    /// The last index purged.
    pub(super) fn purged(&self) -> Option<u64> {
        self.shared.extent.lock().purged
    }

    /// The checksum of a record, if it is there.
    pub(super) fn record_crc(&self, index: u64) -> Result<Option<u32>, StoreError> {
        let key = codec::key(index, 0);
        let value = self.tree.get(key);
        let value = value.map_err(StoreError::database("read the log"))?;
        let crc = |value: sled::IVec| {
            codec::unseal(&key, &value, ENTRY, || place(index, 0)).map(|part| part.record_crc)
        };
        value.map(crc).transpose()
    }

    /// Inserts a record after the last one.
    pub(super) fn insert(&self, record: &Record) -> Result<(), StoreError> {
        let index = record.index;
        if let Some(expected) = self.shared.extent.lock().next()
            && index != expected
        {
            return Err(StoreError::OutOfOrder { index, expected });
        }
        for (key, value) in codec::encode(index, &record.bytes)?.into_iter().rev() {
            self.tree
                .insert(key, value)
                .map_err(StoreError::database("write to the log"))?;
        }
        let mut extent = self.shared.extent.lock();
        extent.present = Some((extent.present.map_or(index, |(first, _)| first), index));
        extent.sizes.push(index, record.bytes.len());
        Ok(())
    }

    /// Removes what follows `last_kept`, from the end backwards.
    pub(super) fn truncate_after(&self, last_kept: Option<u64>) -> Result<(), StoreError> {
        let _cutting = self.shared.cutting.write();
        {
            let mut extent = self.shared.extent.lock();
            extent.present = match (extent.present, last_kept) {
                (Some((first, last)), Some(kept)) if kept >= first => Some((first, last.min(kept))),
                _ => None,
            };
            extent
                .sizes
                .truncate_from(last_kept.map_or(0, |kept| kept.saturating_add(1)));
        }
        let doing = "cut off the end of the log";
        loop {
            let Some((last, _)) = self.tree.last().map_err(StoreError::database(doing))? else {
                return Ok(());
            };
            let (index, _) = codec::split_key(&last)?;
            if last_kept.is_some_and(|kept| index <= kept) {
                return Ok(());
            }
            self.remove_record(index)
                .map_err(StoreError::database(doing))?;
        }
    }

    /// Takes everything up to `upto` out of the log; [`Log::remove_purged`] then frees its space.
    pub(super) fn purge(&self, upto: u64) {
        let mut extent = self.shared.extent.lock();
        extent.purged = Some(extent.purged.map_or(upto, |purged| purged.max(upto)));
        let start = extent.start();
        extent.present = extent
            .present
            .filter(|(_, last)| *last >= start)
            .map(|(first, last)| (first.max(start), last));
        extent.sizes.purge(upto);
    }

    /// Removes up to `parts_max` parts of what was purged, forwards; whether there may be more.
    pub(super) fn remove_purged(&self, upto: u64, parts_max: usize) -> Result<bool, StoreError> {
        let doing = "remove purged log entries";
        let mut removed = 0;
        for key in self
            .tree
            .range(codec::key(0, 0)..=codec::key(upto, u16::MAX))
            .keys()
            .take(parts_max)
        {
            let key = key.map_err(StoreError::database(doing))?;
            self.tree.remove(key).map_err(StoreError::database(doing))?;
            removed += 1;
        }
        Ok(removed == parts_max)
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
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut records: Vec<Record> = Vec::new();
        if from >= to {
            return Ok(records);
        }
        let (mut expected, mut bytes) = (from, 0usize);
        for record in self.records(from..to) {
            let record = record?;
            follows(expected, record.index)?;
            bytes = bytes.saturating_add(record.bytes.len());
            if bytes > bytes_max && !records.is_empty() {
                return Ok(records);
            }
            records.push(record);
            expected += 1;
        }
        if expected < to {
            return Err(missing(expected));
        }
        Ok(records)
    }

    fn records(&self, range: std::ops::Range<u64>) -> Records {
        Records {
            parts: self
                .tree
                .range(codec::key(range.start, 0)..codec::key(range.end, 0)),
        }
    }

    /// Removes the one record at the end that was not written whole, if there is one.
    fn remove_torn_end(&self) -> Result<(), StoreError> {
        let doing = "read the end of the log";
        let Some((last, _)) = self.tree.last().map_err(StoreError::database(doing))? else {
            return Ok(());
        };
        let (index, _) = codec::split_key(&last)?;
        if !self
            .tree
            .contains_key(codec::key(index, 0))
            .map_err(StoreError::database(doing))?
        {
            tracing::info!(
                index,
                "removed a log entry that was only partly written before a crash; it was never acknowledged"
            );
            self.remove_record(index)
                .map_err(StoreError::database("remove an unfinished log entry"))?;
        }
        Ok(())
    }

    fn remove_record(&self, index: u64) -> sled::Result<()> {
        self.tree.remove(codec::key(index, 0))?;
        for key in self
            .tree
            .range(codec::key(index, 1)..=codec::key(index, u16::MAX))
            .keys()
            .rev()
        {
            self.tree.remove(key?)?;
        }
        Ok(())
    }

    fn verify(&self) -> Result<(), StoreError> {
        let purged = self.shared.extent.lock().purged;
        let mut expected = purged.map(|purged| purged.saturating_add(1));
        let mut present = None;
        let mut sizes = Sizes::default();
        for record in (Records {
            parts: self.tree.iter(),
        }) {
            let Record { index, bytes } = record?;
            follows(expected.unwrap_or(index), index)?;
            expected = Some(index.saturating_add(1));
            present = Some((present.map_or(index, |(first, _)| first), index));
            sizes.push(index, bytes.len());
        }
        let mut extent = self.shared.extent.lock();
        (extent.present, extent.sizes) = (present, sizes);
        Ok(())
    }
}

/// Joins parts into records.
struct Records {
    parts: sled::Iter,
}

impl Iterator for Records {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.parts.next()?;
        Some(
            first
                .map_err(StoreError::database("read the log"))
                .and_then(|(key, value)| self.join(&key, &value)),
        )
    }
}

impl Records {
    fn join(&mut self, key: &[u8], value: &[u8]) -> Result<Record, StoreError> {
        let (index, number) = codec::split_key(key)?;
        if number != 0 {
            return Err(damaged(
                index,
                number,
                "it is an orphan: part 0 is missing or has a smaller number of parts",
            ));
        }
        let head = codec::unseal(key, value, ENTRY, || place(index, 0))?;
        let bytes = if head.parts == 1 {
            Bytes::copy_from_slice(head.bytes)
        } else {
            self.join_parts(index, &head)?
        };
        if bytes.len() != head.length as usize {
            return Err(damaged(
                index,
                0,
                format!("the length is {}, expected {}", bytes.len(), head.length),
            ));
        }
        let crc = codec::record_crc(index, &bytes);
        if crc != head.record_crc {
            let reason = format!(
                "the entry's checksum is {crc:08x}, expected {:08x}",
                head.record_crc
            );
            return Err(damaged(index, 0, reason));
        }
        Ok(Record { index, bytes })
    }

    fn join_parts(&mut self, index: u64, head: &Part<'_>) -> Result<Bytes, StoreError> {
        let mut bytes = BytesMut::from(head.bytes);
        for number in 1..head.parts {
            let next = self
                .parts
                .next()
                .transpose()
                .map_err(StoreError::database("read the log"))?;
            let Some((key, value)) = next.filter(|(key, _)| key[..] == codec::key(index, number))
            else {
                return Err(damaged(
                    index,
                    number,
                    format!("it is missing, of {} parts", head.parts),
                ));
            };
            let part = codec::unseal(&key, &value, ENTRY, || place(index, number))?;
            if (part.parts, part.length, part.record_crc)
                != (head.parts, head.length, head.record_crc)
            {
                return Err(damaged(
                    index,
                    number,
                    "it belongs to another record than part 0",
                ));
            }
            bytes.extend_from_slice(part.bytes);
        }
        Ok(bytes.freeze())
    }
}

fn place(index: u64, part: u16) -> String {
    format!("{index} part {part}")
}

fn damaged(index: u64, part: u16, reason: impl ToString) -> StoreError {
    StoreError::damaged(ENTRY, place(index, part), reason)
}

fn follows(expected: u64, index: u64) -> Result<(), StoreError> {
    if index == expected {
        Ok(())
    } else {
        Err(missing(expected))
    }
}

fn missing(index: u64) -> StoreError {
    StoreError::damaged(
        ENTRY,
        index.to_string(),
        "it is missing, but later entries exist",
    )
}
