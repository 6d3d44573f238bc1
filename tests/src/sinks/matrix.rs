//! What is done to a cluster and to what its sink writes into. After each, the far side holds exactly
//! what the cluster committed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::Value;

use super::{FarSide, Stage, Traffic};
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

/// The leader is killed, the far side is killed, both are.
pub async fn leaders_and_the_far_side_are_killed(far: impl FarSide) -> Result<()> {
    let mut stage = Stage::start(far).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.kill_the_leader().await?;
    traffic.more(SOME).await?;
    stage.far.kill9().await?;
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.far.start().await?;
    stage.following().await?;
    traffic.more(SOME).await?;
    let leader = stage.cluster.leader().await?;
    stage.far.kill9().await?;
    stage.cluster.nodes[leader].kill9()?;
    traffic.more(SOME).await?;
    stage.far.start().await?;
    stage.cluster.nodes[leader].restart().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// The cable is pulled, the far side hangs, the leader hangs and wakes up as an old one.
pub async fn the_cable_is_pulled_and_both_sides_hang(far: impl FarSide) -> Result<()> {
    let mut stage = Stage::start(far).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.cable.pull();
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.cable.plug();
    stage.following().await?;
    stage.far.pause().await?;
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.far.resume().await?;
    stage.following().await?;
    let leader = stage.cluster.leader().await?;
    stage.cluster.nodes[leader].pause()?;
    traffic.more(SOME).await?;
    stage.cluster.nodes[leader].resume()?;
    traffic.more(SOME).await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// The leader hangs with a request under way until another one has written; then the request arrives,
/// and it wakes up not knowing any of that. Several times: it is another request each time.
pub async fn old_leaders_write_late(far: impl FarSide) -> Result<()> {
    let mut stage = Stage::start(far).await?;
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
    let leader = one_leader(&nodes).await?;
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

/// The far side is put back to what it was: events are written again from there.
pub async fn the_far_side_is_restored_from_yesterday(far: impl FarSide) -> Result<()> {
    let mut stage = Stage::start(far).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.following().await?;
    stage.far.save().await?;
    traffic.more(SOME).await?;
    stage.far.restore().await?;
    traffic.more(SOME).await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It is put back to what it was so long ago that the events do not reach back there: the current
/// states are written as a whole, and that is said.
pub async fn the_events_do_not_reach_back(far: impl FarSide) -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_LIMITS_EVENTS_MAX", 1000);
    let mut stage = Stage::start_as(far, plan).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    let before = stage.following().await?["seeded_revision"].as_u64();
    stage.far.save().await?;
    stage.far.kill9().await?;
    traffic.more(2000).await?;
    let changes = traffic.stop().await?;
    stage.far.restore().await?;
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

/// It refuses one instance's events for good: the others go on, and those are written when it takes
/// them and an operator says so.
pub async fn some_events_are_refused(far: impl FarSide) -> Result<()> {
    let poisoned = "triad/poisoned";
    let mut stage = Stage::start(far).await?;
    stage.far.refuse(poisoned).await?;
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
        .until("two events put aside", |status| status["dead_letters"] == 2)
        .await?;
    stage.kill_the_leader().await?;
    traffic.more(SOME).await?;
    let status = stage.following().await?;
    ensure!(status["dead_letters"] == 2, "{status}");
    stage.far.accept().await?;
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

/// It refuses one instance for good when the current states are written as a whole: the others are
/// written, and that one when it is taken and an operator says so.
pub async fn a_state_is_refused(far: impl FarSide) -> Result<()> {
    let poisoned = "triad/poisoned";
    let mut stage = Stage::start(far).await?;
    let mut entrances = Entrances::new(&stage.apis(), 0);
    let both = [create(poisoned), create("triad/sound")];
    let created = entrances.commit(None, &both).await?.revision;
    let all = |status: &Value| status["lag_events"] == 0;
    stage.until("both to be written", all).await?;
    stage.far.refuse(poisoned).await?;
    let asked = stage.ask("reseed").await?;
    asked.expect(StatusCode::ACCEPTED)?;
    let seeded = stage.until("a state put aside", |status| {
        status["dead_letters"] == 1
            && status["phase"] == "following"
            && status["seeded_revision"].as_u64() >= Some(created)
    });
    seeded.await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.kill_the_leader().await?;
    traffic.more(SOME).await?;
    stage.far.accept().await?;
    let asked = stage.ask("dead-letters/replay?event=all").await?;
    asked.expect(StatusCode::ACCEPTED)?;
    stage
        .until("it to be written", |status| status["dead_letters"] == 0)
        .await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It does not let the sink in any more, and does again.
pub async fn the_sink_is_locked_out(far: impl FarSide) -> Result<()> {
    let mut stage = Stage::start(far).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.far.lock_out().await?;
    let failing = stage
        .until("the sink to fail", |status| status["phase"] == "failing")
        .await?;
    let reason = failing["reason"].as_str().context("no reason is given")?;
    ensure!(!reason.contains("secret"), "{reason}");
    traffic.more(SOME).await?;
    stage.far.let_in().await?;
    stage.following().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It has no room left, and gets some.
pub async fn the_far_side_is_full(far: impl FarSide) -> Result<()> {
    let mut stage = Stage::start(far).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.far.fill().await?;
    stage.troubled().await?;
    traffic.more(SOME).await?;
    stage.far.make_room().await?;
    stage.following().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await
}

/// It was away from the start, for `backlog` events.
pub async fn a_backlog_is_written(far: impl FarSide, backlog: usize) -> Result<()> {
    let mut stage = Stage::start(far).await?;
    stage.following().await?;
    stage.cable.pull();
    let creation = Creation {
        machine: "triad".to_owned(),
        numbers: 0..backlog,
        writers: 8,
        window: Duration::ZERO,
        keyed: true,
    };
    creation.run(&stage.apis()).await?;
    stage.cable.plug();
    stage.compare_at_least(backlog).await
}
