//! The log of format 2, in which sled held the entries themselves, and its move to format 3.
//!
//! Its tree has one key for each part of an entry. Since format 3, it has a single key, after all that format 2
//! could have, with a value of the new format: a build that reads format 2 only refuses it, and names both.

use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::codec::{self, Part};
use super::log::{Log, missing};
use super::log_writer::LogWriter;
use super::segment::ENTRY;
use super::slots::Slots;
use super::{Record, StoreError, catalogue};

/// The format of the log as a whole.
pub(super) const LOG_FORMAT: u8 = 3;

/// What the log is called in error messages.
const LOG: &str = "the log";

/// Whether the tree holds entries of format 2.
///
/// # Errors
///
/// The log has another format than 2 and 3.
pub(super) fn has_entries(tree: &sled::Tree) -> Result<bool, StoreError> {
    if is_marked(tree)? {
        return Ok(false);
    }
    match tree.first().map_err(reading())? {
        Some((first, _)) => codec::split_key(&first).map(|_| true),
        None => Ok(false),
    }
}

/// Moves entries of format 2 into segments, and declares that the log has format 3. Does nothing where that is done,
/// and begins anew after a crash.
pub(super) fn move_entries(
    tree: &sled::Tree,
    dir: &Path,
    node_id: u64,
    slots: &Slots,
) -> Result<(), StoreError> {
    if !is_marked(tree)? {
        match has_entries(tree)? {
            true => copy_entries(tree, dir, node_id, slots)?,
            false if !catalogue::list(slots)?.is_empty() => {
                let reason = "its marker is missing, but there are segments";
                return Err(StoreError::damaged(LOG, "in sled", reason));
            }
            false => {}
        }
        let value = codec::seal_empty(&marker(), LOG_FORMAT);
        tree.insert(marker(), value).map_err(writing())?;
        slots.flush()?;
    }
    for key in tree.range(..marker()).keys() {
        tree.remove(key.map_err(reading())?).map_err(writing())?;
    }
    Ok(())
}

fn copy_entries(
    tree: &sled::Tree,
    dir: &Path,
    node_id: u64,
    slots: &Slots,
) -> Result<(), StoreError> {
    tracing::info!("moving the log from sled into segments");
    for (number, _) in catalogue::list(slots)? {
        catalogue::remove(slots, number)?;
    }
    let log = Log::open(dir, node_id, slots)?;
    let purged = log.purged();
    let mut writer = LogWriter::new(log, slots.clone())?;
    let mut expected = purged.map(|upto| upto.saturating_add(1));
    for record in entries(tree)? {
        let record = record?;
        let index = record.index;
        if Some(index) <= purged {
            continue;
        }
        match expected {
            Some(expected) if index != expected => return Err(missing(expected)),
            _ => writer.append(&record)?,
        }
        expected = Some(index.saturating_add(1));
    }
    writer.flush()
}

/// Whether the tree says that the log has format 3.
fn is_marked(tree: &sled::Tree) -> Result<bool, StoreError> {
    let Some(value) = tree.get(marker()).map_err(reading())? else {
        return Ok(false);
    };
    match codec::format_of(&marker(), &value, LOG, || "in sled".to_owned())? {
        LOG_FORMAT => Ok(true),
        format => Err(StoreError::format(LOG, format.into(), LOG_FORMAT)),
    }
}

/// Part 0 of the last entry that there could be.
fn marker() -> codec::Key {
    codec::key(u64::MAX, 0)
}

fn reading() -> impl FnOnce(sled::Error) -> StoreError {
    StoreError::database("read the log")
}

fn writing() -> impl FnOnce(sled::Error) -> StoreError {
    StoreError::database("write to the log")
}

/// Every entry, without the one that a crash left in parts at the end: its part 0, written last, is missing.
fn entries(tree: &sled::Tree) -> Result<Records, StoreError> {
    let mut end = marker();
    if let Some((last, _)) = tree.last().map_err(reading())? {
        let (index, _) = codec::split_key(&last)?;
        if !tree.contains_key(codec::key(index, 0)).map_err(reading())? {
            end = codec::key(index, 0);
        }
    }
    Ok(Records {
        parts: tree.range(..end),
    })
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
                .map_err(reading())
                .and_then(|(key, value)| self.join(&key, &value)),
        )
    }
}

impl Records {
    fn join(&mut self, key: &[u8], value: &[u8]) -> Result<Record, StoreError> {
        let (index, number) = codec::split_key(key)?;
        if number != 0 {
            return Err(damaged(index, number, "part 0 is missing"));
        }
        let head = codec::unseal(key, value, ENTRY, || place(index, 0))?;
        let bytes = if head.parts == 1 {
            Bytes::copy_from_slice(head.bytes)
        } else {
            self.join_parts(index, &head)?
        };
        let crc = codec::record_crc(index, &bytes);
        if (bytes.len(), crc) != (head.length as usize, head.record_crc) {
            return Err(damaged(index, 0, "its length or checksum does not match"));
        }
        Ok(Record { index, bytes })
    }

    fn join_parts(&mut self, index: u64, head: &Part<'_>) -> Result<Bytes, StoreError> {
        let mut bytes = BytesMut::from(head.bytes);
        for number in 1..head.parts {
            let next = self.parts.next().transpose().map_err(reading())?;
            let Some((key, value)) = next.filter(|(key, _)| key[..] == codec::key(index, number))
            else {
                return Err(damaged(index, number, "it is missing"));
            };
            let part = codec::unseal(&key, &value, ENTRY, || place(index, number))?;
            bytes.extend_from_slice(part.bytes);
        }
        Ok(bytes.freeze())
    }
}

fn place(index: u64, part: u16) -> String {
    format!("{index} part {part}")
}

fn damaged(index: u64, part: u16, reason: &str) -> StoreError {
    StoreError::damaged(ENTRY, place(index, part), reason)
}
