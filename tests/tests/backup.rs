//! Backups of running clusters, new clusters made from them, and from what is left of a cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::http::Api;
use lockstep_tests::program::{self, Ended};
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// For a run of a program.
const RUN_DEADLINE: Duration = Duration::from_secs(30);
/// For nodes to join and be promoted while two cores do everything.
const JOIN_DEADLINE: Duration = Duration::from_secs(60);

/// `lockstep cluster backup` from one node.
async fn back_up(node: &Node, file: &Path) -> Result<Ended> {
    let mut command = binaries::lockstep()?;
    command.args(["cluster", "backup"]).arg(file);
    command.args(["-o", "json", "-e", &node.grpc_address().to_string()]);
    program::run(command, RUN_DEADLINE).await
}

/// `lockstepd restore` into the folder of a node that has none.
async fn restore(node: &Node, file: &Path) -> Result<Ended> {
    let mut command = node.lockstepd("restore")?;
    command.arg(file);
    program::run(command, RUN_DEADLINE).await
}

async fn recover(from: &Path, cluster: &str) -> Result<Ended> {
    let mut command = binaries::lockstepd()?;
    command.arg("recover").arg("--from").arg(from);
    command.args(["--cluster", cluster]);
    program::run(command, RUN_DEADLINE).await
}

async fn cluster_id(api: &Api) -> Result<String> {
    let status = api.read("/v1/cluster").await?;
    let id = status["cluster_id"].as_str().context("a cluster id")?;
    Ok(id.to_owned())
}

async fn wait_for_three_voters(api: &Api) -> Result<()> {
    wait_for("three nodes to vote", JOIN_DEADLINE, async || {
        let listed = api.read("/v1/cluster/members").await?;
        let members = listed["members"].as_array().context("members")?;
        let votes = |it: &&Value| it["voter"] == true;
        ensure!(members.iter().filter(votes).count() == 3, "{members:?}");
        ensure!(members.len() == 3, "{members:?}");
        Ok(())
    })
    .await
}

