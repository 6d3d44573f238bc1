//! The snapshot file: a header, the state's records, a footer. All numbers are big-endian.
//!
//! ```text
//! preamble:  magic [8] | format u32 | crc u32 of magic and format
//! header:    group u32 | index u64 | meta length u32 | meta | crc u32 of all before
//! record:    length u32 | crc u32 | bytes
//! footer:    0xffffffff | record count u64 | crc u32 of all before
//! ```
//!
//! The preamble stays as it is in every later format, so that an unknown format with a valid
//! checksum is distinguished from corruption. Format 1 had neither that checksum nor the group.
//!
//! A snapshot is written and read as a stream; it is never in memory as a whole.

use std::io::{self, BufWriter, Read, Write};

use bytes::Bytes;

use super::super::{GROUP, StoreError};

const MAGIC: [u8; 8] = *b"LOCKSNAP";
pub(in crate::store) const FORMAT: u32 = 2;
const END: u32 = u32::MAX;

/// Bounds what a damaged length can make a reader allocate.
const RECORD_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// What a snapshot says of itself.
#[derive(Debug, Clone)]
pub(in crate::store) struct Header {
    /// The last log index it covers.
    pub index: u64,
    /// The caller's.
    pub meta: Bytes,
}

/// Writes a snapshot.
pub(in crate::store) fn write(
    target: impl Write,
    index: u64,
    meta: &[u8],
    records: impl Iterator<Item = Vec<u8>>,
) -> io::Result<()> {
    let mut target = Hashing {
        inner: BufWriter::with_capacity(1 << 18, target),
        crc: crc32fast::Hasher::new(),
    };
    target.write_all(&MAGIC)?;
    target.write_all(&FORMAT.to_be_bytes())?;
    target.write_crc()?;
    target.write_all(&GROUP.to_be_bytes())?;
    target.write_all(&index.to_be_bytes())?;
    target.write_all(&length(meta)?.to_be_bytes())?;
    target.write_all(meta)?;
    target.write_crc()?;
    let mut count = 0u64;
    for record in records {
        target.write_all(&length(&record)?.to_be_bytes())?;
        target.write_all(&crc32fast::hash(&record).to_be_bytes())?;
        target.write_all(&record)?;
        count += 1;
    }
    target.write_all(&END.to_be_bytes())?;
    target.write_all(&count.to_be_bytes())?;
    target.write_crc()?;
    target.inner.flush()
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    let length = bytes.len() as u64;
    StoreError::check_size("snapshot record", length, RECORD_BYTES_MAX.into())?;
    Ok(length as u32)
}

struct Hashing<W> {
    inner: W,
    crc: crc32fast::Hasher,
}

impl<W: Write> Hashing<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes)
    }

    fn write_crc(&mut self) -> io::Result<()> {
        let crc = self.crc.clone().finalize();
        self.write_all(&crc.to_be_bytes())
    }
}

/// Reads a snapshot and checks every byte of it.
pub(in crate::store) struct Reader<R> {
    source: R,
    name: String,
    length: u64,
    position: u64,
    crc: crc32fast::Hasher,
    records: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `name` is for error messages.
    pub(in crate::store) fn open(
        source: R,
        name: &str,
        length: u64,
    ) -> Result<(Header, Self), StoreError> {
        let mut reader = Reader {
            source,
            name: name.to_owned(),
            length,
            position: 0,
            crc: crc32fast::Hasher::new(),
            records: 0,
        };
        if reader.take::<8>()? != MAGIC {
            return Err(reader.damaged("it does not start with a snapshot's magic number"));
        }
        let found = reader.number()?;
        if found != 1 {
            reader.check_crc("the format's")?;
        }
        if found != FORMAT {
            return Err(StoreError::format(
                format!("snapshot {name}"),
                found,
                FORMAT,
            ));
        }
        let group = reader.number()?;
        if group != GROUP {
            return Err(reader.damaged(&format!("it belongs to Raft group {group}")));
        }
        let index = u64::from_be_bytes(reader.take()?);
        let meta_length = reader.number()?;
        let meta = reader.take_bytes(meta_length)?;
        reader.check_crc("the header's")?;
        Ok((
            Header {
                index,
                meta: meta.into(),
            },
            reader,
        ))
    }

