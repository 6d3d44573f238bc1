//! What a panic means while a data folder is opened.
//!
//! sled, which holds the vote and the catalogue of the log's files, panics on some damage to its files where it
//! should return an error. The process still ends, because no state of sled after a panic is to be trusted; but its
//! panic hook asks [`damage`] first, and reports what a returned error would have said.

use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::thread::{self, ThreadId};

use parking_lot::Mutex;

use super::StoreError;

/// The folders that are being opened, and the threads that do so. A folder that could not be opened stays: sled's
/// own threads may still work on it.
static OPENING: Mutex<Vec<(ThreadId, PathBuf)>> = Mutex::new(Vec::new());

/// Runs `open`, which opens the data folder `dir` on this thread.
pub(super) fn opening<T>(
    dir: &Path,
    open: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let thread = thread::current().id();
    OPENING.lock().push((thread, dir.to_owned()));
    let opened = open()?;
    OPENING.lock().retain(|(opener, _)| *opener != thread);
    Ok(opened)
}

/// The damage to a data folder that caused this panic, if a folder is being opened and the panic is in that work. For
/// the panic hook of a process, which must end the process afterwards.
pub fn damage(panic: &PanicHookInfo<'_>) -> Option<StoreError> {
    let opening = OPENING.lock();
    let thread = thread::current();
    let of_this_thread = opening.iter().find(|(opener, _)| *opener == thread.id());
    let (_, dir) = match is_of_sled(thread.name()) {
        true => opening.last(),
        false => of_this_thread,
    }?;
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let place = panic.location().map(ToString::to_string);
    let reason = format!(
        "opening it panicked at {}: {}",
        place.as_deref().unwrap_or("an unknown place"),
        text.unwrap_or("no reason given").replace('\n', " ")
    );
    Some(StoreError::damaged(StoreError::DATABASE, "log/db", reason).found_in(dir))
}

/// sled's threads: those that write, and the one that flushes now and then.
fn is_of_sled(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("sled-io-") || name == "log flusher")
}
