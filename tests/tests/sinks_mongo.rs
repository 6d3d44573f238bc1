//! A sink into MongoDB: whatever is done to either side, it ends up with what the cluster committed.
//!
//! The real driver, against nx-27017 or the server that `LOCKSTEP_TEST_MONGODB` names. The stand-in has
//! no authentication, so wrong credentials are tested against a scripted server, in the sink's own tests.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::program::{self, Ended};
use lockstep_tests::sinks::{Documents, Stage, matrix};

/// For a run of the program, in which the sink's own time-out may pass.
const RUN_DEADLINE: Duration = Duration::from_secs(20);
const STEPS: [&str; 4] = ["connect", "insert 3", "find one", "drop"];

#[tokio::test(flavor = "multi_thread")]
async fn killed_leaders_and_servers_lose_and_duplicate_nothing() -> Result<()> {
    let Some(destination) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::leaders_and_the_destination_are_killed(destination).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_cable_and_hanging_peers_lose_and_duplicate_nothing() -> Result<()> {
    let Some(destination) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::the_cable_is_pulled_and_both_sides_hang(destination).await
}

#[tokio::test(flavor = "multi_thread")]
async fn late_writes_of_an_old_leader_change_nothing() -> Result<()> {
    on_any(async |destination| matrix::old_leaders_write_late(destination).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_resumes_where_a_restored_database_ends() -> Result<()> {
    let Some(destination) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::the_destination_is_restored_from_yesterday(destination).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_older_than_all_kept_events_gets_the_current_states() -> Result<()> {
    let Some(destination) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::the_destination_is_older_than_the_oldest_event(destination).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_documents_become_dead_letters_and_are_written_later() -> Result<()> {
    on_any(async |destination| matrix::some_events_are_rejected(destination).await).await
}

#[tokio::test]
async fn a_rejected_state_becomes_a_dead_letter_and_is_written_later() -> Result<()> {
    on_any(async |destination| matrix::a_state_is_rejected(destination).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_waits_while_the_disk_is_full() -> Result<()> {
    let Some(destination) = Documents::start_on_small_disk().await? else {
        return Ok(());
    };
    matrix::the_destination_is_full(destination).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_20_000_events_is_written() -> Result<()> {
    on_any(async |destination| matrix::a_backlog_is_written(destination, 20_000).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tests_the_database_and_leaves_nothing_behind() -> Result<()> {
    on_any(async |destination| {
        let mut stage = Stage::start(destination).await?;
        stage.following().await?;
        let before = collections(&stage).await?;
        let table = check(&stage).await?.done()?;
        ensure!(results(&table) == STEPS.map(|step| (step, "ok")), "{table}");
        stage.cable.pull();
        let ended = check(&stage).await?;
        ensure!(ended.code == Some(1), "{ended:?}");
        ensure!(
            results(&ended.stdout) == [("connect", "failed")],
            "{ended:?}"
        );
        ensure!(ended.stderr.contains("\"connect\" failed"), "{ended:?}");
        stage.cable.plug();
        ensure!(collections(&stage).await? == before, "it left something");
        stage.compare().await.map(drop)
    })
    .await
}

/// Does it in a server that may be others' too, and leaves nothing there.
async fn on_any(what: impl AsyncFnOnce(Documents) -> Result<()>) -> Result<()> {
    let destination = Documents::start().await?;
    let shared = destination.shared().await?;
    what(destination).await?;
    if let Some(database) = shared {
        database.drop().await?;
    }
    Ok(())
}

async fn collections(stage: &Stage<Documents>) -> Result<Vec<String>> {
    let database = stage.destination.database().await?;
    let mut names = database.list_collection_names().await?;
    names.sort();
    Ok(names)
}

async fn check(stage: &Stage<Documents>) -> Result<Ended> {
    let nodes = stage.cluster.running();
    let addresses: Vec<_> = nodes.map(|node| node.grpc_address().to_string()).collect();
    let mut command = binaries::lockstep()?;
    command.args(["sink", "check", "far", "-e", &addresses.join(",")]);
    program::run(command, RUN_DEADLINE).await
}

/// Each row's step and result: columns are two spaces apart.
fn results(table: &str) -> Vec<(&str, &str)> {
    let mut results = vec![];
    for line in table.lines().skip(1) {
        let mut cells = line.split("  ").map(str::trim).filter(|it| !it.is_empty());
        results.extend(cells.next().zip(cells.nth(1)));
    }
    results
}
