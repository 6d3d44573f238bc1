//! The watermark: what the log must still hold, in a file of its own.
//!
//! After a crash, sled recovers what it can read. It cannot distinguish a write that the crash interrupted from a
//! flushed one that was damaged since, and drops both, with all that follows in the segment. Nothing in the log
//! shows that it was longer, or that a slot had a later value. So this file records, after every flush, a
//! [`Mark`]: the last entry (its index and checksum), the purge point, and the vote. Opening refuses a log that
//! does not reach it.
//!
//! # When it is written
//!
//! - After every flush and before its completions: written, not synced. That costs a system call of a few
//!   microseconds, and survives the end of the process.
//! - Synced when [`SYNC_EVERY`] has passed since the first write that was not, after the completions of the flush,
//!   or while the writer is idle. So at most ten times a second, the sync of one page delays a flush; and a power loss
//!   loses at most the marks of that interval.
//! - With a new vote: synced before the vote's completion. A vote in the file was flushed in the log.
//! - Before entries are removed from the end of the log: lowered, and synced.
//! - When the writer stops: synced.
//!
//! # Crashes
//!
//! A mark must never claim more than the log holds, at any point:
//!
//! - Between a flush and the write: the log holds more than the mark. That is allowed.
//! - Power loss: the operating system may have written any of the marks since the last sync, or a torn one. Each
//!   was written after the flush of what it claims. There are two places in the file; the one that was synced
//!   last is left alone until the other one is synced. So one is always whole, and the later one counts.
//! - Between the lowering and the removal, or within it: the log holds more than the mark.
//! - After the removal and before its flush: as above; after the flush: the log holds what the mark claims.
//! - A purge: the purge point only moves up. A mark whose entry is at or below the purge point claims nothing
//!   more of the log. A snapshot that is installed beyond the end of the log purges all of it.
//! - During the first start: the file is created, whole, before the identity says that the folder is bound
//!   ([`binding`](super::binding)). A folder that is bound and has no such file is refused.
//!
//! # What is not detected
//!
//! - Damage to entries that were flushed within the last [`SYNC_EVERY`] before a power loss, where the operating
//!   system had not written the mark yet. After the end of a process or an orderly stop there is no such window.
//! - A log that ends later than the mark: it is what a crash after a flush leaves.
//! - Damage of the newer place together with damage of the log: the older place may claim less.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::log::Log;
use super::slots::{SlotName, Slots};
use super::{Slot, StoreError, files};

/// The longest time that a mark stays unsynced.
pub(super) const SYNC_EVERY: Duration = Duration::from_millis(100);

pub(super) const FORMAT: u32 = 1;

/// The file, in a data folder.
pub(super) const WATERMARK: &str = "watermark";
const MAGIC: [u8; 8] = *b"LOCKMARK";
/// Magic, format, length of the body, checksum of everything else.
const HEADER_BYTES: usize = 20;
/// One place: a page, so that no write touches both.
const PLACE_BYTES: usize = 4096;
const PLACES: usize = 2;

/// What the log must hold. An array in CBOR; fields may be added at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Mark {
    /// Counts the writes: of two places, the one with the higher number counts.
    #[n(0)]
    pub(super) number: u64,
    /// Whose log it is.
    #[n(1)]
    pub(super) node_id: u64,
    /// The last entry.
    #[n(2)]
    pub(super) last: Option<Entry>,
    /// Up to where the log was purged.
    #[n(3)]
    pub(super) purged: Option<u64>,
    /// The vote, as the caller encoded it.
    #[n(4)]
    pub(super) vote: Option<ByteVec>,
}

/// An entry that the log must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Entry {
    #[n(0)]
    pub(super) index: u64,
    /// The record's checksum: another entry at the same index is not this one.
    #[n(1)]
    pub(super) crc: u32,
}

/// The file. One thread writes it.
pub(super) struct Watermark {
    file: File,
    path: PathBuf,
    mark: Mark,
    /// Where the next mark goes. The other place holds the one that was synced last.
    place: usize,
    /// When a mark was written that is not synced yet.
    unsynced_since: Option<Instant>,
}

