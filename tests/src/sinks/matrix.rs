//! Faults of a cluster and of its sink's destination. After each, the destination holds exactly what the
//! cluster committed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::Value;

use super::{Destination, Stage, Traffic};
use crate::agreement::one_leader;
use crate::bulk::{Creation, Entrances, create, transition};
use crate::cluster::Plan;
use crate::http::Api;
use crate::wait::wait_for;

/// Between two transactions of a writer: some thousand changes a second in all.
const PAUSE: Duration = Duration::from_millis(40);
/// Changes between two faults.
const SOME: usize = 400;
/// For a leader to write.
const WRITES_DEADLINE: Duration = Duration::from_secs(30);

/// The leader is killed, the destination is killed, both are.
pub async fn leaders_and_the_destination_are_killed(destination: impl Destination) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.kill_the_leader().await?;
    traffic.more(SOME).await?;
    stage.destination.kill9().await?;
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.destination.start().await?;
    stage.following().await?;
    traffic.more(SOME).await?;
    let leader = stage.cluster.leader().await?;
    stage.destination.kill9().await?;
    stage.cluster.nodes[leader].kill9()?;
    traffic.more(SOME).await?;
    stage.destination.start().await?;
    stage.cluster.nodes[leader].restart().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// The network is cut, the destination hangs, the leader hangs and resumes after another was elected.
pub async fn the_cable_is_pulled_and_both_sides_hang(destination: impl Destination) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.cable.pull();
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.cable.plug();
    stage.following().await?;
    stage.destination.pause().await?;
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.destination.resume().await?;
    stage.following().await?;
    let leader = stage.cluster.leader().await?;
    stage.cluster.nodes[leader].pause()?;
    traffic.more(SOME).await?;
    stage.cluster.nodes[leader].resume()?;
    traffic.more(SOME).await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// The leader is paused with a request in flight until its successor has written. Then the request arrives, and
/// the old leader resumes without knowing that it was deposed. Several times, with different requests.
pub async fn old_leaders_write_late(destination: impl Destination) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    for _ in 0..4 {
        traffic.more(SOME).await?;
        let old = stage.cluster.leader().await?;
        stage.cable.catch().await?;
        stage.cluster.nodes[old].pause()?;
        let mut others = stage.apis();
        others.remove(old);
        another_writes(&others).await?;
        stage.cable.release();
        stage.cluster.nodes[old].resume()?;
    }
    traffic.more(SOME).await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// Waits until the sink of one among these nodes has written something.
async fn another_writes(nodes: &[Api]) -> Result<()> {
    let leader = one_leader(nodes).await?;
    wait_for("a new leader to write", WRITES_DEADLINE, async || {
        let answer = nodes[leader].get("/v1/sinks/far").await?;
        let status: Value = answer.expect(StatusCode::OK)?.json()?;
        ensure!(
            status["events"].as_u64() > Some(0),
            "the sink there is {status}"
        );
        Ok(())
    })
    .await
}

/// The destination is restored from a backup: events are written again from there.
pub async fn the_destination_is_restored_from_yesterday(
    destination: impl Destination,
) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.following().await?;
    stage.destination.save().await?;
    traffic.more(SOME).await?;
    stage.destination.restore().await?;
    traffic.more(SOME).await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It is restored from a backup older than the oldest event: the current states are written as a whole,
/// and the status reports that.
pub async fn the_destination_is_older_than_the_oldest_event(
    destination: impl Destination,
) -> Result<()> {
    let plan = Plan::default().setting("events_max", 1000);
    let mut stage = Stage::start_as(destination, plan).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    let before = stage.following().await?["seeded_revision"].as_u64();
    stage.destination.save().await?;
    stage.destination.kill9().await?;
    traffic.more(2000).await?;
    let changes = traffic.stop().await?;
    stage.destination.restore().await?;
    let seeded = stage.until("the current states to be written", |status| {
        status["phase"] == "following" && status["seeded_revision"].as_u64() > before
    });
    seeded.await?;
    let compared = stage.compare().await?;
    ensure!(
        compared < changes,
        "{compared} of {changes} events were kept"
    );
    Ok(())
}

