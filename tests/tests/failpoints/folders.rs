//! Commands that rewrite a data folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_raft::failpoints::Failpoint;
use lockstep_tests::binaries::{lockstep, lockstepd};
use lockstep_tests::cluster::{Cluster, Node, Plan, STOP_DEADLINE};
use lockstep_tests::program;
use reqwest::StatusCode;

use super::{Left, Procedure, RUN_DEADLINE, points, run_to};

/// Starts a node that must refuse its folder, in these words.
async fn refuses(node: &mut Node, words: &str) -> Result<()> {
    node.start()?;
    let status = node.wait_ended(STOP_DEADLINE).await?;
    let log = node.log();
    let last = log.lines().last().unwrap_or_default();
    ensure!(
        status.code() == Some(1) && last.contains(words),
        "{words}: {status}: {last}"
    );
    Ok(())
}

/// Starts a node, which must serve a cluster of its own at this revision, and stops it.
async fn serves_alone(node: &mut Node, revision: u64) -> Result<()> {
    node.restart().await?;
    assert_eq!(node.api().instance().await?.1, revision);
    assert_eq!(node.api().members().await?.len(), 1);
    node.api().next("third").await?.expect(StatusCode::OK)?;
    node.kill9()
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whether the folder is marked: the mark exists, or was being written.
fn is_marked(dir: &Path) -> bool {
    ["unfinished", "unfinished.tmp"]
        .iter()
        .any(|it| dir.join(it).exists())
}

fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(key, value),
            None => copy.env_remove(key),
        };
    }
    copy
}

/// Removes a folder, if there is one.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes `to` a copy of a folder.
fn replicate(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to.to_owned());
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => replicate(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// Kills `command` at a failpoint, once for each time that it is reached, in a folder that `prepare` makes anew, and
/// has `examine` look at what is left.
async fn kill_each_time(
    point: Failpoint,
    mut prepare: impl FnMut() -> Result<()>,
    command: &Command,
    mut examine: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    for skipped in 0.. {
        prepare()?;
        let (ended, killed) = run_to(copy(command), point, skipped).await?;
        if !killed {
            ensure!(ended.code == Some(0), "{point:?}: {ended:?}");
            ensure!(skipped > 0, "{point:?} was not reached: {ended:?}");
            break;
        }
        println!("killed at {}, time {}", point.name(), skipped + 1);
        examine()
            .await
            .with_context(|| format!("{point:?}, time {}", skipped + 1))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_restore_that_is_killed_is_complete_or_refused_until_it_is_repeated() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    api.next("second").await?.expect(StatusCode::OK)?;
    let (_, revision) = api.instance().await?;
    let folder = tempfile::tempdir()?;
    let file = &folder.path().join("lockstep.backup");
    let mut back_up = lockstep()?;
    back_up.args(["cluster", "backup"]).arg(file);
    back_up.args(["-e", &cluster.nodes[0].grpc_address().to_string()]);
    program::run(back_up, RUN_DEADLINE).await?.done()?;
    drop(cluster);

    let mut target = Cluster::lay_out(Plan::single())?;
    let node = &mut target.nodes[0];
    let data = node.data().to_owned();
    let mut restore = node.lockstepd("restore")?;
    restore.arg(file);
    for (point, left) in points(Procedure::Restore) {
        let prepare = || remove(&data);
        kill_each_time(point, prepare, &restore, async || {
            match left {
                Left::Unchanged => {
                    assert_eq!(names(&data)?, ["lock"]);
                    program::run(copy(&restore), RUN_DEADLINE).await?.done()?;
                }
                Left::Unfinished => {
                    refuses(node, "run `lockstepd restore` again").await?;
                    program::run(copy(&restore), RUN_DEADLINE).await?.done()?;
                }
                _ => {
                    assert_eq!(left, Left::Complete);
                    let again = program::run(copy(&restore), RUN_DEADLINE).await?;
                    let refused = again.failed(1)?;
                    ensure!(refused.contains("is not empty"), "{refused}");
                }
            }
            ensure!(!is_marked(&data));
            serves_alone(node, revision).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_killed_is_complete_or_refused_until_it_is_repeated() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let api = cluster.nodes[0].api();
    api.next("second").await?.expect(StatusCode::OK)?;
    let (_, revision) = api.instance().await?;
    let status = api.read("/v1/cluster").await?;
    let id = status["cluster_id"]
        .as_str()
        .context("a cluster id")?
        .to_owned();
    cluster.agree().await?;
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    let node = &mut cluster.nodes[1];
    let survivor = node.data().to_owned();
    let folder = tempfile::tempdir()?;
    let data = &folder.path().join("data");
    node.set("LOCKSTEP_DATA_DIR", data.display());
    let of_cluster = |id: &str| -> Result<Command> {
        let mut recover = lockstepd()?;
        recover.arg("recover").arg("--from").arg(data);
        recover.args(["--cluster", id]);
        Ok(recover)
    };
    let recover = of_cluster(&id)?;
    for (point, left) in points(Procedure::Recover) {
        let prepare = || {
            remove(data)?;
            replicate(&survivor, data)
        };
        kill_each_time(point, prepare, &recover, async || {
            if left == Left::Unfinished {
                refuses(node, "run `lockstepd recover` again").await?;
                let mut again = program::run(copy(&recover), RUN_DEADLINE).await?;
                if let Some((_, new)) = again.stderr.split_once("the node belongs to cluster ") {
                    // Everything was done except to remove the mark.
                    let new = of_cluster(new.split(',').next().unwrap_or_default())?;
                    again = program::run(new, RUN_DEADLINE).await?;
                }
                ensure!(again.code == Some(0), "{again:?}");
            }
            ensure!(!is_marked(data));
            serves_alone(node, revision).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rejoin_that_is_killed_is_complete_or_refused_until_it_is_repeated() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.kill9()?;
    let survivor = node.data().to_owned();
    let folder = tempfile::tempdir()?;
    let data = &folder.path().join("data");
    node.set("LOCKSTEP_DATA_DIR", data.display());
    let mut rejoin = lockstepd()?;
    rejoin.args(["rejoin", "--yes", "--data-dir"]).arg(data);
    for (point, left) in points(Procedure::Rejoin) {
        let prepare = || {
            remove(data)?;
            replicate(&survivor, data)
        };
        kill_each_time(point, prepare, &rejoin, async || {
            if left == Left::Unfinished {
                refuses(node, "lockstepd rejoin --data-dir").await?;
                program::run(copy(&rejoin), RUN_DEADLINE).await?.done()?;
            }
            assert_eq!(names(data)?, ["lock"]);
            Ok(())
        })
        .await?;
    }
    Ok(())
}
