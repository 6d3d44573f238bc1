//! Webhooks of a real cluster, while everything fails: the receiver ends with exactly what was committed.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::cluster::Plan;
use lockstep_tests::receiver::{Behaviour, Receiver, Rule};
use lockstep_tests::sinks::{Destination, Stage, Traffic, Webhook, matrix};
use reqwest::StatusCode;

/// Between two transactions of a writer.
const PAUSE: Duration = Duration::from_millis(40);
/// Changes between two faults.
const SOME: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn leaders_and_the_receiver_are_killed() -> Result<()> {
    matrix::leaders_and_the_destination_are_killed(Webhook::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cable_is_pulled_and_both_sides_hang() -> Result<()> {
    matrix::the_cable_is_pulled_and_both_sides_hang(Webhook::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_destination_is_older_than_the_oldest_event() -> Result<()> {
    matrix::the_destination_is_older_than_the_oldest_event(Webhook::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn some_events_are_rejected() -> Result<()> {
    matrix::some_events_are_rejected(Webhook::start().await?).await
}

#[tokio::test]
async fn a_state_is_rejected() -> Result<()> {
    matrix::a_state_is_rejected(Webhook::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_is_locked_out() -> Result<()> {
    matrix::the_sink_is_locked_out(Webhook::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_is_full() -> Result<()> {
    matrix::the_destination_is_full(Webhook::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_written() -> Result<()> {
    matrix::a_backlog_is_written(Webhook::start().await?, 20_000).await
}

/// While the receiver fails for all messages, no event becomes a dead letter, however often it fails.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_dead_letters_while_the_receiver_fails_for_every_message() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_SINK_FAR_ATTEMPTS_MAX", 2);
    let mut stage = Stage::start_as(Webhook::start().await?, plan).await?;
    // Some are accepted after others have failed already.
    let at_most = Duration::from_millis(100);
    let slow = Rule::new(Behaviour::Slow { at_most }).share(0.5);
    stage.destination.receiver.obey(slow);
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    for status in [500, 503] {
        traffic.more(SOME).await?;
        stage.destination.receiver.behave();
        let failing = Rule::new(Behaviour::status(status));
        stage.destination.receiver.obey(failing);
        let before = stage.troubled().await?["errors"].as_u64();
        let tried = stage.until("it to be tried again and again", |status| {
            status["errors"].as_u64() > before.map(|before| before + 8)
        });
        tried.await?;
        stage.destination.receiver.behave();
        stage.following().await?;
    }
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await?;
    let status = stage.status().await?;
    ensure!(status["dead_letters"] == 0, "{status}");
    Ok(())
}

/// A receiver keeps no checkpoint, so a restore goes unnoticed: its operator has to request a backfill.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_receiver_gets_the_current_states_on_request() -> Result<()> {
    let mut stage = Stage::start(Webhook::start().await?).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    stage.destination.save().await?;
    traffic.more(SOME).await?;
    let before = stage.following().await?["seeded_revision"].as_u64();
    stage.destination.restore().await?;
    traffic.more(SOME).await?;
    let lost = stage.compare().await;
    ensure!(lost.is_err(), "there was nothing to lose");
    stage.ask("reseed").await?.expect(StatusCode::ACCEPTED)?;
    let seeded = stage.until("the current states to be written", |status| {
        status["phase"] == "following" && status["seeded_revision"].as_u64() > before
    });
    seeded.await?;
    let more = SOME;
    traffic.more(more).await?;
    traffic.stop().await?;
    stage.compare_at_least(more).await
}

/// A deposed leader resumes in the middle of its deliveries, repeatedly.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_hang_during_deliveries() -> Result<()> {
    let mut stage = Stage::start(Webhook::start().await?).await?;
    let at_most = Duration::from_millis(100);
    stage
        .destination
        .receiver
        .obey(Rule::new(Behaviour::Slow { at_most }));
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    for _ in 0..4 {
        traffic.more(SOME).await?;
        let leader = stage.cluster.leader().await?;
        stage.cluster.nodes[leader].pause()?;
        traffic.more(SOME).await?;
        stage.cluster.nodes[leader].resume()?;
    }
    let changes = traffic.stop().await?;
    stage.destination.receiver.behave();
    stage.compare_at_least(changes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_fails_in_every_way_at_once_while_leaders_die() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_SINK_FAR_TIMEOUT", "500ms");
    let mut stage = Stage::start_as(Webhook::start().await?, plan).await?;
    let at_most = Duration::from_millis(20);
    let ways = [
        (0.002, Behaviour::Stall),
        (0.01, Behaviour::Cut),
        (0.03, Behaviour::status(500)),
        (0.01, Behaviour::status(503)),
        (0.01, Behaviour::status(429)),
        (0.01, Behaviour::full("1")),
        (0.002, Behaviour::status(401)),
        (0.3, Behaviour::Slow { at_most }),
    ];
    for (share, behaviour) in ways {
        stage
            .destination
            .receiver
            .obey(Rule::new(behaviour).share(share));
    }
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    for round in 0..3 {
        traffic.more(SOME).await?;
        stage.kill_the_leader().await?;
        if round == 1 {
            stage.destination.kill9().await?;
            traffic.more(SOME).await?;
            stage.destination.start().await?;
        }
    }
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await?;
    let counts = stage.destination.receiver.counts();
    ensure!(counts.repeated > 0, "nothing was cut: {counts:?}");
    let status = stage.status().await?;
    ensure!(status["dead_letters"] == 0, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() -> Result<()> {
    let mut stage = Stage::start(Webhook::start().await?).await?;
    let elsewhere = Receiver::start(&[]).await?;
    let traffic = Traffic::start(&stage.apis(), PAUSE);
    traffic.more(SOME).await?;
    let moved = Behaviour::redirect(&elsewhere.url());
    stage.destination.receiver.obey(Rule::new(moved));
    let failing = stage.until("the sink to fail", |status| status["phase"] == "failing");
    let reason = failing.await?["reason"].to_string();
    ensure!(reason.contains("redirect"), "{reason}");
    traffic.more(SOME).await?;
    stage.destination.receiver.behave();
    stage.following().await?;
    let changes = traffic.stop().await?;
    stage.compare_at_least(changes).await?;
    ensure!(elsewhere.counts().requests == 0, "{:?}", elsewhere.counts());
    Ok(())
}
