//! A segment: one file of the log, with consecutive entries. It is written once, from front to back.
//!
//! ```text
//! header  magic [8] | format u32 | group u32 | node id u64 | number u64 | first index u64 | crc u32 of the rest
//! record  crc u32 | length u32 | index u64 | bytes
//! ```
//!
//! All numbers are big-endian. A record's crc covers its index and its bytes. The file is preallocated, so zeros
//! follow the last record. Magic, format and the header's crc keep their positions in every later format.
//!
//! The catalogue, in sled, says which segments there are, and where each one ends that is no longer written. In the
//! last one, the log ends where no record follows: at zeros, or at what a crash has left of a record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::codec::{RECORD_BYTES_MAX, record_crc};
use super::{GROUP, Record, StoreError, durability, files, reserve};

pub(super) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"LOCKSEGM";
const HEADER_BYTES: usize = 44;
const RECORD_HEADER_BYTES: usize = 16;
/// Bytes read from a file at once.
const READ_BUFFER_BYTES: usize = 128 << 10;
/// Bytes between two marks, at least: the precision of sizes, and the most that a read skips.
const MARK_EVERY: u64 = 64 << 10;

/// What a record is called in error messages.
pub(super) const ENTRY: &str = "log entry";
const SEGMENT: &str = "log segment";

/// Which segment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentId {
    /// The node that wrote it.
    pub(super) node_id: u64,
    /// Counts the segments of the log.
    pub(super) number: u64,
    /// The index of its first record.
    pub(super) first: u64,
}

/// Where a record begins.
#[derive(Debug, Clone, Copy)]
struct Mark {
    index: u64,
    offset: u64,
}

/// What a segment holds.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) first: u64,
    /// Its last index; none if it holds no record.
    pub(super) last: Option<u64>,
    /// Where its last record ends.
    pub(super) end: u64,
    /// Its first record, and the first of every so many bytes behind it.
    marks: Vec<Mark>,
}

impl Segment {
    pub(super) fn new(number: u64, first: u64) -> Segment {
        Segment {
            number,
            first,
            last: None,
            end: HEADER_BYTES as u64,
            marks: Vec::new(),
        }
    }

    /// A record of so many bytes was written at the end.
    pub(super) fn push(&mut self, index: u64, bytes: usize) {
        let offset = self.end;
        if self
            .marks
            .last()
            .is_none_or(|mark| offset - mark.offset >= MARK_EVERY)
        {
            self.marks.push(Mark { index, offset });
        }
        self.last = Some(index);
        self.end += record_size(bytes);
    }

    /// Its last record is the one at `last`, which ends at `end`.
    pub(super) fn cut(&mut self, last: u64, end: u64) {
        self.last = Some(last);
        self.end = end;
        self.marks.retain(|mark| mark.index <= last);
    }

    /// A place at or before the record at `index`, which is here: its index and its offset.
    pub(super) fn before(&self, index: u64) -> (u64, u64) {
        let behind = self.marks.partition_point(|mark| mark.index <= index);
        let mark = behind.checked_sub(1).and_then(|at| self.marks.get(at));
        mark.map_or((self.first, HEADER_BYTES as u64), |it| {
            (it.index, it.offset)
        })
    }

    /// Bytes of the records after `index`: at least that much, and at most [`MARK_EVERY`] and a record more.
    pub(super) fn bytes_after(&self, index: u64) -> u64 {
        match self.last {
            Some(last) if last > index => self.end - self.before(index).1,
            _ => 0,
        }
    }

    /// The places in it, last first: an index, and the bytes from there on.
    pub(super) fn tails(&self) -> impl Iterator<Item = (u64, u64)> {
        let marks = self.marks.iter().rev();
        marks.map(|mark| (mark.index, self.end - mark.offset))
    }
}

/// Bytes of a record in its segment.
pub(super) fn record_size(bytes: usize) -> u64 {
    (RECORD_HEADER_BYTES + bytes) as u64
}

/// Appends a record's form to `buffer`; returns its checksum.
pub(super) fn encode(record: &Record, buffer: &mut Vec<u8>) -> Result<u32, StoreError> {
    let length = record.bytes.len();
    let what = format_args!("log entry {}", record.index);
    StoreError::check_size(what, length as u64, RECORD_BYTES_MAX)?;
    let crc = record_crc(record.index, &record.bytes);
    buffer.extend_from_slice(&crc.to_be_bytes());
    buffer.extend_from_slice(&(length as u32).to_be_bytes());
    buffer.extend_from_slice(&record.index.to_be_bytes());
    buffer.extend_from_slice(&record.bytes);
    Ok(crc)
}

/// Creates a segment, durably, with room for `bytes` after its header. Without enough space, nothing is left of it.
pub(super) fn create(dir: &Path, id: SegmentId, bytes: u64) -> Result<File, StoreError> {
    let path = path(dir, id.number);
    let create = || {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)?;
        files::allocate(&file, HEADER_BYTES as u64 + bytes)?;
        file.write_all_at(&header(id), 0)?;
        file.sync_all()?;
        Ok(file)
    };
    let file = create().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => {
            let _ = fs::remove_file(&path);
            StoreError::NoSpace {
                what: "another segment of the log",
                needed: bytes,
                free: reserve::free_bytes(dir).unwrap_or(0),
            }
        }
        _ => StoreError::io("create", &path)(error),
    })?;
    files::sync_dir(dir)?;
    Ok(file)
}

