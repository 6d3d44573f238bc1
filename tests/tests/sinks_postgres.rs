//! A cluster and a real PostgreSQL that follows it: whatever is done to either, the tables hold what
//! was committed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::agreement;
use lockstep_tests::binaries;
use lockstep_tests::bulk::{Entrances, create, numbered, transition};
use lockstep_tests::http::{Api, after};
use lockstep_tests::program;
use lockstep_tests::sinks::{Database, Destination, Stage, matrix};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::Client;

/// For what is waited for here.
const DEADLINE: Duration = Duration::from_secs(30);
/// For a run of `lockstep`.
const RUN_DEADLINE: Duration = Duration::from_secs(60);
/// Metrics of what only the node knows that runs the sink.
const GAUGES: [&str; 4] = [
    "lockstep_sink_active{",
    "lockstep_sink_lag_events{",
    "lockstep_sink_lag_seconds{",
    "lockstep_sink_dead_letters{",
];

#[tokio::test]
async fn leaders_and_postgres_are_killed() -> Result<()> {
    matrix::leaders_and_the_destination_are_killed(Database::start().await?).await
}

#[tokio::test]
async fn the_cable_to_postgres_is_pulled_and_both_sides_hang() -> Result<()> {
    matrix::the_cable_is_pulled_and_both_sides_hang(Database::start().await?).await
}

#[tokio::test]
async fn postgres_is_restored_from_yesterday() -> Result<()> {
    matrix::the_destination_is_restored_from_yesterday(Database::start().await?).await
}

#[tokio::test]
async fn postgres_is_older_than_the_oldest_event() -> Result<()> {
    matrix::the_destination_is_older_than_the_oldest_event(Database::start().await?).await
}

#[tokio::test]
async fn postgres_refuses_some_events() -> Result<()> {
    matrix::some_events_are_rejected(Database::start().await?).await
}

#[tokio::test]
async fn postgres_refuses_a_state() -> Result<()> {
    matrix::a_state_is_rejected(Database::start().await?).await
}

#[tokio::test]
async fn the_password_changes_at_postgres() -> Result<()> {
    matrix::the_sink_is_locked_out(Database::start().await?).await
}

#[tokio::test]
async fn the_disk_of_postgres_is_full() -> Result<()> {
    let Some(destination) = Database::start_on_small_disk().await? else {
        println!("left out: a disk to be filled can be mounted by root alone");
        return Ok(());
    };
    matrix::the_destination_is_full(destination).await
}

#[tokio::test]
async fn a_backlog_of_sixty_thousand_events_is_written() -> Result<()> {
    matrix::a_backlog_is_written(Database::start().await?, 60_000).await
}

/// The last write of a deposed leader is still in flight when its successor has begun to write.
#[tokio::test]
async fn the_late_write_of_an_old_leader_changes_nothing() -> Result<()> {
    let mut stage = Stage::start(Database::start().await?).await?;
    let old = stage.cluster.leader().await?;
    let others: Vec<usize> = (0..3).filter(|&node| node != old).collect();
    for &other in &others {
        unplugged(&mut stage, other).await?;
    }
    ensure!(stage.cluster.leader().await? == old, "another one leads");
    stage.following().await?;
    let database = stage.destination.administrator().await?;
    let writer = writer(&database).await?;
    let apis: Vec<Api> = others
        .iter()
        .map(|&node| stage.cluster.nodes[node].api().clone())
        .collect();
    let mut entrances = Entrances::new(&apis, 0);

    stage.cable.pull();
    entrances.commit(None, &[create("triad/late")]).await?;
    // What it wrote is in the cable, and it has given up waiting for an answer.
    stage.troubled().await?;
    stage.cluster.nodes[old].pause()?;
    agreement::one_leader(&apis).await?;
    let moved = [transition("triad/late", "second")];
    let last = entrances.commit(None, &moved).await?.revision;
    let reached = wait_for("the new leader to write", DEADLINE, async || {
        let reached = place(&database).await?;
        ensure!(reached.1 == i64::try_from(last)?, "it is at {reached:?}");
        Ok(reached)
    });
    let reached = reached.await?;

    stage.cable.plug();
    wait_for("the old write to be done with", DEADLINE, async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        let left: i64 = database.query_one(sql, &[&writer]).await?.try_get(0)?;
        ensure!(left == 0, "its connection is open");
        Ok(())
    })
    .await?;
    assert_eq!(place(&database).await?, reached);
    stage.cluster.nodes[old].resume()?;
    stage.cluster.leader().await?;
    stage.compare_at_least(2).await
}

