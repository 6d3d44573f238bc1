//! Catching up after an outage of the destination: how fast the accumulated events are written, how much memory
//! that takes, and that each event is correct.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::bulk::{Creation, OPERATIONS};
use lockstep_tests::cluster::Plan;
use lockstep_tests::http::Api;
use lockstep_tests::sinks::{Destination, Stage};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{lag, stage};
use crate::figures::per_second;

/// The cluster keeps this many events, so that it drops none before it is written.
const EVENTS_MAX: usize = 2_500_000;
const EVENT_BYTES_MAX: u64 = 512 << 20;
/// Events besides the requested ones: definitions, markers.
const EVENTS_SPARE: usize = 1000;
const WRITERS: usize = 16;
/// Between two looks at the memory and at how far the sink is.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// For a snapshot that may be under way to be done, before memory is compared.
const SETTLE: Duration = Duration::from_secs(5);
/// A sink that writes nothing for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How a backlog was written.
struct Drain {
    /// From when the destination was resumed.
    took: Duration,
    /// Until the first events were written: connections had to time out, pauses to pass.
    first_after: Duration,
    /// The leader's resident memory at its largest meanwhile, in bytes.
    resident_max: f64,
}

pub async fn run<F: Destination>(kind: &str, destination: F, events: usize) -> Result<()> {
    ensure!(
        (1..=EVENTS_MAX - EVENTS_SPARE).contains(&events),
        "a cluster that keeps {EVENTS_MAX} events cannot hold {events} back"
    );
    let plan = Plan::default()
        .setting("events_max", EVENTS_MAX as u64)
        .setting("event_bytes_max", EVENT_BYTES_MAX);
    let mut stage = stage(destination, plan).await?;
    stage.destination.pause().await?;
    let began = Instant::now();
    // Half of the events create instances, the other half move them.
    let creation = Creation {
        machine: "triad".to_owned(),
        numbers: 0..events.div_ceil(2),
        writers: WRITERS,
        window: Duration::ZERO,
        keyed: false,
        moved_to: Some("second"),
    };
    let loaded = creation.run(&stage.apis()).await;
    let took = began.elapsed();
    tokio::time::sleep(SETTLE).await;
    let measured = match loaded {
        Ok(_) => before(&stage, events).await,
        Err(error) => Err(error),
    };
    // Also after an error: a stopped process cannot end.
    stage.destination.resume().await?;
    let (leader, lag, before) = measured?;
    println!(
        "{lag} events held back, made in {:.1} s ({:.0}/s), {OPERATIONS} in a transaction\n",
        took.as_secs_f64(),
        per_second(events, took)
    );
    let api = stage.cluster.nodes[leader].api().clone();
    let drain = drain(&stage, &api, lag).await?;
    ensure!(
        stage.cluster.leader().await? == leader,
        "another node leads meanwhile"
    );
    tokio::time::sleep(SETTLE).await;
    let after = api.resident().await?;
    show(kind, lag, &drain, [before, drain.resident_max, after]);
    let began = Instant::now();
    let compared = stage.compare().await?;
    ensure!(compared >= events, "{compared} of {events} were compared");
    println!(
        "\n{compared} events and all states compared in {:.1} s: each is there once, in order, as it was",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn show(kind: &str, events: u64, drain: &Drain, resident: [f64; 3]) {
    let [before, largest, after] = resident.map(|bytes| format!("{:.0} MB", bytes / 1e6));
    println!(
        "| sink | events | written in | events/s | first after | leader's memory before | at its largest | after |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    println!(
        "| {kind} | {events} | {:.1} s | {:.0} | {:.1} s | {before} | {largest} | {after} |",
        drain.took.as_secs_f64(),
        per_second(events as usize, drain.took),
        drain.first_after.as_secs_f64(),
    );
}

/// Before the destination resumes: the leader, how many events its sink is behind, and its memory.
async fn before<F: Destination>(stage: &Stage<F>, events: usize) -> Result<(usize, u64, f64)> {
    let leader = stage.cluster.leader().await?;
    let status = stage.status().await?;
    let lag = lag(&status)?;
    ensure!(
        lag >= events as u64,
        "it is {status}: the destination did answer"
    );
    let resident = stage.cluster.nodes[leader].api().resident().await?;
    Ok((leader, lag, resident))
}

/// Samples until everything is written.
async fn drain<F: Destination>(stage: &Stage<F>, leader: &Api, behind: u64) -> Result<Drain> {
    let began = Instant::now();
    let (mut left, mut first_after, mut wrote_at) = (behind, None, began);
    let mut resident_max = 0.0_f64;
    let mut looks = interval(SAMPLE_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        resident_max = resident_max.max(leader.resident().await?);
        let status = stage.status().await?;
        ensure!(status["dead_letters"] == 0, "it is {status}");
        let lag = lag(&status)?;
        if lag < left {
            (left, wrote_at) = (lag, Instant::now());
            first_after.get_or_insert(began.elapsed());
        }
        if left == 0 {
            return Ok(Drain {
                took: began.elapsed(),
                first_after: first_after.unwrap_or_default(),
                resident_max,
            });
        }
        ensure!(
            wrote_at.elapsed() < STUCK_AFTER,
            "nothing was written for {STUCK_AFTER:?}: {status}"
        );
    }
}