/// It rejects the events of one instance: the others continue, and those are written once it accepts
/// them and an operator replays the dead letters.
pub async fn some_events_are_rejected(destination: impl Destination) -> Result<()> {
    let poisoned = "triad/poisoned";
    let mut stage = Stage::start(destination).await?;
    stage.destination.reject(poisoned).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    let mut entrances = Entrances::new(&stage.apis(), 0);
    entrances
        .commit(None, &[create(poisoned), create("triad/sound")])
        .await?;
    let both = [
        transition(poisoned, "second"),
        transition("triad/sound", "second"),
    ];
    entrances.commit(None, &both).await?;
    stage
        .until("two dead letters", |status| status["dead_letters"] == 2)
        .await?;
    stage.kill_the_leader().await?;
    traffic.more(SOME).await?;
    let status = stage.following().await?;
    ensure!(status["dead_letters"] == 2, "{status}");
    stage.destination.accept().await?;
    stage
        .ask("dead-letters/replay?event=all")
        .await?
        .expect(StatusCode::ACCEPTED)?;
    stage
        .until("them to be written", |status| status["dead_letters"] == 0)
        .await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes + 4).await
}

/// It rejects one instance during a backfill: the others are written, and that one once it is accepted
/// and an operator requests another backfill.
pub async fn a_state_is_rejected(destination: impl Destination) -> Result<()> {
    let poisoned = "triad/poisoned";
    let mut stage = Stage::start(destination).await?;
    let mut entrances = Entrances::new(&stage.apis(), 0);
    let both = [create(poisoned), create("triad/sound")];
    let created = entrances.commit(None, &both).await?.revision;
    let all = |status: &Value| status["lag_events"] == 0;
    stage.until("both to be written", all).await?;
    stage.destination.reject(poisoned).await?;
    let asked = stage.ask("reseed").await?;
    asked.expect(StatusCode::ACCEPTED)?;
    let seeded = stage.until("a dead letter of a state", |status| {
        status["dead_letters"] == 1
            && status["phase"] == "following"
            && status["seeded_revision"].as_u64() >= Some(created)
    });
    seeded.await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.kill_the_leader().await?;
    traffic.more(SOME).await?;
    stage.destination.accept().await?;
    let asked = stage.ask("dead-letters/replay?event=all").await?;
    asked.expect(StatusCode::ACCEPTED)?;
    stage
        .until("it to be written", |status| status["dead_letters"] == 0)
        .await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It rejects the credentials of the sink for a while.
pub async fn the_sink_is_locked_out(destination: impl Destination) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.destination.lock_out().await?;
    let failing = stage
        .until("the sink to fail", |status| status["phase"] == "failing")
        .await?;
    let reason = failing["reason"].as_str().context("no reason is given")?;
    ensure!(!reason.contains("secret"), "{reason}");
    traffic.more(SOME).await?;
    stage.destination.let_in().await?;
    stage.following().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// Its disk is full for a while.
pub async fn the_destination_is_full(destination: impl Destination) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.destination.fill().await?;
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.destination.make_room().await?;
    stage.following().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It is down from the start, for `backlog` events.
pub async fn a_backlog_is_written(destination: impl Destination, backlog: usize) -> Result<()> {
    let mut stage = Stage::start(destination).await?;
    stage.following().await?;
    stage.cable.pull();
    let creation = Creation {
        machine: "triad".to_owned(),
        numbers: 0..backlog,
        writers: 8,
        window: Duration::ZERO,
        keyed: true,
        moved_to: None,
    };
    creation.run(&stage.apis()).await?;
    stage.cable.plug();
    stage.compare_at_least(backlog).await
}
