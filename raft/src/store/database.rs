//! Opens sled such that its flushes survive a power loss.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{StoreError, durability, files};

/// How long sled's lock may be held by a process that was just killed, or in this one by sled's own
/// threads, which finish their work after the last handle is dropped.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Between two attempts to open.
const LOCK_WAIT_STEP: Duration = Duration::from_millis(50);

/// How often sled writes back what was not flushed. Never `None`: sled would stop cleaning up.
const FLUSH_EVERY_MS: u64 = 500;

/// sled, with its two trees.
pub(super) struct Database {
    pub(super) log: sled::Tree,
    pub(super) meta: sled::Tree,
}

/// Opens sled in `dir`, and makes durable what its own flushes leave out: its configuration file and
/// the directories' entries.
pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Database, StoreError> {
    durability::assert_linked()?;
    files::create_dir(dir)?;
    let db = open_when_unlocked(dir, cache_bytes)?;
    let tree = |name| {
        db.open_tree(name)
            .map_err(StoreError::database("open a tree of the log"))
    };
    let (log, meta) = (tree("log")?, tree("meta")?);
    db.flush().map_err(StoreError::database("flush the log"))?;
    for path in ["conf", "db", "blobs", "."] {
        files::sync(&dir.join(path))?;
    }
    files::sync_dir(dir.parent().unwrap_or(dir))?;
    Ok(Database { log, meta })
}

/// Whether there is a database in `dir`.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join("db").exists()
}

fn open_when_unlocked(dir: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match config.open() {
            Err(error) if is_locked(&error) => {
                if Instant::now() >= deadline {
                    return Err(StoreError::InUse {
                        dir: dir.to_owned(),
                        holder: None,
                    });
                }
                thread::sleep(LOCK_WAIT_STEP);
            }
            opened => return opened.map_err(StoreError::database("open the log")),
        }
    }
}

/// sled has no kind for this: it puts the lock's error into words.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}
