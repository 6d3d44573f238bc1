//! A snapshot on disk, and one that is still being written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use lockstep_machine::State;
use parking_lot::Mutex;

use crate::failpoints::{self, Failpoint};

use super::super::{GROUP, SnapshotHandle, StoreError};
use super::format::{Header, Reader};

/// How the name of a complete snapshot ends.
pub(super) const COMPLETE: &str = "snapshot";

/// How the name of an unfinished snapshot ends.
pub(super) const UNFINISHED: &str = "tmp";

/// Bytes written between two syncs: a few milliseconds of work for a disk. With a single sync at the end, a large
/// snapshot would be written in one go, and the log's flushes would wait for it.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// A complete, verified snapshot: an open file. It stays readable when a newer one replaces it; one
/// that never became current is removed with its last handle.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    path: PathBuf,
    header: Header,
    length: u64,
    /// Its state, restored in advance.
    restored: Mutex<Option<State>>,
    /// Whether the file outlives its handles.
    kept: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl SnapshotHandle for SnapshotFile {
    fn index(&self) -> u64 {
        self.inner.header.index
    }

    fn meta(&self) -> Bytes {
        self.inner.header.meta.clone()
    }

    fn length(&self) -> u64 {
        self.inner.length
    }
}

impl SnapshotFile {
    /// Reads up to `max` bytes of the file from `offset`; fewer at its end, none after it. Blocks.
    pub fn read_at(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let length = usize::try_from(self.inner.length.saturating_sub(offset))
            .unwrap_or(max)
            .min(max);
        let mut bytes = BytesMut::zeroed(length);
        self.inner.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.freeze())
    }

    /// Opens the file at `path` and checks every byte of it.
    pub(in crate::store) fn open(path: PathBuf) -> Result<SnapshotFile, StoreError> {
        Ok(Self::open_with(path, Reader::check_rest)?.0)
    }

    /// Opens the file at `path` and checks its header; `read` must read the rest to its end.
    pub(super) fn open_with<T>(
        path: PathBuf,
        read: impl FnOnce(&mut Reader<Whole>) -> Result<T, StoreError>,
    ) -> Result<(SnapshotFile, T), StoreError> {
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let length = file
            .metadata()
            .map_err(StoreError::io("read the size of", &path))?
            .len();
        let file = Arc::new(file);
        let (header, mut reader) = Reader::open(whole(&file), &name(&path), length)?;
        let what_was_read = read(&mut reader)?;
        let inner = Inner {
            file,
            path,
            header,
            length,
            restored: Mutex::default(),
            kept: AtomicBool::new(true),
        };
        let inner = Arc::new(inner);
        Ok((SnapshotFile { inner }, what_was_read))
    }

    /// Reads it from the start, header first.
    pub(super) fn reader(&self) -> Result<Reader<Whole>, StoreError> {
        let (_, reader) = Reader::open(whole(&self.inner.file), &self.name(), self.inner.length)?;
        Ok(reader)
    }

    /// Its file's name.
    pub(super) fn name(&self) -> String {
        name(&self.inner.path)
    }

    /// Keeps the state for whoever reads the snapshot next.
    pub(in crate::store) fn keep_restored(&self, state: State) {
        *self.inner.restored.lock() = Some(state);
    }

    /// The state that was kept, once.
    pub(super) fn take_restored(&self) -> Option<State> {
        self.inner.restored.lock().take()
    }

    /// Whether both are handles of the same file.
    pub(super) fn is_same(&self, other: &SnapshotFile) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Sets whether the file is kept when its handles are dropped.
    pub(super) fn keep(&self, kept: bool) {
        self.inner.kept.store(kept, Ordering::Release);
    }

    /// Takes the file out of its directory. The handles go on reading it.
    pub(super) fn unlink(&self) {
        self.keep(false);
        if let Err(error) = fs::remove_file(&self.inner.path) {
            tracing::warn!(path = %self.inner.path.display(), %error, "cannot delete an old snapshot");
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A shared file from its start.
pub(super) type Whole = BufReader<At>;

fn whole(file: &Arc<File>) -> Whole {
    BufReader::with_capacity(
        1 << 18,
        At {
            file: file.clone(),
            offset: 0,
        },
    )
}

/// Reads a shared file with a position of its own.
pub(super) struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A snapshot that is being written. Dropped before it is complete, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) file: Arc<File>,
    path: PathBuf,
}

/// Writes a file from its start. Syncs it every few megabytes, and calls `check` before it goes on.
pub(super) struct Steady<'a, C> {
    file: &'a File,
    written: u64,
    check: C,
}

impl<C: FnMut() -> io::Result<()>> Write for Steady<'_, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.written)?;
        let before = self.written;
        self.written += written as u64;
        if sync_now_and_then(self.file, before, self.written)? {
            (self.check)()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Syncs a file that has grown, if a few megabytes have come together; whether it did.
pub(super) fn sync_now_and_then(file: &File, from: u64, to: u64) -> io::Result<bool> {
    if from / SYNC_EVERY_BYTES == to / SYNC_EVERY_BYTES {
        return Ok(false);
    }
    file.sync_data()?;
    Ok(true)
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Unfinished {
    /// Starts one in `dir`.
    pub(super) fn create(dir: &Path) -> Result<Unfinished, StoreError> {
        let path = dir.join(format!(
            "{GROUP}-{:016x}.{UNFINISHED}",
            rand::random::<u64>()
        ));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        Ok(Unfinished {
            file: Arc::new(file.map_err(StoreError::io("create", &path))?),
            path,
        })
    }

    /// For writing it from its start; `check` may end it every few megabytes.
    pub(super) fn steadily<C>(&self, check: C) -> Steady<'_, C> {
        Steady {
            file: &self.file,
            written: 0,
            check,
        }
    }

    /// Syncs it, reads it back whole, and gives it its name. Its directory is not synced yet.
    pub(super) fn complete(self) -> Result<SnapshotFile, StoreError> {
        self.file
            .sync_all()
            .map_err(StoreError::io("sync", &self.path))?;
        failpoints::reach(Failpoint::SnapshotFlushed);
        let unnamed = SnapshotFile::open(self.path.clone())?;
        failpoints::reach(Failpoint::SnapshotChecked);
        let path = self.path.with_file_name(format!(
            "{GROUP}-{:020}-{:016x}.{COMPLETE}",
            unnamed.index(),
            rand::random::<u64>()
        ));
        fs::rename(&self.path, &path).map_err(StoreError::io("put in place", &path))?;
        let (header, length) = (unnamed.inner.header.clone(), unnamed.inner.length);
        let inner = Inner {
            file: self.file.clone(),
            path,
            header,
            length,
            restored: Mutex::default(),
            kept: AtomicBool::new(false),
        };
        Ok(SnapshotFile {
            inner: Arc::new(inner),
        })
    }
}
