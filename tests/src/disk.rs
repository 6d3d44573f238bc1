//! A small file system for a process under test, to be filled up.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null;

use anyhow::{Context, Result};

/// What takes up the room of a disk that is full.
const BALLAST: &str = "ballast";

/// A file system in memory, in a private mount namespace: only this thread, and processes that it starts from
/// then on, see it, and it is unmounted however the test ends.
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one with room for so many bytes on an empty folder. None where this process may not, as
    /// it may if it is root, outside of most containers.
    pub fn mount(at: &Path, bytes: u64) -> Result<Option<Self>> {
        match mount(at, bytes) {
            Ok(()) => Ok(Some(Self { at: at.to_owned() })),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error).with_context(|| format!("a disk on {}", at.display())),
        }
    }

    /// Takes up room until no more than `left` bytes are.
    pub fn fill_but(&self, left: u64) -> Result<()> {
        let bytes = free(&self.at)?.saturating_sub(left);
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.at.join(BALLAST))?;
        io::copy(&mut io::repeat(0).take(bytes), &mut ballast).context("filling a disk")?;
        Ok(())
    }

    /// Takes up all the room that is left.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.at.join(BALLAST))?;
        // Smaller and smaller, to the last page.
        let bytes = [0; 64 * 1024];
        for size in [bytes.len(), 4096] {
            loop {
                match ballast.write_all(&bytes[..size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling a disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives back what was taken up.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.at.join(BALLAST)).context("making room on a disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Ok(at) = path(&self.at) else { return };
        // SAFETY: a path that ends with a zero, and lives until the call returns. Who still uses the
        // disk keeps it as long.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Bytes that are not taken up.
fn free(at: &Path) -> io::Result<u64> {
    let at = path(at)?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a path that ends with a zero, and room for the answer; both live until the call returns.
    done(unsafe { libc::statvfs(at.as_ptr(), found.as_mut_ptr()) })?;
    // SAFETY: the call succeeded.
    let found = unsafe { found.assume_init() };
    Ok(found.f_bavail * found.f_frsize)
}

fn mount(at: &Path, bytes: u64) -> io::Result<()> {
    let kind = c"tmpfs".as_ptr();
    let options = CString::new(format!("size={bytes}"))?;
    let at = path(at)?;
    own_mounts()?;
    let options = options.as_ptr().cast();
    // SAFETY: strings that end with a zero and live until the call returns.
    done(unsafe { libc::mount(kind, at.as_ptr(), kind, 0, options) })
}

/// What is mounted from now on, only this thread and processes that it starts see.
pub(crate) fn own_mounts() -> io::Result<()> {
    // SAFETY: it takes no pointers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let root = c"/".as_ptr();
    // SAFETY: a string that ends with a zero, and null where the system takes that for nothing.
    done(unsafe { libc::mount(null(), root, null(), private, null()) })
}

fn path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn done(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