/// Has a node reach the database past the cable from now on.
async fn unplugged(stage: &mut Stage<Database>, node: usize) -> Result<()> {
    let node = &mut stage.cluster.nodes[node];
    for (key, value) in stage.destination.settings(stage.destination.address()) {
        node.set(key, value);
    }
    node.terminate().await?;
    node.restart().await
}

/// The database's process for the one connection of a sink.
async fn writer(database: &Client) -> Result<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lockstep'";
    Ok(database.query_one(sql, &[]).await?.try_get(0)?)
}

/// The term of the claim, and the checkpoint.
async fn place(database: &Client) -> Result<(i64, i64, i64)> {
    let sql = "SELECT term, revision, position FROM lockstep.sinks";
    let row = database.query_one(sql, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

#[tokio::test]
async fn an_event_of_an_idle_cluster_arrives_at_once() -> Result<()> {
    let mut stage = Stage::start(Database::start().await?).await?;
    stage.following().await?;
    let database = stage.destination.administrator().await?;
    let mut entrances = Entrances::new(&stage.apis(), 0);
    entrances.commit(None, &[create("triad/soon")]).await?;
    let (mut state, mut times) = ("first", vec![]);
    for _ in 0..20 {
        state = after(state);
        entrances.transition("triad/soon", state, None).await?;
        let committed = Instant::now();
        wait_for("a transition to arrive", DEADLINE, async || {
            let sql = "SELECT state FROM lockstep.instances WHERE instance = 'soon'";
            let row = database.query_opt(sql, &[]).await?;
            let row = row.context("it is not there")?;
            let there: &str = row.try_get(0)?;
            ensure!(there == state, "it is in {there}");
            Ok(())
        })
        .await?;
        times.push(committed.elapsed());
    }
    times.sort();
    println!("within {:?} mostly, {:?} at most", times[10], times[19]);
    stage.compare_at_least(21).await
}

#[tokio::test]
async fn rows_changed_by_hand_are_repaired_on_request() -> Result<()> {
    let mut stage = Stage::start(Database::start().await?).await?;
    let instances: Vec<_> = (0..100).map(|n| create(&numbered("triad", n))).collect();
    let mut entrances = Entrances::new(&stage.apis(), 0);
    let created = entrances.commit(None, &instances).await?.revision;
    let caught_up = |status: &Value| status["lag_events"] == 0 && status["phase"] == "following";
    stage.until("all to be written", caught_up).await?;
    let tampering = "DELETE FROM lockstep.instances WHERE instance LIKE '%1'; \
        UPDATE lockstep.instances SET state = 'third', version = 9, instance_revision = 77, \
          created_at = NULL, metadata = '{\"by\": \"hand\"}' WHERE instance LIKE '%2'; \
        UPDATE lockstep.instances SET state = 'third', revision = revision + 1000000 \
          WHERE instance LIKE '%3'; \
        INSERT INTO lockstep.instances \
          SELECT machine, 'made-up', state, version, instance_revision, created_at, changed_at, \
            metadata, revision + 1000000 FROM lockstep.instances LIMIT 1";
    let database = stage.destination.administrator().await?;
    database.batch_execute(tampering).await?;
    // One more event, so that the backfill can be distinguished from the first.
    entrances.commit(None, &[create("triad/after")]).await?;
    let asked = stage.ask("reseed").await?;
    ensure!(asked.status == StatusCode::ACCEPTED, "{asked:?}");
    let seeded = |status: &Value| status["seeded_revision"].as_u64() > Some(created);
    stage.until("the states to be written", seeded).await?;
    let sql = "SELECT reason, missing_to_revision IS NULL FROM lockstep.seeds ORDER BY number";
    let mut seeds = vec![];
    for row in database.query(sql, &[]).await? {
        seeds.push((row.try_get::<_, String>(0)?, row.try_get::<_, bool>(1)?));
    }
    assert_eq!(
        seeds,
        [("first".to_owned(), true), ("asked".to_owned(), true)]
    );
    let wrong = "SELECT count(*) FROM lockstep.instances WHERE machine = 'triad' AND instance <> \
        'default' AND (version <> 1 OR created_at IS NULL OR metadata <> '{}')";
    let wrong: i64 = database.query_one(wrong, &[]).await?.try_get(0)?;
    assert_eq!(wrong, 0);
    stage.compare_at_least(101).await
}

#[tokio::test]
async fn the_command_line_goes_through_postgres_step_by_step() -> Result<()> {
    let stage = Stage::start(Database::start().await?).await?;
    let mut command = binaries::lockstep()?;
    let nodes: Vec<_> = stage.cluster.nodes.iter().collect();
    let addresses: Vec<_> = nodes
        .iter()
        .map(|it| it.grpc_address().to_string())
        .collect();
    command.args(["--endpoint", &addresses.join(",")]);
    command.args(["--output", "json", "sink", "check", "far"]);
    let checked = program::run(command, RUN_DEADLINE).await?.json()?;
    let steps = checked["steps"].as_array().context("no steps")?;
    let names: Vec<_> = steps.iter().map(|step| &step["step"]).collect();
    let expected = ["connect", "create a table", "insert 3", "find one", "drop"];
    assert_eq!(names, expected);
    assert!(steps.iter().all(|step| step["ok"] == true), "{checked}");
    let leader = stage.cluster.leader().await?;
    assert_eq!(checked["node"], nodes[leader].name);
    stage.following().await?;
    let scratch = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'check%'";
    let database = stage.destination.administrator().await?;
    let left: i64 = database.query_one(scratch, &[]).await?.try_get(0)?;
    assert_eq!(left, 0, "tables are left behind");
    Ok(())
}

#[tokio::test]
async fn only_the_leader_reports_the_status_of_the_sink() -> Result<()> {
    let mut stage = Stage::start(Database::start().await?).await?;
    stage.following().await?;
    let first = stage.cluster.leader().await?;
    reports_alone(&stage, first).await?;
    stage.cluster.nodes[first].pause()?;
    let others: Vec<Api> = (0..3)
        .filter(|&node| node != first)
        .map(|node| stage.cluster.nodes[node].api().clone())
        .collect();
    agreement::one_leader(&others).await?;
    stage.cluster.nodes[first].resume()?;
    let second = stage.cluster.leader().await?;
    reports_alone(&stage, second).await
}

/// Waits until the node at `leader` has all the gauges, and none of the others has any. What those
/// counted while they led, they have counted.
async fn reports_alone(stage: &Stage<Database>, leader: usize) -> Result<()> {
    wait_for("the metrics of the sink", DEADLINE, async || {
        for (position, node) in stage.cluster.nodes.iter().enumerate() {
            let answer = node.api().get("/metrics").await?.expect(StatusCode::OK)?;
            let has = |start: &&str| answer.text.lines().any(|line| line.starts_with(*start));
            let (name, role) = (&node.name, position == leader);
            match role {
                true => ensure!(GAUGES.iter().all(&has), "{name} lacks some"),
                false => ensure!(!GAUGES.iter().any(&has), "{name} has some"),
            }
        }
        Ok(())
    })
    .await
}
