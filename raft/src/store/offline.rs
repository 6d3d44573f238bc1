//! Rewrites a data folder while no node uses it, for `lockstepd restore` and `lockstepd recover`.
//!
//! The file `unfinished` exists from before the first change until after the last. It is written as
//! `unfinished.tmp` and renamed. No node starts in a folder that contains either. So wherever the work is
//! interrupted, the folder is as it was before the command, or is refused until the same work is done again, or is
//! complete.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::identity::{self, IDENTITY, Identity};
use super::{IdentityFile, StoreError, files};
use crate::failpoints::{self, Failpoint};

/// Contains the name of the work that was interrupted.
const UNFINISHED: &str = "unfinished";
/// What an interrupted start of the work leaves.
const UNFINISHED_NEW: &str = "unfinished.tmp";

/// Why a data folder is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// A new cluster is made from a backup.
    Restore,
    /// A new cluster is made from what one node has.
    Recover,
}

impl Rewrite {
    /// The command of `lockstepd`.
    fn command(self) -> &'static str {
        match self {
            Rewrite::Restore => "restore",
            Rewrite::Recover => "recover",
        }
    }
}

/// A data folder that no node uses while this exists.
#[derive(Debug)]
pub struct OfflineFolder {
    work: Rewrite,
    identity: IdentityFile,
}

impl OfflineFolder {
    /// Takes a folder for a new cluster, and creates it if it does not exist. Removes what an interrupted
    /// restore has left. Nothing else is written before [`begin`](Self::begin). Blocks.
    ///
    /// # Errors
    ///
    /// It is in use, or contains something else.
    pub fn take_empty(dir: &Path, name: &str) -> Result<OfflineFolder, StoreError> {
        files::create_dir(dir)?;
        let resumed = marked(dir)?.as_deref() == Some(Rewrite::Restore.command());
        if !resumed {
            refuse_full(dir)?;
        }
        let lock = identity::lock(dir, Duration::ZERO)?;
        if resumed {
            remove_data(dir)?;
        }
        failpoints::reach(Failpoint::OfflineTaken);
        let identity = Identity::new(Some(name.to_owned()));
        Ok(OfflineFolder {
            work: Rewrite::Restore,
            identity: IdentityFile::new(dir, identity, lock),
        })
    }

    /// Takes the folder of a stopped node. Blocks.
    ///
    /// # Errors
    ///
    /// It is in use, no node's folder, damaged, or was written by a newer build.
    pub fn take(dir: &Path) -> Result<OfflineFolder, StoreError> {
        let work = Rewrite::Recover;
        if interrupted(dir)?.is_some_and(|what| what != work.command()) {
            refuse_unfinished(dir)?;
        }
        // Before the lock, which would create a file in a folder of something else.
        identity::read(&dir.join(IDENTITY))?;
        let lock = identity::lock(dir, Duration::ZERO)?;
        let identity = identity::read(&dir.join(IDENTITY))?;
        Ok(OfflineFolder {
            work,
            identity: IdentityFile::new(dir, identity, lock),
        })
    }

    /// The identity of the folder, for its store to be opened.
    pub fn identity(&mut self) -> &mut IdentityFile {
        &mut self.identity
    }

    /// Declares that the folder is being changed: no node starts in it until [`finish`](Self::finish). Blocks.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        let content = format!("{}\n", self.work.command());
        let mark = self.identity.dir().join(UNFINISHED);
        files::replace(&mark, content.as_bytes())?;
        failpoints::reach(Failpoint::OfflineMarked);
        self.identity.update(|_| {})?;
        failpoints::reach(Failpoint::OfflineBegun);
        Ok(())
    }

    /// Makes the node of the folder a member of `cluster_id`, and lets it start. All else must be durable. Blocks.
    pub fn finish(mut self, cluster_id: &str) -> Result<(), StoreError> {
        self.identity.update(|identity| {
            identity.name = identity.name().map(str::to_owned);
            identity.cluster_id = Some(cluster_id.to_owned());
            identity.plan = None;
            // There is no other state any more.
            identity.differs_at = None;
        })?;
        failpoints::reach(Failpoint::OfflineComplete);
        remove_mark(self.identity.dir())?;
        failpoints::reach(Failpoint::OfflineFinished);
        Ok(())
    }
}

/// Fails if the folder is only partly rewritten.
pub(super) fn refuse_unfinished(dir: &Path) -> Result<(), StoreError> {
    match interrupted(dir)? {
        None => Ok(()),
        Some(what) => Err(StoreError::Unfinished {
            dir: dir.to_owned(),
            what,
        }),
    }
}

/// Removes the mark of an interrupted work.
pub(super) fn remove_mark(dir: &Path) -> Result<(), StoreError> {
    files::remove(&dir.join(UNFINISHED_NEW))?;
    files::remove(&dir.join(UNFINISHED))?;
    files::sync_dir(dir)
}

/// The work that was interrupted, if any.
fn interrupted(dir: &Path) -> Result<Option<String>, StoreError> {
    if let Some(work) = marked(dir)? {
        return Ok(Some(work));
    }
    // Its content may be incomplete. Only a restore begins without an identity.
    let work = match dir.join(IDENTITY).exists() {
        true => Rewrite::Recover,
        false => Rewrite::Restore,
    };
    let began = dir.join(UNFINISHED_NEW).exists();
    Ok(began.then(|| work.command().to_owned()))
}

