//! A data folder has one process at a time, and a disk that suits it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries::lockstepd;
use lockstep_tests::cluster::{Cluster, Node, Plan, STOP_DEADLINE};
use lockstep_tests::disk::Disk;
use reqwest::StatusCode;

#[tokio::test]
async fn a_second_process_is_refused_the_data_folder_and_told_who_has_it() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let first = &cluster.nodes[0];
    let content = || fs::read(first.data().join("identity.json"));
    let identity = content()?;
    let holder = fs::read_to_string(first.data().join("lock"))?;

    // Also one that would be another node: nothing in the folder is read or written before it is locked.
    for name in ["node1", "node2"] {
        let elsewhere = tempfile::tempdir()?;
        let mut second = Node::lay_out(name, elsewhere.path())?;
        second.set("LOCKSTEP_DATA_DIR", first.data().display());
        second.start()?;
        let ended = second.wait_ended(STOP_DEADLINE).await?;
        assert_eq!(ended.code(), Some(1));
        let said = second.log();
        let last = said.lines().last().context("an error")?;
        let expected = format!(
            "lockstepd: data folder {} is in use by process {}",
            first.data().display(),
            holder.trim()
        );
        ensure!(last.starts_with(&expected), "{said}");
    }
    assert_eq!(content()?, identity);
    first.api().next("second").await?.expect(StatusCode::OK)?;
    Ok(())
}

/// Runs `lockstepd check-disk`; whether it succeeded, its report and its errors.
fn check_disk(dir: &Path) -> Result<(bool, String, String)> {
    let output = lockstepd()?
        .args(["check-disk", "--data-dir"])
        .arg(dir)
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (report, errors) = (text(&output.stdout), text(&output.stderr));
    Ok((output.status.success(), report, errors))
}

#[test]
fn check_disk_measures_a_disk_and_refuses_one_that_forgets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (suits, report, errors) = check_disk(folder.path())?;
    for row in ["file system", "free", "flush of 4 KiB", "sequential write"] {
        ensure!(report.contains(&format!("\n{row}")), "{report}");
    }
    // Whether the disk of the tests is fast enough is not known.
    assert_eq!(suits, errors.is_empty(), "{report}{errors}");
    assert_eq!(suits, !report.contains("not suitable"), "{report}");
    assert_eq!(fs::read_dir(folder.path())?.count(), 0);

    let (suits, _, errors) = check_disk(&folder.path().join("absent"))?;
    ensure!(
        !suits && errors.contains("absent: No such file"),
        "{errors}"
    );

    let Some(_disk) = Disk::mount(folder.path(), 512 << 20)? else {
        println!("left out: this user may not mount a disk");
        return Ok(());
    };
    let (suits, report, errors) = check_disk(folder.path())?;
    ensure!(!suits && report.contains("not suitable"), "{report}");
    ensure!(
        errors.contains("tmpfs keeps files in memory"),
        "{report}{errors}"
    );
    Ok(())
}
