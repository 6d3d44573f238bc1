//! Reads a backup from pieces of any size.

use bytes::{Buf as _, BytesMut};

use super::{
    BACKUP_FORMAT, BackupError, BackupHeader, END, HEADER, HEADER_BYTES_MAX, MAGIC, PREAMBLE_BYTES,
    RECORD_BYTES_MAX, Running, TRAILER_BYTES, frame_crc,
};
use crate::codec;

/// A part of a backup, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupPart {
    /// What the backup is of. Comes first.
    Header(Box<BackupHeader>),
    /// A record of the state, for [`Restore`](crate::Restore).
    Record(Vec<u8>),
}

/// What a complete backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupTotals {
    /// Its records.
    pub records: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Reads a backup and checks every byte of it. After an error it must be dropped.
#[derive(Debug, Default)]
pub struct BackupDecoder {
    stage: Stage,
    /// Received and not read yet.
    waiting: BytesMut,
    /// What was read.
    file: Running,
    records: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Preamble,
    Header,
    Records,
    Ended,
}

impl BackupDecoder {
    /// Starts at the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the file. Take out all [parts](Self::next_part) before the next call: what was
    /// not taken stays in memory.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next part; `None` if it needs more bytes, or the backup has ended.
    ///
    /// # Errors
    ///
    /// The bytes are no backup, are damaged, or have another format.
    pub fn next_part(&mut self) -> Result<Option<BackupPart>, BackupError> {
        if self.stage == Stage::Preamble && !self.preamble()? {
            return Ok(None);
        }
        match self.stage {
            Stage::Preamble => Ok(None),
            Stage::Header => {
                let Some(content) = self.frame(HEADER_BYTES_MAX)? else {
                    return Ok(None);
                };
                let header: BackupHeader =
                    codec::decode(HEADER, &content).map_err(|error| self.damaged(error))?;
                self.stage = Stage::Records;
                Ok(Some(BackupPart::Header(Box::new(header))))
            }
            Stage::Records if self.peek_length() == Some(END) => {
                self.trailer()?;
                Ok(None)
            }
            Stage::Records => {
                let record = self.frame(RECORD_BYTES_MAX)?;
                self.records += u64::from(record.is_some());
                Ok(record.map(BackupPart::Record))
            }
            Stage::Ended if self.waiting.is_empty() => Ok(None),
            Stage::Ended => {
                let more = format!("{} bytes follow its trailer", self.waiting.len());
                Err(self.damaged(more))
            }
        }
    }

    /// Ends the backup.
    ///
    /// # Errors
    ///
    /// It is incomplete, or a part of it was not taken.
    pub fn finish(mut self) -> Result<BackupTotals, BackupError> {
        if let Some(part) = self.next_part()? {
            drop(part);
            return Err(self.damaged("not all of it was read"));
        }
        match self.stage {
            Stage::Ended => Ok(BackupTotals {
                records: self.records,
                bytes: self.file.bytes,
            }),
            // Fewer bytes than a preamble may be the start of anything.
            Stage::Preamble if !MAGIC.starts_with(&self.waiting[..self.waiting.len().min(8)]) => {
                Err(BackupError::Foreign)
            }
            _ => Err(BackupError::Incomplete {
                bytes: self.file.bytes + self.waiting.len() as u64,
            }),
        }
    }

    /// Whether the preamble was there.
    fn preamble(&mut self) -> Result<bool, BackupError> {
        if self.waiting.len() >= MAGIC.len() && !self.waiting.starts_with(&MAGIC) {
            return Err(BackupError::Foreign);
        }
        if self.waiting.len() < PREAMBLE_BYTES {
            return Ok(false);
        }
        let preamble = self.take(PREAMBLE_BYTES);
        let computed = crc32fast::hash(&preamble[..12]);
        let mut numbers = &preamble[8..];
        let (format, crc) = (numbers.get_u32(), numbers.get_u32());
        if crc != computed {
            return Err(self.damaged("the checksum of its format does not match"));
        }
        if format != BACKUP_FORMAT {
            return Err(BackupError::Format { found: format });
        }
        self.stage = Stage::Header;
        Ok(true)
    }

    fn peek_length(&self) -> Option<u32> {
        let length = self.waiting.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*length))
    }

    /// The content of the next frame, once all of it is there.
    fn frame(&mut self, bytes_max: u32) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(length) = self.peek_length() else {
            return Ok(None);
        };
        if length > bytes_max {
            return Err(self.damaged(format!("a length of {length} bytes is too large")));
        }
        let whole = 8 + length as usize;
        if self.waiting.len() < whole {
            return Ok(None);
        }
        let frame = self.take(whole);
        let mut head = &frame[4..8];
        let content = frame[8..].to_vec();
        if head.get_u32() != frame_crc(length, &content) {
            return Err(self.damaged("a checksum does not match"));
        }
        Ok(Some(content))
    }

    fn trailer(&mut self) -> Result<(), BackupError> {
        if self.waiting.len() < TRAILER_BYTES {
            return Ok(());
        }
        let mut numbers = self.take(TRAILER_BYTES - 4).split_off(4);
        let (records, bytes) = (numbers.get_u64(), numbers.get_u64());
        let computed = self.file.crc();
        if self.take(4).get_u32() != computed {
            return Err(self.damaged("the checksum of the whole file does not match"));
        }
        if (records, bytes) != (self.records, self.file.bytes) {
            let expected = format!("its trailer counts {records} records in {bytes} bytes");
            return Err(self.damaged(expected));
        }
        self.stage = Stage::Ended;
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.next_part().map(drop)
    }

    fn take(&mut self, length: usize) -> BytesMut {
        let taken = self.waiting.split_to(length);
        self.file.add(&taken);
        taken
    }

    fn damaged(&self, reason: impl ToString) -> BackupError {
        BackupError::Damaged {
            at: self.file.bytes,
            reason: reason.to_string(),
        }
    }
}