impl Watermark {
    /// Opens the file of a data folder and checks the log against it. Makes it for a log that has none, unless
    /// `required`. Returns the vote in it as well, for the caller to compare: the store does not know votes.
    pub(super) fn open(
        dir: &Path,
        node_id: u64,
        required: bool,
        log: &Log,
        slots: &Slots,
    ) -> Result<(Watermark, Option<Bytes>), StoreError> {
        let path = dir.join(WATERMARK);
        if !required && !path.exists() {
            let mark = Mark {
                node_id,
                ..Mark::default()
            };
            let place = encode(&mark)?;
            files::replace(&path, &[&place[..], &place[..]].concat())?;
        }
        let mismatch = |found: String| StoreError::Mismatch {
            dir: dir.to_owned(),
            found,
        };
        if !path.exists() {
            return Err(mismatch(format!("the file {WATERMARK} is missing")));
        }
        let (file, mark, place) = read(&path)?;
        if mark.node_id != node_id {
            return Err(mismatch(format!(
                "the file {WATERMARK} belongs to node {}, identity.json to node {node_id}",
                mark.node_id
            )));
        }
        check(&mark, log, slots)?;
        let noted_vote = mark.vote.clone().map(|vote| Vec::from(vote).into());
        let mut watermark = Watermark {
            file,
            path,
            mark,
            place: (place + 1) % PLACES,
            unsynced_since: None,
        };
        // A mark that a process left unsynced must be on disk before the other place is written.
        watermark.sync()?;
        let vote = slots.load(SlotName::Public(Slot::Vote))?;
        watermark.raise(log, vote)?;
        watermark.sync()?;
        Ok((watermark, noted_vote))
    }

    /// Notes what was flushed. With a new vote, the file is synced.
    pub(super) fn raise(&mut self, log: &Log, vote: Option<Bytes>) -> Result<(), StoreError> {
        let voted = vote.is_some();
        self.mark.last = match log.bounds() {
            Some((_, last)) => entry(log, last)?,
            None => None,
        };
        self.mark.purged = log.purged();
        if let Some(vote) = vote {
            self.mark.vote = Some(vote.to_vec().into());
        }
        self.write()?;
        match voted {
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// Claims nothing after `last_kept` any more, durably. Call before the log is cut off there.
    pub(super) fn lower(&mut self, log: &Log, last_kept: Option<u64>) -> Result<(), StoreError> {
        let Some(last) = self.mark.last else {
            return Ok(());
        };
        if last_kept.is_some_and(|kept| last.index <= kept) {
            return Ok(());
        }
        self.mark.last = match last_kept {
            Some(kept) => entry(log, kept)?,
            None => None,
        };
        self.write()?;
        self.sync()
    }

    /// When the file has to be synced.
    pub(super) fn sync_at(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_EVERY)
    }

    /// Makes the last mark durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        (self.file.sync_data()).map_err(StoreError::io("sync", &self.path))?;
        if self.unsynced_since.take().is_some() {
            self.place = (self.place + 1) % PLACES;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.mark.number += 1;
        let place = encode(&self.mark)?;
        let offset = self.place * PLACE_BYTES;
        (self.file.write_all_at(&place, offset as u64))
            .map_err(StoreError::io("write", &self.path))?;
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }
}

fn entry(log: &Log, index: u64) -> Result<Option<Entry>, StoreError> {
    Ok(log.record_crc(index)?.map(|crc| Entry { index, crc }))
}

/// Refuses a log that does not hold what was flushed.
fn check(mark: &Mark, log: &Log, slots: &Slots) -> Result<(), StoreError> {
    let lost = |place: String, reason: String| {
        let reason = format!("{reason}; it was flushed before the node stopped, and is lost");
        Err(StoreError::damaged("log", place, reason))
    };
    let purged = log.purged();
    if mark.purged > purged {
        let found = purged.map_or("not purged".to_owned(), |upto| {
            format!("purged up to {upto}")
        });
        let upto = mark.purged.unwrap_or_default();
        return lost(format!("purge point {upto}"), format!("the log is {found}"));
    }
    // With another vote than the mark's, an earlier release has used the folder, or the node crashed just before
    // the mark was written: a later leader may have replaced the entry. A lower vote is refused elsewhere.
    let vote = slots.load(SlotName::Public(Slot::Vote))?;
    let is_current = vote.as_deref() == mark.vote.as_ref().map(|vote| vote.as_slice());
    if let Some(last) = mark
        .last
        .filter(|_| is_current)
        .filter(|last| purged.is_none_or(|upto| upto < last.index))
    {
        let place = format!("entry {}", last.index);
        let end = log.bounds().map(|(_, last)| last).or(purged);
        if end.is_none_or(|end| end < last.index) {
            if let Some(damaged) = log.take_torn() {
                return Err(damaged);
            }
            let end = end.map_or("is empty".to_owned(), |end| format!("ends at entry {end}"));
            return lost(place, format!("the log {end}"));
        }
        let found = log.record_crc(last.index)?;
        if found != Some(last.crc) {
            return lost(
                place,
                "the log holds an earlier entry at this index".to_owned(),
            );
        }
    }
    if mark.vote.is_some() && vote.is_none() {
        return lost("vote".to_owned(), "the log holds no vote".to_owned());
    }
    Ok(())
}

/// Reads the place that counts, and which one it is.
fn read(path: &Path) -> Result<(File, Mark, usize), StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(StoreError::io("open", path))?;
    let mut newest: Option<(Mark, usize)> = None;
    let mut fault = None;
    for place in 0..PLACES {
        match read_place(&file, place) {
            Ok(mark)
                if newest
                    .as_ref()
                    .is_none_or(|(it, _)| it.number < mark.number) =>
            {
                newest = Some((mark, place));
            }
            Ok(_) => {}
            Err(format @ StoreError::Format { .. }) => return Err(format),
            // A power loss may have torn one of them, not both.
            Err(error) => fault = Some(error),
        }
    }
    match (newest, fault) {
        (Some((mark, place)), _) => Ok((file, mark, place)),
        (None, Some(fault)) => Err(fault),
        (None, None) => Err(damaged("it is empty")),
    }
}

