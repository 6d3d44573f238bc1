//! The node's identity: its id, chosen at random once per data folder, its name, and the cluster it belongs to.
//!
//! `identity.json` contains one line of JSON and its checksum. `lock` is locked while a process uses the
//! folder, and contains its process id.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lockstep_machine::json::explain;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, files, offline};
use crate::failpoints::{self, Failpoint};

/// The format that this build writes and reads. Format 1 belonged to logs without a group.
pub(super) const FORMAT: u32 = 2;

pub(super) const IDENTITY: &str = "identity.json";
pub(super) const LOCK: &str = "lock";

/// How long a process that was just killed may go on holding the folder.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3);

/// Between two attempts to lock.
const LOCK_WAIT_STEP: Duration = Duration::from_millis(50);

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The format this was written in.
    pub format: u32,
    /// The node's id: random, 63 bits, never 0.
    pub node_id: u64,
    /// The cluster it belongs to. Once set, the node never takes part in the bootstrap of another.
    pub cluster_id: Option<String>,
    /// The first membership it has agreed to, kept so that an interrupted bootstrap can be resumed.
    pub plan: Option<BootstrapPlan>,
    /// The operator's name for the node, bound to the folder by the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the log next to it names this node as its owner. Absent in a folder of a build that did not
    /// bind its files to each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bound: bool,
    /// The log index at which most members had another state than this node: it must not answer requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs_at: Option<u64>,
}

impl Identity {
    /// A node with a new id.
    pub(super) fn new(name: Option<String>) -> Self {
        Self {
            format: FORMAT,
            node_id: draw_node_id(),
            cluster_id: None,
            plan: None,
            name,
            bound: false,
            differs_at: None,
        }
    }

    /// The node's name: in a folder from before names were kept, the one in the bootstrap plan.
    pub fn name(&self) -> Option<&str> {
        let planned = || {
            let members = &self.plan.as_ref()?.members;
            let own = members.iter().find(|it| it.node_id == self.node_id)?;
            Some(own.member.name.as_str())
        };
        self.name.as_deref().or_else(planned)
    }
}

/// The first membership of a cluster: decided once, then fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapPlan {
    /// The new cluster's id.
    pub cluster_id: String,
    /// Its exact members.
    pub members: Vec<PlannedMember>,
}

/// A member of the first membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMember {
    /// Its node id.
    pub node_id: u64,
    /// Its name and addresses.
    #[serde(flatten)]
    pub member: Member,
}

/// A node's name and addresses, as the log, the bootstrap plan and announcements carry them next to its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The operator's name for it.
    pub name: String,
    /// `host:port` of its gRPC interface.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface.
    pub http_address: String,
    /// Whether it stays a learner, which never votes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learner: bool,
}

/// The identity of a data folder, and the lock on it. One process at a time.
#[derive(Debug)]
pub struct IdentityFile {
    path: PathBuf,
    identity: Identity,
    /// Locked for as long as it is open.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// Over the identity as compact JSON.
    crc32: u32,
    identity: Value,
}

impl IdentityFile {
    /// The identity of a folder that `lock` locks; as yet unwritten.
    pub(super) fn new(dir: &Path, identity: Identity, lock: File) -> IdentityFile {
        IdentityFile {
            path: dir.join(IDENTITY),
            identity,
            _lock: lock,
        }
    }

    /// Locks a data folder and reads its identity. Creates the folder if it does not exist, and a random
    /// identity if it is empty. Blocks.
    ///
    /// # Errors
    ///
    /// A folder that holds other things, is in use, is damaged, is only partly restored or recovered, or was
    /// written by a newer build.
    pub fn open(dir: &Path) -> Result<IdentityFile, StoreError> {
        files::create_dir(dir)?;
        offline::refuse_unfinished(dir)?;
        let path = dir.join(IDENTITY);
        if !path.exists() {
            refuse_foreign(dir)?;
        }
        let lock = lock(dir, LOCK_WAIT_MAX)?;
        let identity = if path.exists() {
            read(&path)?
        } else {
            let identity = Identity::new(None);
            write(&path, &identity)?;
            identity
        };
        Ok(IdentityFile {
            path,
            identity,
            _lock: lock,
        })
    }

    /// Binds the folder to a node's name, unless it is bound already. Blocks.
    ///
    /// # Errors
    ///
    /// It is bound to another name.
    pub fn claim(&mut self, name: &str) -> Result<(), StoreError> {
        if let Some(kept) = self.identity.name().filter(|kept| *kept != name) {
            return Err(StoreError::AnotherName {
                dir: self.dir().to_owned(),
                kept: kept.to_owned(),
                asked: name.to_owned(),
            });
        }
        match self.identity.name {
            Some(_) => Ok(()),
            None => self.update(|identity| identity.name = Some(name.to_owned())),
        }
    }

