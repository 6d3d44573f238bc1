//! Data folders of which a part is missing, another node's, or older than the rest.

use std::fs;

use super::*;
use crate::store::slots::{SlotName, Slots};

/// A data folder of a member, with three entries and a vote.
fn member() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store, 1..=3);
    wait(|done| store.save(Slot::Vote, "me".into(), done)).unwrap();
    dir
}

/// Makes a folder what it was before files were bound to each other.
fn unbind(dir: &Path) {
    let mut file = IdentityFile::open(dir).unwrap();
    file.update(|identity| identity.bound = false).unwrap();
    drop(file);
    tamper(dir, |on_disk| {
        drop(on_disk.meta.remove("0/owner").unwrap());
    });
}

fn node_id(dir: &Path) -> u64 {
    read_identity(dir).unwrap().node_id
}

fn replace_dir(to: &Path, from: &Path) {
    fs::remove_dir_all(to).unwrap();
    fs::rename(from, to).unwrap();
}

/// Why a folder is refused; it names the folder, and how to go on.
fn mismatch(dir: &Path) -> String {
    let error = open(dir).err().expect("the folder must be refused");
    assert_eq!(error.code(), "store_mismatch", "{error}");
    let text = error.to_string();
    let remedy = format!("lockstepd rejoin --data-dir {}", dir.display());
    assert!(text.ends_with(&remedy), "{text}");
    text
}

fn assert_refused(dir: &Path, expected: &str) {
    let text = mismatch(dir);
    assert!(text.contains(expected), "{text}");
    // Again: refusing has changed nothing.
    assert_eq!(mismatch(dir), text);
}

#[test]
fn a_member_whose_log_is_missing_is_refused() {
    let dir = member();
    let log = dir.path().join(LOG);
    fs::remove_dir_all(&log).unwrap();
    let expected = format!(
        "the log of node {} is missing: there is no database in {}",
        node_id(dir.path()),
        log.display()
    );
    assert_refused(dir.path(), &expected);
    // The mount point of a disk that is not mounted.
    fs::create_dir(&log).unwrap();
    assert_refused(dir.path(), &expected);
}

#[test]
fn the_log_of_another_node_is_refused() {
    let (dir, other) = (member(), member());
    replace_dir(&dir.path().join(LOG), &other.path().join(LOG));
    let (owner, me) = (node_id(other.path()), node_id(dir.path()));
    let expected = format!("the log belongs to node {owner}, identity.json to node {me}");
    assert_refused(dir.path(), &expected);
}

#[test]
fn the_identity_of_another_node_is_refused() {
    let (dir, other) = (member(), member());
    let file = |dir: &Path| dir.join("identity.json");
    fs::copy(file(other.path()), file(dir.path())).unwrap();
    assert_refused(dir.path(), "the log belongs to node");
}

#[test]
fn a_new_log_beside_the_identity_of_a_member_is_refused() {
    let dir = member();
    fs::remove_dir_all(dir.path().join(LOG)).unwrap();
    tamper(dir.path(), |_| ());
    assert_refused(dir.path(), "the log names no owner");
}

#[test]
fn an_identity_from_before_the_node_was_a_member_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let identity = dir.path().join("identity.json");
    drop(IdentityFile::open(dir.path()).unwrap());
    let older = fs::read(&identity).unwrap();
    fill(&open(dir.path()).unwrap(), 1..=1);
    fs::write(&identity, older).unwrap();
    assert_refused(dir.path(), "identity.json is an older copy");
}

#[test]
fn a_folder_without_its_identity_is_refused() {
    let dir = member();
    fs::remove_file(dir.path().join("identity.json")).unwrap();
    assert_refused(dir.path(), "identity.json is missing, but");
}

#[test]
fn a_folder_of_an_earlier_build_is_bound_when_it_is_opened() {
    let dir = member();
    unbind(dir.path());
    assert_eq!(open(dir.path()).unwrap().bounds().unwrap(), Some((1, 3)));
    assert!(read_identity(dir.path()).unwrap().bound);
    tamper(dir.path(), |on_disk| {
        let slots = Slots::open(on_disk.meta.clone()).unwrap();
        let owner = slots.load(SlotName::Owner).unwrap().unwrap();
        assert_eq!(owner, node_id(dir.path()).to_be_bytes().as_slice());
    });
}

#[test]
fn a_member_of_an_earlier_build_whose_log_is_missing_is_refused() {
    let dir = member();
    unbind(dir.path());
    fs::remove_dir_all(dir.path().join(LOG)).unwrap();
    assert_refused(dir.path(), "is missing: there is no database");
}

#[test]
fn a_crash_between_the_steps_of_the_first_start_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let mut identity = IdentityFile::open(dir.path()).unwrap();
    drop(DiskStore::open(&mut identity, OPTIONS, Arc::new(())).unwrap());
    // The owner was written, and what says so was not.
    identity.update(|identity| identity.bound = false).unwrap();
    drop(identity);
    drop(open(dir.path()).unwrap());
    assert!(read_identity(dir.path()).unwrap().bound);
}
