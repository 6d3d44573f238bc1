//! Errors of the store, and what the operator can do about them.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_machine::CodecError;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The stored bytes are not the ones that were written. Nothing is repaired or dropped.
    #[error(
        "{what} {place}: {reason}; the data is corrupt: keep a copy of the folder for inspection, and never start a node with an older copy of it; while a majority of the other nodes is healthy, discard the folder with lockstepd rejoin --data-dir, and start the node: it joins under a new id"
    )]
    Damaged {
        /// What is damaged, for example "log entry".
        what: &'static str,
        /// Which one, and where in it.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Intact, but in a format that this build does not read.
    #[error(
        "{what} has format {found}; this build reads format {supported}: run the release that wrote it{}",
        if found > supported { ", or a later one" } else { "" }
    )]
    Format {
        /// What was read.
        what: String,
        /// The format found.
        found: u32,
        /// The format this build reads.
        supported: u32,
    },
    /// A newer build wrote it, with a kind of value that this one does not know.
    #[error("{place}: {reason}")]
    Newer {
        /// Where it stands.
        place: String,
        /// Which kind, and what to do.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A system call of sled failed.
    #[error("cannot {doing}: {source}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The error.
        source: io::Error,
    },
    /// This executable was linked so that sled's flushes would not survive a power loss.
    #[error(
        "this build does not override sync_file_range, so sled's flushes would not be durable: do not use it"
    )]
    NotDurable,
    /// Records were appended out of order: a bug in the caller.
    #[error("log entry {index} appended out of order: entry {expected} is next")]
    OutOfOrder {
        /// The index that came.
        index: u64,
        /// The one that follows the log's end.
        expected: u64,
    },
    /// Something does not fit its form on disk.
    #[error("{what} has {bytes} bytes; the maximum is {bytes_max}")]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        bytes: u64,
        /// The largest there may be.
        bytes_max: u64,
    },
    /// The purge point was written other than by a purge: a bug in the caller.
    #[error("the purge point can be written only by a purge")]
    PurgePointSaved,
    /// Another process works in the data folder.
    #[error("data folder {} is in use by {}: every node needs a folder of its own", dir.display(), holder.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The other process, where it left its number.
        holder: Option<u32>,
    },
    /// The folder holds files of another program.
    #[error("{} is not a Lockstep data folder: it contains {found} but no identity.json; choose an empty folder", dir.display())]
    NotADataFolder {
        /// The folder.
        dir: PathBuf,
        /// The first thing found in it.
        found: String,
    },
    /// The files of a data folder do not belong to each other, or one is missing.
    #[error(
        "data folder {}: {found}; a node that started here could lose acknowledged writes, or vote twice in a term: put back what belongs here, as it was when the node last stopped; or, while a majority of the other nodes is healthy, discard the folder, and start the node: it joins under a new id: lockstepd rejoin --data-dir {}",
        dir.display(),
        dir.display()
    )]
    Mismatch {
        /// The folder.
        dir: PathBuf,
        /// What is wrong, and where.
        found: String,
    },
    /// The folder is only partly rewritten.
    #[error(
        "`lockstepd {what}` was interrupted in data folder {}, which is incomplete: run `lockstepd {what}` again, or discard the folder: lockstepd rejoin --data-dir {}",
        dir.display(),
        dir.display()
    )]
    Unfinished {
        /// The folder.
        dir: PathBuf,
        /// The command that was interrupted.
        what: String,
    },
    /// A folder that must be empty is not.
    #[error("data folder {} is not empty: it contains {found}; use an empty folder, or one that does not exist", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// The first thing found in it.
        found: String,
    },
    /// The folder belongs to a node of another name.
    #[error(
        "data folder {} belongs to node {kept:?}, but this node is named {asked:?}: use the data folder of {asked:?}, or rename the node on purpose: lockstepd rename --data-dir {} --name {asked}",
        dir.display(),
        dir.display()
    )]
    AnotherName {
        /// The folder.
        dir: PathBuf,
        /// The name it is bound to.
        kept: String,
        /// The name that was configured.
        asked: String,
    },
    /// There is too little free disk space.
    #[error("not enough disk space for {what}: {needed} bytes needed, {free} free")]
    NoSpace {
        /// What for.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// An earlier failure was final: nothing is written until the node is restarted.
    #[error("the store has stopped writing: {first}")]
    Stopped {
        /// The first failure, or why there is no writer.
        first: String,
        /// The kind of the first failure.
        kind: io::ErrorKind,
    },
}

impl StoreError {
    /// Bytes that are not the ones that were written.
    pub(crate) fn damaged(
        what: &'static str,
        place: impl Into<String>,
        reason: impl ToString,
    ) -> Self {
        StoreError::Damaged {
            what,
            place: place.into(),
            reason: reason.to_string(),
        }
    }

