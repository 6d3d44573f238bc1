//! `lockstep cluster backup`: no file that is not complete.

use std::fs;
use std::path::Path;

use lockstep_machine::{BackupHeader, State, backup_pieces};
use lockstep_scripted::Node;

use super::{code, done, failed, json, lockstep, stderr};

fn backup() -> Vec<u8> {
    let state = State::default();
    let header = BackupHeader {
        cluster_id: "c1".to_owned(),
        node: "node2".to_owned(),
        build: "9.8.7".to_owned(),
        ..BackupHeader::of(&state, 42, 3)
    };
    backup_pieces(&header, &state).flatten().collect()
}

async fn node(backup: Vec<u8>) -> Node {
    let node = Node::start([]).await;
    node.set_backup(backup);
    node
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries
        .map(|it| name(it).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_is_written_whole_and_described() {
    let node = node(backup()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.backup");
    let shown = file.display();
    let said = lockstep(&format!("cluster backup {shown} -e {}", node.address)).await;
    let said = done(&said);
    let expected = "1 instance of cluster c1 at log index 42, revision 0, ";
    assert!(said.starts_with(&format!("{shown}: {expected}")), "{said}");
    assert_eq!(fs::read(&file).expect("the file"), backup());
    assert_eq!(names(folder.path()), ["lockstep.backup"]);

    let again = lockstep(&format!("cluster backup {shown} -e {}", node.address)).await;
    let refused = failed(&again, 2);
    assert!(
        refused.contains("exists") && refused.contains("--force"),
        "{refused}"
    );
    let forced = format!("cluster backup {shown} --force -o json -e {}", node.address);
    let described = json(&done(&lockstep(&forced).await));
    assert_eq!(described["log_index"], 42);
    assert_eq!(described["cluster_id"], "c1");
    assert_eq!(described["bytes"], backup().len());
}

#[tokio::test]
async fn a_backup_to_stdout_is_only_the_file() {
    let node = node(backup()).await;
    let output = lockstep(&format!("cluster backup - -e {}", node.address)).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, backup());
    assert!(stderr(&output).contains("log index 42"));
}

#[tokio::test]
async fn what_arrives_truncated_or_altered_leaves_no_file_and_replaces_none() {
    let whole = backup();
    let truncated = whole[..whole.len() - 30].to_vec();
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for (bytes, reason) in [
        (truncated, "the backup is incomplete"),
        (altered, "the backup is damaged"),
        (b"PK".repeat(500), "it is not a Lockstep backup"),
    ] {
        let node = node(bytes).await;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lockstep.backup");
        let command = format!("cluster backup {} -e {}", file.display(), node.address);
        let said = failed(&lockstep(&command).await, 3);
        assert!(said.contains(reason), "{said}");
        assert_eq!(names(folder.path()), [""; 0]);
        fs::write(&file, b"the earlier one").expect("a file");
        failed(&lockstep(&format!("{command} --force")).await, 3);
        assert_eq!(fs::read(&file).expect("the file"), b"the earlier one");
        assert_eq!(names(folder.path()), ["lockstep.backup"]);
    }
}
