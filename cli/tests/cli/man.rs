//! `lockstep man`.

use std::fs;

use crate::{done, failed, lockstep};

#[tokio::test]
async fn there_is_a_page_for_the_program_and_for_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("new/man1");
    let written = done(&lockstep(&format!("man {}", pages.to_str().expect("text"))).await);
    for name in [
        "lockstep",
        "lockstep-send",
        "lockstep-machine",
        "lockstep-machine-apply",
        "lockstep-instance-import",
        "lockstep-cluster-members",
        "lockstep-sink-dead-letters",
        "lockstep-watch",
        "lockstep-man",
    ] {
        let path = pages.join(format!("{name}.1"));
        assert!(
            written.contains(path.to_str().expect("text")),
            "{name}: {written}"
        );
        let page = fs::read_to_string(&path).expect("the page is there");
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
    }
    let count = fs::read_dir(&pages).expect("the folder is there").count();
    assert_eq!(count, written.lines().count());

    assert!(done(&lockstep("man").await).contains(".TH lockstep 1"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let said = failed(&lockstep("man /dev/null/man1").await, 3);
    assert!(said.contains("cannot write /dev/null/man1"), "{said}");
}