/// The work that the mark names, if there is a mark.
fn marked(dir: &Path) -> Result<Option<String>, StoreError> {
    let path = dir.join(UNFINISHED);
    match fs::read(&path) {
        Ok(content) => Ok(Some(
            String::from_utf8_lossy(&content)
                .trim()
                .chars()
                .take(32)
                .collect(),
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

fn refuse_full(dir: &Path) -> Result<(), StoreError> {
    let harmless = ["lost+found", identity::LOCK, UNFINISHED_NEW];
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let found = entry.file_name().to_string_lossy().into_owned();
        if !harmless.contains(&found.as_str()) {
            return Err(StoreError::NotEmpty {
                dir: dir.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

/// Removes a node's data, but neither the lock nor the mark.
pub(super) fn remove_data(dir: &Path) -> Result<(), StoreError> {
    // The identity goes first: a folder with a log and no identity is refused at the start.
    files::remove(&dir.join(IDENTITY))?;
    failpoints::reach(Failpoint::DiscardIdentityRemoved);
    for folder in [super::LOG, super::SNAPSHOTS] {
        let folder = dir.join(folder);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &folder)(error));
            }
            _ => {}
        }
    }
    for file in [super::watermark::WATERMARK, super::RESERVE] {
        files::remove(&dir.join(file))?;
    }
    files::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_empty(dir: &Path) -> Result<OfflineFolder, StoreError> {
        OfflineFolder::take_empty(dir, "node1")
    }

    fn refused(dir: &Path) -> String {
        IdentityFile::open(dir).unwrap_err().to_string()
    }

    #[test]
    fn no_node_starts_in_a_folder_until_its_restore_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        let mut folder = take_empty(&dir).unwrap();
        folder.begin().unwrap();
        fs::create_dir(dir.join(super::super::LOG)).unwrap();
        drop(folder);
        assert!(refused(&dir).contains("`lockstepd restore` again"));
        // The next attempt begins anew.
        let mut folder = take_empty(&dir).unwrap();
        assert!(!dir.join(super::super::LOG).exists() && !dir.join(IDENTITY).exists());
        folder.begin().unwrap();
        let node_id = folder.identity().identity().node_id;
        folder.finish("c9").unwrap();
        let opened = IdentityFile::open(&dir).unwrap();
        let opened = opened.identity();
        assert_eq!(opened.node_id, node_id);
        assert_eq!(
            (opened.cluster_id.as_deref(), opened.name()),
            (Some("c9"), Some("node1"))
        );
    }

    #[test]
    fn only_an_empty_folder_is_taken_for_a_restore() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        drop(take_empty(dir.path()).unwrap());
        let used = IdentityFile::open(dir.path()).unwrap();
        let error = take_empty(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NotEmpty { .. }), "{error}");
        let in_use = OfflineFolder::take(dir.path()).unwrap_err();
        assert!(matches!(in_use, StoreError::InUse { .. }), "{in_use}");
        drop(used);
        drop(OfflineFolder::take(dir.path()).unwrap());
    }

    #[test]
    fn an_interrupted_recovery_is_repeated_and_not_mistaken_for_a_restore() {
        let dir = tempfile::tempdir().unwrap();
        drop(IdentityFile::open(dir.path()).unwrap());
        let mut folder = OfflineFolder::take(dir.path()).unwrap();
        folder.begin().unwrap();
        drop(folder);
        assert!(refused(dir.path()).contains("`lockstepd recover` again"));
        let error = take_empty(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NotEmpty { .. }), "{error}");
        let folder = OfflineFolder::take(dir.path()).unwrap();
        folder.finish("c9").unwrap();
        IdentityFile::open(dir.path()).unwrap();
    }

    #[test]
    fn no_node_starts_in_a_folder_whose_mark_was_being_written() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "re", "restore\n"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(UNFINISHED_NEW), content).unwrap();
            assert!(refused(dir.path()).contains("`lockstepd restore` again"));
            let mut folder = take_empty(dir.path()).unwrap();
            folder.begin().unwrap();
            folder.finish("c9").unwrap();
            IdentityFile::open(dir.path()).unwrap();
        }
        drop(IdentityFile::open(dir.path()).unwrap());
        for content in ["", "re", "recover\n"] {
            fs::write(dir.path().join(UNFINISHED_NEW), content).unwrap();
            assert!(refused(dir.path()).contains("`lockstepd recover` again"));
            let mut folder = OfflineFolder::take(dir.path()).unwrap();
            folder.begin().unwrap();
            folder.finish("c9").unwrap();
            IdentityFile::open(dir.path()).unwrap();
        }
        fs::write(dir.path().join(UNFINISHED_NEW), "").unwrap();
        identity::discard(dir.path()).unwrap();
        IdentityFile::open(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_of_something_else_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("holiday.jpg"), b"sea").unwrap();
        assert!(OfflineFolder::take(dir.path()).is_err());
        assert!(take_empty(dir.path()).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
