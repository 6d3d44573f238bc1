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

struct Opening {
    dir: PathBuf,
    /// The thread that opens it; none once that has failed, when sled's own threads may still work on it.
    by: Option<ThreadId>,
}

/// The folders that are being opened or could not be opened.
static OPENING: Mutex<Vec<Opening>> = Mutex::new(Vec::new());

/// Runs `open`, which opens the data folder `dir` on this thread.
pub(super) fn opening<T>(
    dir: &Path,
    open: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let by = Some(thread::current().id());
    let dir = dir.to_owned();
    OPENING.lock().push(Opening { dir, by });
    let opened = open();
    let mut all = OPENING.lock();
    match &opened {
        Ok(_) => all.retain(|it| it.by != by),
        Err(_) => all
            .iter_mut()
            .filter(|it| it.by == by)
            .for_each(|it| it.by = None),
    }
    opened
}

/// The damage to a data folder that caused this panic, if a folder is being opened and the panic is in that work. For
/// the panic hook of a process, which must end the process afterwards.
pub fn damage(panic: &PanicHookInfo<'_>) -> Option<StoreError> {
    let opening = OPENING.lock();
    let thread = thread::current();
    let Opening { dir, .. } = match is_of_sled(thread.name()) {
        true => opening.last(),
        false => opening.iter().find(|it| it.by == Some(thread.id())),
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

#[cfg(test)]
mod tests {
    use std::panic::{self, catch_unwind};

    use super::*;

    /// What a panic hook reports of `work`, which panics.
    fn reported(work: impl FnOnce() + panic::UnwindSafe) -> Option<String> {
        static REPORT: Mutex<Option<String>> = Mutex::new(None);
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock();
        let print = panic::take_hook();
        panic::set_hook(Box::new(|panic| {
            *REPORT.lock() = damage(panic).map(|it| it.to_string());
        }));
        assert!(catch_unwind(work).is_err());
        panic::set_hook(print);
        REPORT.lock().take()
    }

    fn on_a_thread(name: &str) {
        let thread = thread::Builder::new().name(name.to_owned());
        let ended = thread.spawn(|| panic!("double-free of a segment"));
        ended
            .unwrap()
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic));
    }

    fn open(work: impl FnOnce()) {
        let opened = opening(Path::new("/data"), || {
            work();
            Ok(())
        });
        opened.unwrap();
    }

    #[test]
    fn a_panic_while_a_folder_is_opened_is_reported_as_damage_with_place_and_remedy() {
        let of_the_opener = reported(|| open(|| panic!("called lsn on a free segment")));
        let of_sled = reported(|| open(|| on_a_thread("sled-io-3")));
        for (report, reason) in [(of_the_opener, "called lsn"), (of_sled, "double-free")] {
            let report = report.unwrap();
            for part in [
                "database log/db in /data",
                reason,
                "opening.rs",
                "lockstepd rejoin",
            ] {
                assert!(report.contains(part), "{report}");
            }
        }
    }

    #[test]
    fn another_panic_is_not_taken_for_damage() {
        assert_eq!(reported(|| open(|| on_a_thread("tokio-rt-worker"))), None);
        open(|| {});
        assert_eq!(reported(|| panic!("a bug")), None);
    }
}