/// Gives the space behind the last record back.
pub(super) fn trim(dir: &Path, number: u64, end: u64) -> Result<(), StoreError> {
    let path = path(dir, number);
    let trim = || OpenOptions::new().write(true).open(&path)?.set_len(end);
    trim().map_err(StoreError::io("shorten", &path))
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{GROUP}-{number:020}.segment"))
}

/// The number of the segment in a file of this name, if it is one.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(&format!("{GROUP}-"))?;
    number.strip_suffix(".segment")?.parse().ok()
}

/// A segment's first bytes.
pub(super) fn header(id: SegmentId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_be_bytes());
    header[12..16].copy_from_slice(&GROUP.to_be_bytes());
    header[16..24].copy_from_slice(&id.node_id.to_be_bytes());
    header[24..32].copy_from_slice(&id.number.to_be_bytes());
    header[32..40].copy_from_slice(&id.first.to_be_bytes());
    seal(&mut header);
    header
}

/// Writes the checksum that belongs to a header.
pub(super) fn seal(header: &mut [u8]) {
    let crc = crc32fast::hash(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
}

fn check_header(found: &[u8; HEADER_BYTES], id: SegmentId) -> Result<(), StoreError> {
    let damaged = |reason: String| StoreError::damaged(SEGMENT, id.number.to_string(), reason);
    if found[..8] != MAGIC {
        return Err(damaged("it has no segment's magic number".to_owned()));
    }
    let mut sealed = *found;
    seal(&mut sealed);
    if sealed != *found {
        return Err(damaged("its header's checksum does not match".to_owned()));
    }
    let format = u32::from_be_bytes([found[8], found[9], found[10], found[11]]);
    if format != FORMAT {
        let what = format!("{SEGMENT} {}", id.number);
        return Err(StoreError::format(what, format, FORMAT));
    }
    match *found == header(id) {
        true => Ok(()),
        false => Err(damaged("its file is that of another segment".to_owned())),
    }
}

/// Reads records one after the other, and checks each.
pub(super) struct Scan {
    file: BufReader<File>,
    path: PathBuf,
    offset: u64,
    end: u64,
    expected: u64,
}

impl Scan {
    /// Checks the header, then begins at the first record. Ends at `end`, or at the end of the file.
    pub(super) fn open(dir: &Path, id: SegmentId, end: Option<u64>) -> Result<Scan, StoreError> {
        let mut scan = Scan::at(dir, id.number, (id.first, 0), end)?;
        let mut header = [0; HEADER_BYTES];
        if scan.end < HEADER_BYTES as u64 {
            let reason = format!("{} bytes are too short for a header", scan.end);
            return Err(StoreError::damaged(SEGMENT, id.number.to_string(), reason));
        }
        scan.read(&mut header)?;
        check_header(&header, id)?;
        Ok(scan)
    }

    /// Begins with the record at this index and offset.
    pub(super) fn at(
        dir: &Path,
        number: u64,
        (index, offset): (u64, u64),
        end: Option<u64>,
    ) -> Result<Scan, StoreError> {
        let path = path(dir, number);
        let open = || -> io::Result<(File, u64)> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = "its file is missing";
                return Err(StoreError::damaged(SEGMENT, number.to_string(), reason));
            }
            opened => opened.map_err(StoreError::io("read", &path))?,
        };
        let end = end.unwrap_or(length);
        if end > length {
            let reason = format!("it has {length} bytes, expected at least {end}");
            return Err(StoreError::damaged(SEGMENT, number.to_string(), reason));
        }
        Ok(Scan {
            file: BufReader::with_capacity(READ_BUFFER_BYTES, file),
            path,
            offset,
            end,
            expected: index,
        })
    }

    /// Makes what was read durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        (durability::sync(self.file.get_ref())).map_err(StoreError::io("sync", &self.path))
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; none at the end, or where nothing was written. Anything else is damage.
    pub(super) fn next(&mut self) -> Result<Option<Record>, StoreError> {
        if self.offset == self.end {
            return Ok(None);
        }
        let index = self.expected;
        let damaged = |reason: String| StoreError::damaged(ENTRY, index.to_string(), reason);
        let room = self.end - self.offset;
        if room < RECORD_HEADER_BYTES as u64 {
            // Preallocated files end anywhere.
            let mut rest = vec![0; room as usize];
            self.read(&mut rest)?;
            return match rest.iter().all(|byte| *byte == 0) {
                true => Ok(None),
                false => Err(damaged(format!("the file has only {room} bytes of it"))),
            };
        }
        let mut header = [0; RECORD_HEADER_BYTES];
        let offset = self.offset;
        self.read(&mut header)?;
        if header == [0; RECORD_HEADER_BYTES] {
            self.offset = offset;
            return Ok(None);
        }
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (crc, length) = (number(0), u64::from(number(4)));
        let found = u64::from(number(8)) << 32 | u64::from(number(12));
        if found != index {
            return Err(damaged(format!("the file has entry {found} instead")));
        }
        if length > RECORD_BYTES_MAX || length > self.end - self.offset {
            return Err(damaged(format!("a length of {length} bytes is impossible")));
        }
        let mut bytes = vec![0; length as usize];
        self.read(&mut bytes)?;
        let computed = record_crc(index, &bytes);
        if computed != crc {
            let reason = format!("the checksum is {computed:08x}, expected {crc:08x}");
            return Err(damaged(reason));
        }
        self.expected += 1;
        let bytes = Bytes::from(bytes);
        Ok(Some(Record { index, bytes }))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        (self.file.read_exact(bytes)).map_err(StoreError::io("read", &self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
