//! A data folder has one process at a time, and a disk that suits it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries::lockstepd;
use lockstep_tests::cluster::{Cluster, Node, Plan, STOP_DEADLINE};
use lockstep_tests::disk::Disk;
use reqwest::StatusCode;

#[tokio::test]
async fn a_second_process_is_refused_the_data_folder_with_the_id_of_its_holder() -> Result<()> {
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

/// sled panics on some damage. Here a failpoint does, in the same place.
#[tokio::test]
async fn a_panic_over_a_data_folder_is_reported_as_damage() -> Result<()> {
    if !cfg!(debug_assertions) {
        println!("skipped: release builds have no failpoints");
        return Ok(());
    }
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.kill9()?;
    node.set("FAILPOINTS", "store::database_opened=panic(no such page)");
    node.start()?;
    let ended = node.wait_ended(STOP_DEADLINE).await?;
    assert_eq!(ended.code(), Some(1));
    let said = node.log();
    let last = said.lines().last().context("an error")?;
    let dir = node.data().display().to_string();
    let place = format!("lockstepd: database log/db in {dir}: ");
    ensure!(last.starts_with(&place), "{said}");
    for part in ["no such page", "data is corrupt", "lockstepd rejoin"] {
        ensure!(last.contains(part), "{said}");
    }
    ensure!(!said.contains("stack backtrace"), "{said}");
    Ok(())
}

/// A flipped bit in any file: the node says where, and what to do.
#[tokio::test]
async fn a_damaged_file_is_reported_with_its_folder_and_the_remedy() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.api().next("second").await?.expect(StatusCode::OK)?;
    node.terminate().await?;
    let dir = node.data().display().to_string();
    for file in ["identity.json", "log/conf", "log/db", "watermark"] {
        let path = node.data().join(file);
        let intact = fs::read(&path)?;
        // Every byte that is there: what is damaged may have been superseded.
        fs::write(
            &path,
            intact.iter().map(|byte| byte ^ 1).collect::<Vec<_>>(),
        )?;
        node.start()?;
        let ended = node.wait_ended(STOP_DEADLINE).await?;
        let said = node.log();
        let last = said.lines().last().context("an error")?;
        assert_eq!(ended.code(), Some(1), "{file}: {last}");
        for part in [dir.as_str(), "lockstepd rejoin"] {
            ensure!(last.contains(part), "{file}: {last}");
        }
        fs::write(&path, intact)?;
    }
    node.restart().await?;
    assert_eq!(node.api().instance().await?.0, "second");
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
