//! Timeouts that are due within ten seconds: that each fires once, and how late, without a fault and
//! with the leader killed halfway through.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use lockstep_tests::bulk::Creation;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::http::Api;
use lockstep_tests::timeouts::{Fired, Firing};
use lockstep_tests::watcher::Watcher;

use crate::figures::{head, row};

/// The instances are created over this, so that they are due over it.
const WINDOW: Duration = Duration::from_secs(10);
/// Creation is over before the first one is due.
const AFTER: Duration = Duration::from_secs(20);
const LEASE: &str = "
name: lease
initial: held
states:
  held: { timeout: { after: 20s, to: expired } }
  expired: { final: true }
  released: { final: true }
transitions:
  - { from: held, to: released, event: release }
";
const WRITERS: usize = 8;
/// For all to be seen.
const DEADLINE: Duration = Duration::from_secs(180);
/// Timeouts due further from the kill than this were not affected by the election.
const APART: Duration = Duration::from_secs(2);

pub async fn run(timers: usize) -> Result<()> {
    println!("{}", head("timers", "fired"));
    one_run(timers, false).await?;
    one_run(timers, true).await
}

async fn one_run(timers: usize, kill: bool) -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let apis = cluster.apis();
    apis[follower].define(LEASE).await?;
    let watcher = Watcher::start(
        vec![apis[follower].clone()],
        "/v1/machines/lease/watch?from_revision=1",
        1 + 2 * timers,
    );
    let creation = Creation {
        machine: "lease".to_owned(),
        numbers: 0..timers,
        writers: WRITERS,
        window: WINDOW,
        keyed: true,
        moved_to: None,
    };
    creation.run(&apis).await?;
    let mut killed = None;
    if kill {
        let half = 1 + timers + timers / 2;
        watcher.wait_for(half as u64, DEADLINE).await?;
        killed = Some(SystemTime::now());
        cluster.nodes[leader].kill9()?;
    }
    let fired = Fired::of(&watcher.finish(DEADLINE).await?, AFTER)?;
    ensure!(fired.len() == timers, "{} fired", fired.len());
    check_histories(&apis[follower], timers).await?;
    let what = if kill { "leader killed" } else { "undisturbed" };
    let late = fired.iter().map(|firing| firing.late).collect();
    println!("{}", row(&format!("{what}, by cluster time"), late));
    let seen = fired.iter().map(|firing| firing.seen_late).collect();
    println!("{}", row(&format!("{what}, as a watcher sees it"), seen));
    if let Some(killed) = killed {
        let had_a_leader = |firing: &&Firing| apart(firing.due, killed) > APART;
        let late = fired.iter().filter(had_a_leader).map(|firing| firing.late);
        let what = "due over 2 s before or after the kill";
        println!("{}", row(what, late.collect()));
        cluster.nodes[leader].restart().await?;
    }
    cluster.agree().await
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other)
        .or_else(|_| other.duration_since(one))
        .unwrap_or_default()
}

/// Every instance is where its timeout leads, and has changed just once.
async fn check_histories(api: &Api, timers: usize) -> Result<()> {
    let list = "/v1/machines/lease/instances?state=expired&limit=1000";
    let mut path = list.to_owned();
    let mut found = 0;
    loop {
        let page = api.read(&path).await?;
        for instance in page["instances"].as_array().into_iter().flatten() {
            ensure!(instance["revision"] == 1, "{instance}");
            found += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("{list}&cursor={next}"),
            None => break,
        }
    }
    ensure!(found == timers, "{found} of {timers} have expired");
    Ok(())
}
