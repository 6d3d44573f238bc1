//! Makes what was written durable: the log's own files, and on Linux, sled's.
//!
//! sled 0.34 ends a flush with `sync_file_range(2)`, which neither flushes the disk's cache nor writes the
//! file's metadata: in simulated power losses, all acknowledged entries were lost. sled falls back to
//! `fsync` only if that call returns `ENOSYS`. So this module defines the symbol `sync_file_range`, which
//! overrides the C library's and returns `ENOSYS`.

use std::fs::File;
use std::io;

use super::StoreError;

/// Makes the content of a file durable.
pub(super) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if tests::WITHOUT_SYNC.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(());
    }
    file.sync_data()
}

/// Answers `ENOSYS`, always, so that sled calls `fsync` instead.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
#[cfg_attr(not(test), expect(unused_variables))]
extern "C" fn sync_file_range(fd: i32, offset: i64, bytes: i64, flags: u32) -> i32 {
    #[cfg(test)]
    if tests::WITHOUT_OVERRIDE.load(std::sync::atomic::Ordering::Relaxed) {
        // SAFETY: the arguments are those of the call that this one overrides.
        let number = libc::SYS_sync_file_range;
        return unsafe { libc::syscall(number, fd, offset, bytes, flags) as i32 };
    }
    // SAFETY: the C library guarantees a valid pointer to this thread's errno.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    -1
}

/// Fails unless the definition above is the one this process was linked with. Call before sled opens.
///
/// The real call would answer `EBADF` to a file descriptor of -1.
#[cfg(target_os = "linux")]
pub fn assert_linked() -> Result<(), StoreError> {
    // SAFETY: the call takes no pointers, and -1 is never an open file.
    let answer = unsafe { libc::sync_file_range(-1, 0, 0, 0) };
    let error = std::io::Error::last_os_error().raw_os_error();
    if answer == -1 && error == Some(libc::ENOSYS) {
        Ok(())
    } else {
        Err(StoreError::NotDurable)
    }
}

/// Elsewhere sled calls `fsync` by itself.
#[cfg(not(target_os = "linux"))]
pub fn assert_linked() -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Makes the process call the C library's, for a control that must lose data.
    pub(in crate::store) static WITHOUT_OVERRIDE: AtomicBool = AtomicBool::new(false);

    /// Makes [`sync`] do nothing, likewise.
    pub(in crate::store) static WITHOUT_SYNC: AtomicBool = AtomicBool::new(false);

    #[test]
    fn the_definition_here_is_the_one_linked() {
        assert_linked().unwrap();
    }
}
