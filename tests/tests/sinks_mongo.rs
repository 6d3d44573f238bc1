//! A sink into MongoDB: whatever is done to either side, it ends up with what the cluster committed.
//!
//! The real driver, against nx-27017 or the server that `LOCKSTEP_TEST_MONGODB` names. The stand-in has
//! no authentication, so nothing here locks the sink out: what it makes of that is shown against a
//! scripted server, beside the sink.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::program::{self, Ended};
use lockstep_tests::sinks::{Documents, Stage, matrix};

/// For a run of the program, in which the sink's own time-out may pass.
const RUN_DEADLINE: Duration = Duration::from_secs(20);
const STEPS: [&str; 4] = ["connect", "insert 3", "find one", "drop"];

#[tokio::test(flavor = "multi_thread")]
async fn killed_leaders_and_killed_servers_lose_and_double_nothing() -> Result<()> {
    let Some(far) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::leaders_and_the_far_side_are_killed(far).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_that_is_pulled_and_sides_that_hang_lose_and_double_nothing() -> Result<()> {
    let Some(far) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::the_cable_is_pulled_and_both_sides_hang(far).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_leader_writes_late_changes_nothing() -> Result<()> {
    on_any(async |far| matrix::old_leaders_write_late(far).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_yesterday_is_written_to_from_there() -> Result<()> {
    let Some(far) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::the_far_side_is_restored_from_yesterday(far).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_all_kept_events_gets_the_current_states() -> Result<()> {
    let Some(far) = Documents::start_own().await? else {
        return Ok(());
    };
    matrix::the_events_do_not_reach_back(far).await
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_documents_are_put_aside_and_written_when_they_are_taken() -> Result<()> {
    on_any(async |far| matrix::some_events_are_refused(far).await).await
}

#[tokio::test]
async fn a_refused_state_is_put_aside_and_written_when_it_is_taken() -> Result<()> {
    on_any(async |far| matrix::a_state_is_refused(far).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() -> Result<()> {
    let Some(far) = Documents::start_on_small_disk().await? else {
        return Ok(());
    };
    matrix::the_far_side_is_full(far).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_20_000_events_is_written() -> Result<()> {
    on_any(async |far| matrix::a_backlog_is_written(far, 20_000).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_goes_through_the_database_and_leaves_nothing_in_it() -> Result<()> {
    on_any(async |far| {
        let mut stage = Stage::start(far).await?;
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
    let far = Documents::start().await?;
    let shared = far.shared().await?;
    what(far).await?;
    if let Some(database) = shared {
        database.drop().await?;
    }
    Ok(())
}

async fn collections(stage: &Stage<Documents>) -> Result<Vec<String>> {
    let database = stage.far.database().await?;
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