    /// The next record; `None` once the footer was reached and is right.
    pub(in crate::store) fn next_record(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let length = self.number()?;
        if length == END {
            return self.check_footer().map(|()| None);
        }
        let expected = self.number()?;
        let record = self.take_bytes(length)?;
        if crc32fast::hash(&record) != expected {
            return Err(self.damaged("its checksum does not match"));
        }
        self.records += 1;
        Ok(Some(record))
    }

    /// The name in its error messages.
    pub(in crate::store) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes read, and all bytes.
    pub(in crate::store) fn progress(&self) -> (u64, u64) {
        (self.position, self.length)
    }

    /// Reads to the end.
    pub(in crate::store) fn check_rest(&mut self) -> Result<(), StoreError> {
        while self.next_record()?.is_some() {}
        Ok(())
    }

    fn check_footer(&mut self) -> Result<(), StoreError> {
        let count = u64::from_be_bytes(self.take()?);
        self.check_crc("the whole file's")?;
        if count != self.records {
            return Err(self.damaged(&format!("the footer counts {count} records")));
        }
        if self.position != self.length {
            return Err(self.damaged(&format!(
                "{} bytes follow the footer",
                self.length - self.position
            )));
        }
        Ok(())
    }

    fn check_crc(&mut self, whose: &str) -> Result<(), StoreError> {
        let computed = self.crc.clone().finalize();
        if self.number()? == computed {
            Ok(())
        } else {
            Err(self.damaged(&format!("{whose} checksum does not match")))
        }
    }

    fn number(&mut self) -> Result<u32, StoreError> {
        self.take().map(u32::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn take_bytes(&mut self, length: u32) -> Result<Vec<u8>, StoreError> {
        if length > RECORD_BYTES_MAX || u64::from(length) > self.length - self.position {
            return Err(self.damaged(&format!("a length of {length} bytes is impossible")));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        if bytes.len() as u64 > self.length - self.position {
            return Err(self.damaged("it ends too early"));
        }
        self.source
            .read_exact(bytes)
            .map_err(|error| self.damaged(&format!("it cannot be read: {error}")))?;
        self.crc.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn damaged(&self, reason: &str) -> StoreError {
        let place = format!(
            "{} near byte {} (record {})",
            self.name, self.position, self.records
        );
        StoreError::damaged("snapshot", place, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Header, Vec<Vec<u8>>), StoreError> {
        let (header, mut reader) = Reader::open(bytes, "test", bytes.len() as u64)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        Ok((header, records))
    }

    fn written() -> (Vec<Vec<u8>>, Vec<u8>) {
        let records: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; usize::from(n) * 3]).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, 42, b"meta", records.iter().cloned()).unwrap();
        (records, bytes)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (records, bytes) = written();
        let (header, found) = read(&bytes).unwrap();
        assert_eq!(
            (header.index, &header.meta[..], found),
            (42, &b"meta"[..], records)
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let (_, bytes) = written();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = read(&damaged).unwrap_err();
            assert!(
                matches!(error, StoreError::Damaged { .. }),
                "bit {bit}: {error}"
            );
        }
    }

    #[test]
    fn another_format_with_a_valid_checksum_is_not_damage() {
        let newer = [&MAGIC[..], &3u32.to_be_bytes()].concat();
        let crc = crc32fast::hash(&newer).to_be_bytes();
        let newer = [&newer[..], &crc, b"a later layout"].concat();
        let older = [&MAGIC[..], &1u32.to_be_bytes(), &[0; 24]].concat();
        for (bytes, expected) in [(newer, 3), (older, 1)] {
            let error = read(&bytes).unwrap_err();
            let StoreError::Format {
                found, supported, ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((found, supported), (expected, FORMAT));
        }
    }

    #[test]
    fn a_cut_or_lengthened_file_is_noticed() {
        let (_, mut bytes) = written();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut to {length}");
        }
        bytes.push(0);
        assert!(read(&bytes).is_err());
    }
}
