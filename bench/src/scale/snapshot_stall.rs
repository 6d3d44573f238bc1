//! Whether writes wait for snapshots: their latency while a snapshot of a million instances is being
//! built on some node, and while none is, in one run.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lockstep_tests::bulk::{Entrances, numbered};
use lockstep_tests::http::Api;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::million::load;
use crate::figures::{head, row, snapshots};

/// Log entries between two snapshots. At the rate below nearly every move is an entry of its own.
const SNAPSHOT_ENTRIES: u64 = 5000;
/// Transitions are requested at this rate, regardless of answers, so that waiting writers hide no stall.
const MOVES_PER_SECOND: usize = 400;
const SECONDS: usize = 75;
/// Transitions without an answer at most; more would not keep the rate, which is reported.
const IN_FLIGHT_MAX: usize = 4000;

/// One move: when it should have been sent, and when its answer came.
type Move = (SystemTime, SystemTime);

pub async fn run(instances: usize) -> Result<()> {
    let cluster = load(instances, SNAPSHOT_ENTRIES).await?;
    let apis = cluster.apis();
    let moves = write(&apis, instances).await?;

    let mut built = Vec::new();
    for node in &cluster.nodes {
        built.extend(snapshots(node));
    }
    let began = moves.first().context("no moves")?.0;
    built.retain(|it| it.at > began);
    ensure!(!built.is_empty(), "no snapshot was built meanwhile");
    let longest = built.iter().map(|it| it.took).max().unwrap_or_default();
    println!(
        "{} snapshots of {:.0} MB on three nodes meanwhile, the longest {:.2} s\n",
        built.len(),
        built[0].size as f64 / 1e6,
        longest.as_secs_f64()
    );
    let during = |(from, to): &&Move| {
        built
            .iter()
            .any(|it| it.at - it.took < *to && *from < it.at)
    };
    let (with, without): (Vec<&Move>, Vec<&Move>) = moves.iter().partition(during);
    let times = |moves: Vec<&Move>| {
        let time = |(from, to): &Move| to.duration_since(*from).unwrap_or_default();
        moves.into_iter().map(time).collect()
    };
    println!("{}", head("transitions", "answered"));
    println!("{}", row("no snapshot", times(without)));
    println!("{}", row("a snapshot on some node", times(with)));
    cluster.agree().await
}

/// Moves instances all over the range, at a constant rate.
async fn write(apis: &[Api], instances: usize) -> Result<Vec<Move>> {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut tasks = JoinSet::new();
    let (began, clock) = (Instant::now(), SystemTime::now());
    let total = MOVES_PER_SECOND * SECONDS;
    for n in 0..total.min(instances) {
        let since = Duration::from_secs(1).mul_f64(n as f64 / MOVES_PER_SECOND as f64);
        tokio::time::sleep_until(began + since).await;
        let permit = in_flight.clone().acquire_owned().await?;
        let mut entrances = Entrances::new(apis, n);
        // A stride coprime to the number of instances visits each once, all over the range.
        let id = numbered("order", n * 7919 % instances);
        tasks.spawn(async move {
            entrances.transition(&id, "paid", None).await?;
            drop(permit);
            anyhow::Ok((clock + since, SystemTime::now()))
        });
    }
    let moves = tasks.join_all().await.into_iter();
    let mut moves: Vec<_> = moves.collect::<Result<_>>()?;
    moves.sort();
    Ok(moves)
}