    /// Binds a data folder to another name, and returns the earlier one. Blocks.
    ///
    /// # Errors
    ///
    /// There is no data folder, or it is in use, damaged, or written by a newer build.
    pub fn rename(dir: &Path, name: &str) -> Result<Option<String>, StoreError> {
        let path = dir.join(IDENTITY);
        fs::metadata(&path).map_err(StoreError::io("read", &path))?;
        let mut file = Self::open(dir)?;
        let earlier = file.identity.name().map(str::to_owned);
        file.update(|identity| identity.name = Some(name.to_owned()))?;
        Ok(earlier)
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Changes the identity, durably: after an error it is as before, here and, unless the disk
    /// failed between writing and answering, in the file. Blocks.
    pub fn update(&mut self, change: impl FnOnce(&mut Identity)) -> Result<(), StoreError> {
        let mut identity = self.identity.clone();
        change(&mut identity);
        write(&self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }
}

/// Discards what a data folder holds, so that the node that uses it next is a new one. Can be repeated after
/// it was interrupted: until it is complete, no node starts in the folder. Blocks.
///
/// # Errors
///
/// The folder is in use, holds something else than a node's data, or cannot be changed.
pub fn discard(dir: &Path) -> Result<(), StoreError> {
    let _lock = lock(dir, Duration::ZERO)?;
    offline::remove_data(dir)?;
    failpoints::reach(Failpoint::DiscardDataRemoved);
    offline::remove_mark(dir)
}

/// Reads the identity of a data folder, without a lock. Blocks.
///
/// # Errors
///
/// There is none, it is damaged, or a newer build wrote it.
pub fn read_identity(dir: &Path) -> Result<Identity, StoreError> {
    read(&dir.join(IDENTITY))
}

fn draw_node_id() -> u64 {
    rand::random_range(1..1 << 63)
}

/// A new disk is often mounted with a `lost+found`; the others are left by a crash during the first start.
fn refuse_foreign(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let found = entry
            .map_err(StoreError::io("list", dir))?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let ours = [
            super::LOG,
            super::SNAPSHOTS,
            super::watermark::WATERMARK,
            super::RESERVE,
        ];
        if ours.contains(&found.as_str()) {
            return Err(StoreError::Mismatch {
                dir: dir.to_owned(),
                found: format!("identity.json is missing, but the folder contains {found}"),
            });
        }
        if !["lost+found", LOCK, "identity.tmp"].contains(&found.as_str()) {
            return Err(StoreError::NotADataFolder {
                dir: dir.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Identity, StoreError> {
    let damaged =
        |reason: String| StoreError::damaged("identity", path.display().to_string(), reason);
    let content = fs::read(path).map_err(StoreError::io("read", path))?;
    let stored: Stored =
        serde_json::from_slice(&content).map_err(|error| damaged(explain(&error.to_string())))?;
    let computed = crc32fast::hash(stored.identity.to_string().as_bytes());
    if computed != stored.crc32 {
        return Err(damaged(format!(
            "the checksum is {computed}, expected {}",
            stored.crc32
        )));
    }
    let found = stored
        .identity
        .get("format")
        .and_then(Value::as_u64)
        .and_then(|format| u32::try_from(format).ok());
    if let Some(found) = found.filter(|found| *found != FORMAT) {
        let what = format!("identity {}", path.display());
        return Err(StoreError::format(what, found, FORMAT));
    }
    let identity: Identity = serde_json::from_value(stored.identity)
        .map_err(|error| damaged(explain(&error.to_string())))?;
    if identity.node_id == 0 || identity.node_id >> 63 != 0 {
        return Err(damaged(format!("{} is not a node id", identity.node_id)));
    }
    Ok(identity)
}

pub(super) fn write(path: &Path, identity: &Identity) -> Result<(), StoreError> {
    let encode = || -> serde_json::Result<Vec<u8>> {
        let identity = serde_json::to_value(identity)?;
        let crc32 = crc32fast::hash(identity.to_string().as_bytes());
        let mut content = serde_json::to_vec(&Stored { crc32, identity })?;
        content.push(b'\n');
        Ok(content)
    };
    let content = encode().map_err(|error| StoreError::io("encode", path)(error.into()))?;
    files::replace(path, &content)
}

pub(super) fn lock(dir: &Path, wait_max: Duration) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = open.map_err(StoreError::io("open", &path))?;
    let deadline = Instant::now() + wait_max;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_WAIT_STEP);
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(StoreError::InUse {
                    dir: dir.to_owned(),
                    holder: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
    }
    let mut write = || {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(StoreError::io("write", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> BootstrapPlan {
        BootstrapPlan {
            cluster_id: "c1".into(),
            members: Vec::new(),
        }
    }

    #[test]
    fn an_identity_is_drawn_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/on/the/way");
        let mut file = IdentityFile::open(&dir).unwrap();
        let node_id = file.identity().node_id;
        assert!(node_id > 0 && node_id < 1 << 63);
        file.update(|identity| {
            identity.cluster_id = Some("c1".into());
            identity.plan = Some(plan());
        })
        .unwrap();
        let expected = file.identity().clone();
        drop(file);
        let file = IdentityFile::open(&dir).unwrap();
        assert_eq!(file.identity(), &expected);
        assert_eq!(
            (file.identity().node_id, file.identity().plan.clone()),
            (node_id, Some(plan()))
        );
    }

    #[test]
    fn another_folder_is_another_node() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id =
            |dir: &tempfile::TempDir| IdentityFile::open(dir.path()).unwrap().identity().node_id;
        assert_ne!(id(&a), id(&b));
    }

    #[test]
    fn a_folder_is_bound_to_a_name_until_it_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        IdentityFile::open(dir.path())
            .unwrap()
            .claim("solo")
            .unwrap();
        let mut file = IdentityFile::open(dir.path()).unwrap();
        file.claim("solo").unwrap();
        let refused = file.claim("other").unwrap_err().to_string();
        for part in ["\"solo\"", "\"other\"", "lockstepd rename --data-dir"] {
            assert!(refused.contains(part), "{refused}");
        }
        drop(file);
        let earlier = IdentityFile::rename(dir.path(), "other").unwrap();
        assert_eq!(earlier.as_deref(), Some("solo"));
        let mut file = IdentityFile::open(dir.path()).unwrap();
        file.claim("other").unwrap();
        assert!(file.claim("solo").is_err());
    }

    #[test]
    fn a_folder_from_before_names_were_kept_has_the_name_in_its_plan() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = IdentityFile::open(dir.path()).unwrap();
        let own = PlannedMember {
            node_id: file.identity().node_id,
            member: Member {
                name: "solo".into(),
                ..Member::default()
            },
        };
        let members = vec![own];
        file.update(|identity| identity.plan = Some(BootstrapPlan { members, ..plan() }))
            .unwrap();
        assert!(file.claim("other").is_err());
        file.claim("solo").unwrap();
    }

    #[test]
    fn only_a_data_folder_can_be_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = IdentityFile::rename(&missing, "other").unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(!missing.exists());
    }

    #[test]
    fn no_fault_of_the_file_has_a_word_of_a_library() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(IDENTITY);
        let mut file = IdentityFile::open(dir.path()).unwrap();
        file.claim("solo").unwrap();
        file.update(|identity| identity.plan = Some(plan()))
            .unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let good = good.trim_end();
        let mut contents: Vec<_> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
        let identity = serde_json::to_value(file.identity()).unwrap();
        let fields: Vec<_> = identity.as_object().unwrap().keys().cloned().collect();
        for wrong in ["null", "-1", "1.5", "\"x\"", "[]", "{}", "true"] {
            let wrong: Value = serde_json::from_str(wrong).unwrap();
            contents.push(wrong.to_string());
            for field in &fields {
                let mut identity = identity.clone();
                identity[field] = wrong.clone();
                // As if it had been written so.
                let crc32 = crc32fast::hash(identity.to_string().as_bytes());
                let stored = Stored { crc32, identity };
                contents.push(serde_json::to_string(&stored).unwrap());
            }
        }
        let mut faults = 0;
        for content in contents {
            fs::write(&path, &content).unwrap();
            if let Err(error) = read(&path) {
                let said = error.to_string();
                let word = lockstep_machine::library_words(&said);
                assert_eq!(word, None, "{content}: {said}");
                faults += 1;
            }
        }
        assert!(faults > good.len(), "{faults}");
    }

    #[test]
    fn a_folder_in_use_is_refused_with_the_process_that_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let _held = IdentityFile::open(dir.path()).unwrap();
        let error = lock(dir.path(), Duration::ZERO).unwrap_err();
        assert!(
            matches!(error, StoreError::InUse { holder: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("holiday.jpg"), b"sea").unwrap();
        let error = IdentityFile::open(dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is not a Lockstep data folder: it contains holiday.jpg"),
            "{error}"
        );
        assert!(!dir.path().join(LOCK).exists());
    }

    #[test]
    fn a_fresh_disk_and_a_crash_during_the_first_start_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join("identity.tmp"), b"{").unwrap();
        IdentityFile::open(dir.path()).unwrap();
    }

    #[test]
    fn a_discarded_folder_belongs_to_a_new_node() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::open(dir.path()).unwrap();
        let before = file.identity().node_id;
        for folder in [super::super::LOG, super::super::SNAPSHOTS] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let in_use = discard(dir.path()).unwrap_err();
        assert!(matches!(in_use, StoreError::InUse { .. }), "{in_use}");
        drop(file);
        // Interrupted after its first step: the folder is refused, and discarding it can be repeated.
        fs::remove_file(dir.path().join(IDENTITY)).unwrap();
        assert!(IdentityFile::open(dir.path()).is_err());
        discard(dir.path()).unwrap();
        let file = IdentityFile::open(dir.path()).unwrap();
        assert_ne!(file.identity().node_id, before);
        assert!(!dir.path().join(super::super::LOG).exists());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(IdentityFile::open(dir.path()).unwrap());
        let path = dir.path().join(IDENTITY);
        let whole = fs::read(&path).unwrap();
        // All but the final line feed.
        for at in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let error = IdentityFile::open(dir.path()).unwrap_err();
            assert!(
                matches!(
                    error,
                    StoreError::Damaged {
                        what: "identity",
                        ..
                    }
                ),
                "byte {at}: {error}"
            );
        }
        fs::write(&path, b"").unwrap();
        assert!(IdentityFile::open(dir.path()).is_err());
    }
}