    /// Sound bytes in another format.
    pub(crate) fn format(what: impl Into<String>, found: u32, supported: impl Into<u32>) -> Self {
        StoreError::Format {
            what: what.into(),
            found,
            supported: supported.into(),
        }
    }

    /// Fails if something is larger than its form on disk can hold.
    pub(crate) fn check_size(what: impl Display, bytes: u64, bytes_max: u64) -> Result<(), Self> {
        match bytes > bytes_max {
            true => Err(StoreError::TooLarge {
                what: what.to_string(),
                bytes,
                bytes_max,
            }),
            false => Ok(()),
        }
    }

    /// Bytes of the state machine that cannot be read.
    pub(crate) fn unreadable(what: &'static str, place: String, error: CodecError) -> Self {
        match error {
            CodecError::Malformed { reason, .. } => StoreError::damaged(what, place, reason),
            CodecError::UnknownFormat {
                found, supported, ..
            } => StoreError::format(format!("{what} {place}"), found.into(), supported),
            newer @ (CodecError::UnknownVariant { .. } | CodecError::UnknownLevel { .. }) => {
                StoreError::Newer {
                    place: format!("{what} {place}"),
                    reason: newer.to_string(),
                }
            }
        }
    }

    /// A stable name for logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Damaged { .. } => "store_damaged",
            StoreError::Format { .. } | StoreError::Newer { .. } => "store_format",
            StoreError::Io { .. } | StoreError::Database { .. } if self.is_disk_full() => {
                "store_disk_full"
            }
            StoreError::Io { .. } => "store_io",
            StoreError::Database { .. } => "store_database",
            StoreError::NotDurable => "store_not_durable",
            StoreError::OutOfOrder { .. } => "store_out_of_order",
            StoreError::TooLarge { .. } => "store_too_large",
            StoreError::PurgePointSaved => "store_purge_point_saved",
            StoreError::InUse { .. } => "store_in_use",
            StoreError::NotADataFolder { .. } => "store_not_a_data_folder",
            StoreError::Mismatch { .. } => "store_mismatch",
            StoreError::Unfinished { .. } => "store_unfinished",
            StoreError::NotEmpty { .. } => "store_not_empty",
            StoreError::AnotherName { .. } => "store_another_name",
            StoreError::NoSpace { .. } => "store_disk_full",
            StoreError::Stopped { .. } => "store_stopped",
        }
    }

    /// Whether there was no space left on the disk.
    pub fn is_disk_full(&self) -> bool {
        self.kind() == io::ErrorKind::StorageFull
    }

    /// Names the folder in which damage was found.
    pub(super) fn found_in(mut self, dir: &Path) -> StoreError {
        if let StoreError::Damaged { place, .. } = &mut self {
            *place = format!("{place} in {}", dir.display());
        }
        self
    }

    /// Names the folder, where the error is damage that was found by who reads through [`Storage`](super::Storage).
    pub(crate) fn found_by_reader(error: io::Error, dir: &Path) -> io::Error {
        match error.downcast::<StoreError>() {
            Ok(error) => error.found_in(dir).into(),
            Err(error) => error,
        }
    }

    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            StoreError::Damaged { .. }
            | StoreError::Mismatch { .. }
            | StoreError::Format { .. }
            | StoreError::Newer { .. } => io::ErrorKind::InvalidData,
            StoreError::Io { source, .. } | StoreError::Database { source, .. } => source.kind(),
            StoreError::OutOfOrder { .. }
            | StoreError::TooLarge { .. }
            | StoreError::PurgePointSaved => io::ErrorKind::InvalidInput,
            StoreError::InUse { .. } => io::ErrorKind::ResourceBusy,
            StoreError::NoSpace { .. } => io::ErrorKind::StorageFull,
            StoreError::NotDurable
            | StoreError::NotADataFolder { .. }
            | StoreError::Unfinished { .. }
            | StoreError::NotEmpty { .. }
            | StoreError::AnotherName { .. } => io::ErrorKind::Other,
            StoreError::Stopped { kind, .. } => *kind,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// What is damaged where sled does not work.
    pub(super) const DATABASE: &'static str = "database";

    /// sled reports what it finds in its files in many ways. Only an error of the system is none of its files.
    pub(super) fn database(doing: &'static str) -> impl FnOnce(sled::Error) -> StoreError {
        move |source| match source {
            sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                StoreError::Database { doing, source }
            }
            found => {
                let found = match found {
                    sled::Error::Corruption { .. } => "it has corrupt records".to_owned(),
                    other => other.to_string(),
                };
                let reason = format!("cannot {doing}: {found}");
                StoreError::damaged(StoreError::DATABASE, "log/db", reason)
            }
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        io::Error::new(error.kind(), error)
    }
}
