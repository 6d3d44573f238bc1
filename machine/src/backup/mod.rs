//! The backup file: the state of a cluster at one log index, in one stream.
//!
//! ```text
//! preamble  magic [8] | format u32 | crc u32 of magic and format
//! header    length u32 | crc u32 of length and CBOR | CBOR, a BackupHeader
//! record    length u32 | crc u32 of length and bytes | bytes
//! ...
//! trailer   0xffffffff | records u64 | length of the file u64 | crc u32 of all before
//! ```
//!
//! All numbers are big-endian. The records are those of a snapshot ([`State::records`]), in their own versioned
//! form. The preamble stays as it is in every later format, so that an unknown format is distinguished from
//! damage. A file without a correct trailer is incomplete.
//!
//! [`backup_pieces`] writes a backup and [`BackupDecoder`] reads one, piece by piece, so that neither side
//! holds a whole file in memory. Nothing here does I/O.

mod decode;

pub use decode::{BackupDecoder, BackupPart, BackupTotals};

use minicbor::{Decode, Encode};

use crate::codec;
use crate::ids::{GlobalRevision, Timestamp};
use crate::snapshot::SNAPSHOT_FORMAT;
use crate::state::State;

/// The format of backups that this build writes and reads.
pub const BACKUP_FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"LOCKBKUP";
const PREAMBLE_BYTES: usize = 16;
/// Stands in the place of a record's length.
const END: u32 = u32::MAX;
const TRAILER_BYTES: usize = 24;
const HEADER: &str = "backup header";
/// Bounds what a damaged length can make a reader wait for.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
const RECORD_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Bytes in one piece, about.
const PIECE_BYTES: usize = 256 * 1024;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BackupHeader {
    /// The cluster.
    #[n(0)]
    pub cluster_id: String,
    /// The name of the node that wrote it.
    #[n(1)]
    pub node: String,
    /// The last log index applied to the state.
    #[n(2)]
    pub log_index: u64,
    /// The term of that log entry.
    #[n(3)]
    pub term: u64,
    /// The revision of the state.
    #[n(4)]
    pub revision: GlobalRevision,
    /// Cluster time of the state.
    #[n(5)]
    pub cluster_time: Timestamp,
    /// When it was written, by the clock of the node.
    #[n(6)]
    pub created_at: Timestamp,
    /// The release that wrote it.
    #[n(7)]
    pub build: String,
    /// The format of the records.
    #[n(8)]
    pub snapshot_format: u8,
    /// How many instances the state has.
    #[n(9)]
    pub instances: u64,
}

impl BackupHeader {
    /// The header of a backup of `state` after the log entry at `log_index` in `term`; the caller fills in
    /// the rest.
    pub fn of(state: &State, log_index: u64, term: u64) -> Self {
        Self {
            cluster_id: String::new(),
            node: String::new(),
            log_index,
            term,
            revision: state.revision(),
            cluster_time: state.now(),
            created_at: Timestamp(0),
            build: String::new(),
            snapshot_format: SNAPSHOT_FORMAT,
            instances: state.instance_count(),
        }
    }
}

/// Why bytes are not a backup that this build can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// They begin in another way.
    #[error("it is not a Lockstep backup: it does not begin with LOCKBKUP")]
    Foreign,
    /// Another release wrote it.
    #[error(
        "the backup has format {found}; this build reads format {BACKUP_FORMAT}: use the release that wrote it, or a later one"
    )]
    Format {
        /// The format it has.
        found: u32,
    },
    /// It was changed after it was written.
    #[error("the backup is damaged near byte {at}: {reason}; use another backup")]
    Damaged {
        /// The position.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// It ends too early.
    #[error(
        "the backup is incomplete: it ends after {bytes} bytes, without its trailer; use another backup"
    )]
    Incomplete {
        /// How many bytes there are.
        bytes: u64,
    },
}

/// The bytes of a backup, in pieces of about 256 KiB. Holds the state until the last.
pub fn backup_pieces(
    header: &BackupHeader,
    state: &State,
) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    Pieces {
        file: Running::default(),
        head: Some(head(header)),
        frames: state.records(),
        records: 0,
        ended: false,
    }
}

/// The preamble and the header.
fn head(header: &BackupHeader) -> Vec<u8> {
    let mut bytes = preamble(BACKUP_FORMAT).to_vec();
    bytes.extend(frame(&codec::encode(header)));
    bytes
}

fn preamble(format: u32) -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&format.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn frame(content: &[u8]) -> Vec<u8> {
    // The state machine bounds its records far below that.
    let length = u32::try_from(content.len()).unwrap_or(END);
    let mut bytes = Vec::with_capacity(8 + content.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(frame_crc(length, content).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn frame_crc(length: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_be_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// Length and checksum of everything so far.
#[derive(Debug, Clone, Default)]
struct Running {
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Running {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc.update(bytes);
    }

    fn crc(&self) -> u32 {
        self.crc.clone().finalize()
    }
}

struct Pieces<I> {
    file: Running,
    head: Option<Vec<u8>>,
    frames: I,
    records: u64,
    ended: bool,
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Pieces<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut piece = self.head.take().unwrap_or_default();
        while piece.len() < PIECE_BYTES {
            let Some(record) = self.frames.next() else {
                self.file.add(&piece);
                piece.extend(self.trailer());
                self.ended = true;
                return Some(piece);
            };
            self.records += 1;
            piece.extend(frame(&record));
        }
        self.file.add(&piece);
        Some(piece)
    }
}

impl<I> Pieces<I> {
    fn trailer(&mut self) -> Vec<u8> {
        let length = self.file.bytes + TRAILER_BYTES as u64;
        let mut bytes = END.to_be_bytes().to_vec();
        bytes.extend(self.records.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        self.file.add(&bytes);
        bytes.extend(self.file.crc().to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