/// Starts the node that has the data, then the others, which are empty.
async fn grow(cluster: &mut Cluster, first: usize) -> Result<()> {
    cluster.nodes[first].restart().await?;
    cluster.start_all()?;
    wait_for_three_voters(cluster.nodes[first].api()).await?;
    cluster.wait_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_from_a_follower_becomes_a_new_cluster_with_every_earlier_write()
-> Result<()> {
    let cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let api = cluster.nodes[leader].api().clone();
    let (_, revision) = api.instance().await?;
    let writer = Writer::persistent(&api).await?;
    writer.wait_for_more(50, RUN_DEADLINE).await?;
    let acknowledged = revision + writer.acknowledged();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lockstep.backup");
    let written = back_up(&cluster.nodes[follower], &file).await?.json()?;
    writer.wait_for_more(20, RUN_DEADLINE).await?;
    let last = writer.finish().await?.revision;
    assert_eq!(written["node"], *cluster.nodes[follower].name);
    assert_eq!(written["bytes"], fs::metadata(&file)?.len());

    let mut verify = binaries::lockstepd()?;
    verify.args(["restore", "--verify"]).arg(&file);
    let said = program::run(verify, RUN_DEADLINE).await?.done()?;
    let id = cluster_id(&api).await?;
    assert_eq!(written["cluster_id"], *id);
    ensure!(said.contains(&format!("cluster       {id}\n")), "{said}");

    let mut restored = Cluster::lay_out(Plan::default())?;
    let said = restore(&restored.nodes[0], &file).await?.done()?;
    ensure!(said.contains("as a new cluster"), "{said}");
    grow(&mut restored, 0).await?;
    let api = restored.nodes[2].api().clone();
    ensure!(cluster_id(&api).await? != id);
    let (_, found) = api.instance().await?;
    ensure!(
        (acknowledged..=last).contains(&found),
        "{found}, of {acknowledged} before the backup and {last} in all"
    );
    // Revisions continue, and a watch of the earlier cluster is told apart.
    let old = api
        .request(Method::GET, "/v1/watch")
        .header("Last-Event-ID", format!("1-0-{id}"));
    let refused = lockstep_tests::http::answer(old).await?;
    let refused = refused.expect(StatusCode::CONFLICT)?;
    ensure!(
        refused.text.contains("cursor_of_another_cluster"),
        "{refused:?}"
    );
    let writer = Writer::persistent(&api).await?;
    writer.wait_for_more(20, RUN_DEADLINE).await?;
    restored.nodes[0].kill9()?;
    writer.wait_for_more(20, RUN_DEADLINE).await?;
    restored.nodes[0].restart().await?;
    writer.finish().await?;
    restored.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_of_three_becomes_a_cluster_that_grows_back_and_loses_no_write() -> Result<()>
{
    let mut cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let api = cluster.nodes[leader].api().clone();
    let id = cluster_id(&api).await?;
    let writer = Writer::persistent(&api).await?;
    writer.wait_for_more(50, RUN_DEADLINE).await?;
    let written = writer.finish().await?;
    cluster.agree().await?;
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    let survivor = (leader + 1) % 3;
    let data = cluster.nodes[survivor].data().to_owned();
    let refused = recover(&data, "another").await?.failed(1)?;
    ensure!(refused.contains("not to \"another\""), "{refused}");
    for part in [
        "committed",
        "log            ends at",
        "term",
        "ago",
        "node1 voter",
    ] {
        ensure!(refused.contains(part), "{part}: {refused}");
    }

    let recovered = recover(&data, &id).await?;
    ensure!(recovered.code == Some(0), "{recovered:?}");
    for position in (0..3).filter(|it| *it != survivor) {
        cluster.nodes[position].lose_disk()?;
    }
    grow(&mut cluster, survivor).await?;
    let api = cluster.nodes[leader].api().clone();
    ensure!(cluster_id(&api).await? != id);
    assert_eq!(api.instance().await?.1, written.revision);
    let writer = Writer::persistent(&api).await?;
    writer.wait_for_more(20, RUN_DEADLINE).await?;
    writer.finish().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_not_recovered_while_it_runs_or_the_others_have_a_quorum() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let id = cluster_id(cluster.nodes[leader].api()).await?;
    let data = cluster.nodes[follower].data().to_owned();
    let refused = recover(&data, &id).await?.failed(1)?;
    ensure!(refused.contains("is in use"), "{refused}");
    cluster.nodes[follower].terminate().await?;
    let refused = recover(&data, &id).await?.failed(1)?;
    ensure!(refused.contains("with a quorum"), "{refused}");
    // Nothing has changed.
    cluster.nodes[follower].restart().await?;
    cluster.agree().await
}

#[tokio::test]
async fn an_invalid_backup_is_refused_before_anything_is_written() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lockstep.backup");
    back_up(&cluster.nodes[0], &file).await?.done()?;
    let whole = fs::read(&file)?;
    let renumbered = {
        let mut bytes = whole.clone();
        bytes[11] += 1;
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    let altered = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let target = Cluster::lay_out(Plan::single())?;
    let node = &target.nodes[0];
    let bad = folder.path().join("bad.backup");
    for (bytes, reason) in [
        (whole[..whole.len() - 1].to_vec(), "is incomplete"),
        (whole[..whole.len() / 2].to_vec(), "is incomplete"),
        (Vec::new(), "is incomplete"),
        (altered(13), "is damaged"),
        (altered(40), "is damaged"),
        (altered(whole.len() - 10), "is damaged"),
        (altered(whole.len() - 2), "is damaged"),
        (b"not a backup at all".to_vec(), "is not a Lockstep backup"),
        (renumbered, "has format 2; this build reads format 1"),
    ] {
        fs::write(&bad, &bytes)?;
        let refused = restore(node, &bad).await?.failed(1)?;
        ensure!(refused.contains(reason), "{reason}: {refused}");
        ensure!(!node.data().exists(), "{reason}");
    }
    let missing = restore(node, &folder.path().join("missing"))
        .await?
        .failed(1)?;
    ensure!(missing.contains("cannot read"), "{missing}");
    // Nor into a folder that is used, or was.
    let used = restore(&cluster.nodes[0], &file).await?.failed(1)?;
    ensure!(used.contains("is not empty"), "{used}");
    restore(node, &file).await?.done()?;
    let again = restore(node, &file).await?.failed(1)?;
    ensure!(again.contains("is not empty"), "{again}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_restore_is_refused_at_the_start_and_can_be_repeated() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lockstep.backup");
    back_up(&cluster.nodes[0], &file).await?.done()?;
    let mut target = Cluster::lay_out(Plan::single())?;
    let node = &mut target.nodes[0];
    restore(node, &file).await?.done()?;
    // As if it had been killed just before its end.
    fs::write(node.data().join("unfinished"), "restore\n")?;
    node.start()?;
    let status = node.wait_ended(STOP_DEADLINE).await?;
    ensure!(!status.success(), "{status}");
    let log = node.log();
    ensure!(log.contains("run `lockstepd restore` again"), "{log}");
    restore(node, &file).await?.done()?;
    node.restart().await?;
    assert_eq!(node.api().state().await?, "second");
    Ok(())
}

#[tokio::test]
async fn scheduled_backups_are_written_kept_by_count_and_measured() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plan = Plan::single()
        .with("LOCKSTEP_BACKUP_FOLDER", folder.path().display())
        .with("LOCKSTEP_BACKUP_INTERVAL", "1s")
        .with("LOCKSTEP_BACKUP_KEEP", 2);
    let cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api().clone();
    let backups = || -> Result<Vec<_>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.path())? {
            found.push(entry?.path());
        }
        found.sort();
        Ok(found)
    };
    let name = cluster.nodes[0].name.clone();
    let is_complete = |it: &std::path::PathBuf| it.extension().is_some_and(|it| it == "backup");
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    wait_for("three backups", READY_DEADLINE, async || {
        let (state, _) = api.instance().await?;
        let next = api.next(lockstep_tests::http::after(&state)).await?;
        next.expect(StatusCode::OK)?;
        seen.borrow_mut()
            .extend(backups()?.into_iter().filter(is_complete));
        ensure!(seen.borrow().len() >= 3, "{seen:?}");
        Ok(())
    })
    .await?;
    let kept = backups()?;
    ensure!(
        kept.iter().filter(|it| is_complete(it)).count() <= 3,
        "{kept:?}"
    );
    ensure!(
        api.metric("lockstep_backup_last_success_timestamp_seconds")
            .await?
            > 0.0
    );
    ensure!(api.metric("lockstep_backup_last_size_bytes").await? > 0.0);
    assert_eq!(api.metric("lockstep_backup_failures_total").await?, 0.0);
    let newest = kept.iter().rev().find(|it| is_complete(it));
    let newest = newest.context("a backup")?;
    ensure!(newest.display().to_string().contains(&name), "{newest:?}");
    let copy = folder.path().join("copy");
    fs::copy(newest, &copy)?;
    let mut target = Cluster::lay_out(Plan::single())?;
    restore(&target.nodes[0], &copy).await?.done()?;
    target.nodes[0].restart().await
}
