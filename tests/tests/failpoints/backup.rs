//! Backups.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries::{lockstep, lockstepd};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE};
use lockstep_tests::program::{self, Ended};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::json;

use super::{FAILPOINTS, Left, Procedure, RUN_DEADLINE, kill_at, points, wait_killed};

async fn back_up(node: &Node, file: &Path) -> Result<Ended> {
    let mut command = lockstep()?;
    command.args(["cluster", "backup"]).arg(file);
    command.args(["-e", &node.grpc_address().to_string()]);
    program::run(command, RUN_DEADLINE).await
}

async fn verify(file: &Path) -> Result<()> {
    let mut command = lockstepd()?;
    command.args(["restore", "--verify"]).arg(file);
    program::run(command, RUN_DEADLINE).await?.done().map(drop)
}

/// More than one piece of a backup.
async fn fill(node: &Node) -> Result<()> {
    for number in 0..128 {
        let create = json!({ "id": number.to_string(), "metadata": { "text": "x".repeat(3000) } });
        let created = node
            .api()
            .post("/v1/machines/triad/instances", &create)
            .await?;
        ensure!(created.status.is_success(), "{created:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_backup_whose_node_is_killed_leaves_no_file() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    fill(node).await?;
    let (_, revision) = node.api().instance().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lockstep.backup");
    for (point, left) in points(Procedure::SendBackup) {
        assert_eq!(left, Left::Unchanged);
        node.kill9()?;
        node.set(FAILPOINTS, kill_at(point, 0));
        node.restart().await?;
        let failed = back_up(node, &file).await?;
        ensure!(failed.code != Some(0), "{point:?}: {failed:?}");
        wait_killed(node, point).await?;
        assert_eq!(fs::read_dir(folder.path())?.count(), 0, "{point:?}");
        node.restart().await?;
        assert_eq!(node.api().instance().await?.1, revision);
    }
    back_up(node, &file).await?.done()?;
    verify(&file).await
}

fn backups(folder: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let mut complete = Vec::new();
    let mut others = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().is_some_and(|it| it == "backup") {
            true => complete.push(path),
            false => others += 1,
        }
    }
    Ok((complete, others))
}

#[tokio::test]
async fn a_scheduled_backup_that_is_killed_is_written_after_the_next_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plan = Plan::single()
        .with("LOCKSTEP_BACKUP_FOLDER", folder.path().display())
        .with("LOCKSTEP_BACKUP_INTERVAL", "1s")
        .with("LOCKSTEP_BACKUP_KEEP", 1);
    let mut cluster = Cluster::start_as(plan).await?;
    let node = &mut cluster.nodes[0];
    node.api().next("second").await?.expect(StatusCode::OK)?;
    let (_, revision) = node.api().instance().await?;
    for (point, left) in points(Procedure::ScheduledBackup) {
        assert_eq!(left, Left::Resumed);
        node.kill9()?;
        node.set(FAILPOINTS, kill_at(point, 0));
        node.start()?;
        wait_killed(node, point).await?;
        // What has the name of a backup is one.
        for complete in backups(folder.path())?.0 {
            verify(&complete).await.context(point.name())?;
        }
        node.restart().await?;
        assert_eq!(node.api().instance().await?.1, revision);
        wait_for("one backup", READY_DEADLINE, async || {
            let found = backups(folder.path())?;
            ensure!(found.0.len() == 1 && found.1 == 0, "{found:?}");
            Ok(())
        })
        .await
        .context(point.name())?;
    }
    Ok(())
}
