//! Snapshots, one file each. A slot in the log's database names the current one.
//!
//! A file gets its final name when it is complete and flushed, and the slot is written after that. So
//! a crash leaves at most a file that no slot names; opening the store deletes it.
//!
//! Opening the store restores the current one, which checks every byte of it. The state is kept for its first
//! reader, so a start reads the file once.

mod file;
pub(super) mod format;
mod receiver;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;

use bytes::Bytes;
use lockstep_machine::{Restore, RestoreError, State};
use parking_lot::Mutex;

use crate::failpoints::{self, Failpoint};

use super::{GROUP, SnapshotHandle, StoreError, files, reserve};
pub use file::SnapshotFile;
use file::Unfinished;
use format::Reader;
pub use receiver::SnapshotReceiver;

/// The snapshots of a data folder.
pub(super) struct Snapshots {
    dir: PathBuf,
    /// Bytes that must stay free for the log while a snapshot is written or received.
    free_bytes_min: u64,
    current: Mutex<Option<SnapshotFile>>,
    /// Held while the current one is replaced, which waits for the disk; `current` is never held
    /// that long.
    replacing: Mutex<()>,
}

impl Snapshots {
    /// Opens and restores the one named `current`, and removes what crashes left behind. Calls `restoring` with
    /// the bytes that are restored, and all bytes.
    pub(super) fn open(
        dir: PathBuf,
        free_bytes_min: u64,
        current: Option<Bytes>,
        restoring: &dyn Fn(u64, u64),
    ) -> Result<Snapshots, StoreError> {
        files::create_dir(&dir)?;
        let current = current
            .map(|name| open_current(&dir, &name, restoring))
            .transpose()?;
        remove_leftovers(&dir, current.as_ref())?;
        Ok(Snapshots {
            dir,
            free_bytes_min,
            current: Mutex::new(current),
            replacing: Mutex::new(()),
        })
    }

    /// The current one.
    pub(super) fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().clone()
    }

    /// Writes a snapshot, complete and synced, but not current yet. Stops before it takes the space that
    /// the log needs. Blocks.
    pub(super) fn write(
        &self,
        index: u64,
        meta: &[u8],
        records: impl Iterator<Item = Vec<u8>>,
    ) -> io::Result<SnapshotFile> {
        // About as large as the last one; the exact size is known only once it is written.
        self.check_space("a snapshot", self.current().map_or(0, |it| it.length()))?;
        let unfinished = Unfinished::create(&self.dir)?;
        let check = || self.check_space("the rest of a snapshot", 0);
        format::write(unfinished.steadily(check), index, meta, records)?;
        Ok(unfinished.complete()?)
    }

    /// Refuses to write `bytes` more where that would leave less than half of `free_bytes_min`: below the
    /// whole of it, commands are rejected, so the log grows no further.
    fn check_space(&self, what: &'static str, bytes: u64) -> io::Result<()> {
        let free = reserve::free_bytes(&self.dir)?;
        let needed = bytes.saturating_add(self.free_bytes_min / 2);
        if free < needed {
            return Err(StoreError::NoSpace { what, needed, free }.into());
        }
        Ok(())
    }

    /// Makes a snapshot current unless that one is newer. `point` writes the name down durably.
    /// Blocks.
    pub(super) fn make_current(
        &self,
        snapshot: &SnapshotFile,
        point: impl FnOnce(Bytes) -> io::Result<()>,
    ) -> io::Result<()> {
        let _replacing = self.replacing.lock();
        let previous = self.current();
        if previous
            .as_ref()
            .is_some_and(|current| current.is_same(snapshot) || current.index() > snapshot.index())
        {
            return Ok(());
        }
        files::sync_dir(&self.dir)?;
        // From here on the name may be on disk, even if `point` fails.
        snapshot.keep(true);
        failpoints::reach(Failpoint::SnapshotNamed);
        point(snapshot.name().into())?;
        failpoints::reach(Failpoint::SnapshotCurrent);
        *self.current.lock() = Some(snapshot.clone());
        if let Some(previous) = previous {
            previous.unlink();
        }
        Ok(())
    }

    /// Starts receiving a snapshot of `length` bytes. Blocks briefly.
    pub(super) fn receive(&self, length: u64) -> io::Result<SnapshotReceiver> {
        self.check_space("a snapshot from a peer", length)?;
        Ok(SnapshotReceiver::new(
            Unfinished::create(&self.dir)?,
            length,
        ))
    }
}

/// Rebuilds the state, unless that was done in advance. Blocks.
pub(super) fn restore(snapshot: &SnapshotFile) -> io::Result<State> {
    if let Some(state) = snapshot.take_restored() {
        return Ok(state);
    }
    Ok(restore_from(&mut snapshot.reader()?, &|_, _| {})?)
}

/// Rebuilds the state from the records that follow the header.
fn restore_from(
    reader: &mut Reader<impl Read>,
    restoring: &dyn Fn(u64, u64),
) -> Result<State, StoreError> {
    let name = reader.name().to_owned();
    let damaged = |error: RestoreError| match error {
        RestoreError::Newer(error) => StoreError::unreadable("snapshot", name.clone(), error),
        damaged => StoreError::damaged("snapshot", name.clone(), damaged),
    };
    let mut restore = Restore::new();
    while let Some(record) = reader.next_record()? {
        restore.push(&record).map_err(damaged)?;
        let (bytes, of) = reader.progress();
        restoring(bytes, of);
    }
    restore.finish().map_err(damaged)
}

/// Runs what blocks on a thread where it may.
pub(super) async fn on_disk_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Runs long work on a separate thread of low priority: a snapshot or a backup can wait, concurrent writes
/// cannot.
pub async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let thread = thread::Builder::new().name("background".into());
    thread.spawn(move || {
        yield_to_others();
        // There is no receiver any more when the node is stopping.
        drop(answer.send(work()));
    })?;
    answered
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
}

/// Lowers the calling thread's priority, to about a tenth of the CPU time when others compete for it.
fn yield_to_others() {
    const NICE: i32 = 10;
    // On Linux, no process is the calling thread, not its process.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "cannot lower the priority of a background thread");
    }
}

fn open_current(
    dir: &Path,
    name: &[u8],
    restoring: &dyn Fn(u64, u64),
) -> Result<SnapshotFile, StoreError> {
    let damaged =
        |reason: &str| StoreError::damaged("snapshot", String::from_utf8_lossy(name), reason);
    let file_name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && !name.contains('/'));
    let path = dir.join(file_name.ok_or_else(|| damaged("its name is not a valid snapshot name"))?);
    if !path.exists() {
        return Err(damaged("it is the current one, and its file is missing"));
    }
    let (snapshot, state) =
        SnapshotFile::open_with(path, |reader| restore_from(reader, restoring))?;
    snapshot.keep_restored(state);
    Ok(snapshot)
}

fn remove_leftovers(dir: &Path, current: Option<&SnapshotFile>) -> Result<(), StoreError> {
    let current = current.map(SnapshotFile::name);
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with(&format!("{GROUP}-"))
            && [file::COMPLETE, file::UNFINISHED]
                .iter()
                .any(|end| name.ends_with(&format!(".{end}")));
        if ours && Some(&name) != current.as_ref() {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}
