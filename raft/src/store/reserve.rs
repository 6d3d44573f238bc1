//! A preallocated file that is deleted when the disk is full: the log then has space for another segment, until the
//! node notices that the disk is full and takes no more, and sled, which cannot be reopened on a full disk, for its
//! next start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{StoreError, files};

/// A file that only takes up space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve of a data folder.
    pub(super) fn new(dir: &Path, bytes: u64) -> Reserve {
        Reserve {
            path: dir.join(super::RESERVE),
            bytes,
        }
    }

    /// Allocates the file if it is missing and at least twice its size is free. (On a disk that is still full, it
    /// would take back the space that was just freed for reopening.) If it cannot be allocated, that is logged,
    /// but not an error. Returns whether it is there.
    pub(super) fn ensure(&self) -> bool {
        if self.bytes == 0
            || fs::metadata(&self.path).is_ok_and(|found| found.blocks() * 512 >= self.bytes)
        {
            return true;
        }
        let allocated = self.allocate();
        if let Err(error) = &allocated {
            let _ = fs::remove_file(&self.path);
            tracing::warn!(%error, bytes = self.bytes, "cannot allocate the reserve file; free some disk space");
        }
        allocated.is_ok()
    }

    /// Deletes the file. Returns whether it existed.
    pub(super) fn give_back(&self) -> bool {
        let given = fs::remove_file(&self.path).is_ok();
        if given {
            tracing::warn!(
                bytes = self.bytes,
                "the disk is full; deleted the reserve file so that the log has space"
            );
        }
        given
    }

    fn allocate(&self) -> Result<(), StoreError> {
        let dir = self.path.parent().unwrap_or(&self.path);
        let free = free_bytes(dir).map_err(StoreError::io("read the free space of", dir))?;
        let needed = self.bytes.saturating_mul(2);
        if free < needed {
            return Err(StoreError::NoSpace {
                what: "the reserve",
                needed,
                free,
            });
        }
        let write = || -> io::Result<()> {
            let file = File::create(&self.path)?;
            files::allocate(&file, self.bytes)?;
            file.sync_all()
        };
        write().map_err(StoreError::io("allocate", &self.path))?;
        files::sync_dir(dir)
    }
}

/// Bytes an unprivileged process may still write to the disk that holds `dir`.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