fn read_place(file: &File, place: usize) -> Result<Mark, StoreError> {
    let mut bytes = [0; PLACE_BYTES];
    let offset = (place * PLACE_BYTES) as u64;
    (file.read_exact_at(&mut bytes, offset)).map_err(damaged)?;
    decode(&bytes)
}

/// A mark as one place holds it: `magic [8] | format u32 | body length u32 | crc u32 of the rest | body | zeros`.
/// The first four and the checksum's rule stay as they are in every later format.
pub(super) fn encode(mark: &Mark) -> Result<[u8; PLACE_BYTES], StoreError> {
    let body = minicbor::to_vec(mark).map_err(damaged)?;
    let space = PLACE_BYTES - HEADER_BYTES;
    StoreError::check_size("the watermark", body.len() as u64, space as u64)?;
    let mut place = [0; PLACE_BYTES];
    place[..8].copy_from_slice(&MAGIC);
    place[8..12].copy_from_slice(&FORMAT.to_be_bytes());
    place[12..16].copy_from_slice(&(body.len() as u32).to_be_bytes());
    place[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
    seal(&mut place);
    Ok(place)
}

/// Writes the checksum that belongs to the rest.
pub(super) fn seal(place: &mut [u8]) {
    let crc = crc(place);
    place[16..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
}

fn crc(place: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&place[..16]);
    crc.update(&place[HEADER_BYTES..]);
    crc.finalize()
}

pub(super) fn decode(place: &[u8; PLACE_BYTES]) -> Result<Mark, StoreError> {
    let number =
        |at: usize| u32::from_be_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]]);
    if place[..8] != MAGIC {
        return Err(damaged("it does not start with a watermark's magic number"));
    }
    let (found, computed) = (number(16), crc(place));
    if found != computed {
        let reason = format!("the checksum is {computed:08x}, expected {found:08x}");
        return Err(damaged(reason));
    }
    if number(8) != FORMAT {
        return Err(StoreError::format("the watermark", number(8), FORMAT));
    }
    let end = HEADER_BYTES.saturating_add(number(12) as usize);
    let body = place.get(HEADER_BYTES..end);
    let body = body.ok_or_else(|| damaged("its length is impossible"))?;
    minicbor::decode(body).map_err(damaged)
}

fn damaged(reason: impl ToString) -> StoreError {
    StoreError::damaged("file", WATERMARK, reason)
}
