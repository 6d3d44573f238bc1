//! A million instances, each waiting for a timeout: memory, snapshots, restarts, lists.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::bulk::{Creation, Entrances, numbered};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::Api;
use lockstep_tests::machines::order;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

use crate::figures::{head, per_second, row, snapshots};

/// Log entries between two snapshots: some are built on the way, and the last one soon after.
const SNAPSHOT_ENTRIES: u64 = 2500;
const WRITERS: usize = 16;
/// For a whole phase.
const DEADLINE: Duration = Duration::from_secs(300);
const LISTS: usize = 200;
/// One of so many is paid, to be listed by state.
const PAID_EVERY: usize = 1000;

/// A cluster with this many orders, created as fast as it accepts them.
pub async fn load(instances: usize, snapshot_entries: u64) -> Result<Cluster> {
    let plan = Plan::default().with("LOCKSTEP_RAFT_SNAPSHOT_ENTRIES", snapshot_entries);
    let cluster = Cluster::start_as(plan).await?;
    let apis = cluster.apis();
    // The timeout is never due here: it is one more thing that an instance costs.
    apis[0]
        .define(order("30days"))
        .await?
        .expect(StatusCode::CREATED)?;
    let began = Instant::now();
    // No keys: what is remembered of a request would be counted as the instances' memory.
    let creation = Creation {
        machine: "order".to_owned(),
        numbers: 0..instances,
        writers: WRITERS,
        window: Duration::ZERO,
        keyed: false,
        moved_to: None,
    };
    creation.run(&apis).await?;
    let took = began.elapsed();
    println!(
        "{instances} instances created in {:.1} s ({:.0}/s), 100 in a transaction\n",
        took.as_secs_f64(),
        per_second(instances, took)
    );
    Ok(cluster)
}

pub async fn run(instances: usize) -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let empty = cluster.nodes[0].api().resident().await?;
    drop(cluster);
    cluster = load(instances, SNAPSHOT_ENTRIES).await?;
    pay_some(&cluster, instances).await?;
    await_snapshots(&cluster).await?;

    println!("| node | role | resident | per instance | snapshot | built in |");
    println!("|---|---|---:|---:|---:|---:|");
    for (node, view) in cluster.views().await? {
        let node = &cluster.nodes[node];
        let built = *snapshots(node).last().context("no snapshot")?;
        let resident = node.api().resident().await?;
        println!(
            "| {} | {} | {:.0} MB | {:.0} B | {:.1} MB | {:.2} s |",
            node.name,
            view.role,
            resident / 1e6,
            (resident - empty) / instances as f64,
            built.size as f64 / 1e6,
            built.took.as_secs_f64(),
        );
    }
    println!("\nan empty node: {:.0} MB\n", empty / 1e6);

    lists(&cluster, instances).await?;
    println!("\n| restarted | ready after | resident | per instance |");
    println!("|---|---:|---:|---:|");
    let (follower, leader) = (cluster.follower().await?, cluster.leader().await?);
    for (what, node) in [("follower", follower), ("leader", leader)] {
        restart(&mut cluster, node, what, instances, empty).await?;
    }
    cluster.agree().await
}

async fn pay_some(cluster: &Cluster, instances: usize) -> Result<()> {
    let apis = cluster.apis();
    let mut entrances = Entrances::new(&apis, 0);
    for number in (0..instances).step_by(PAID_EVERY) {
        let id = numbered("order", number);
        entrances.transition(&id, "paid", None).await?;
    }
    Ok(())
}

/// Moves the built-in instance until every node has built a snapshot of all there is now.
async fn await_snapshots(cluster: &Cluster) -> Result<()> {
    let mut goal = 0;
    for (_, view) in cluster.views().await? {
        goal = goal.max(view.applied_index);
    }
    let apis = cluster.apis();
    let mut entrances = Entrances::new(&apis, 0);
    let mut states = ["second", "third", "first"].into_iter().cycle();
    for _ in 0..=SNAPSHOT_ENTRIES * 5 / 4 {
        let to = states.next().context("a cycle ends")?;
        entrances.transition("triad/default", to, None).await?;
    }
    wait_for("a snapshot on every node", DEADLINE, async || {
        for (_, view) in cluster.views().await? {
            ensure!(
                view.snapshot_index >= goal,
                "{} is at {} of {goal}",
                view.node,
                view.snapshot_index
            );
        }
        Ok(())
    })
    .await
}

/// How long lists take on a follower.
async fn lists(cluster: &Cluster, instances: usize) -> Result<()> {
    let api = cluster.nodes[cluster.follower().await?].api();
    let list = "/v1/machines/order/instances?limit=100";
    let deep = cursor_at(api, instances / 2).await?;
    // Of eight digits, the first six: a hundred instances.
    let middle = format!("{:06}", instances / 200);
    println!("{}", head("page of 100 from a follower", "requests"));
    for (what, path) in [
        ("first", list.to_owned()),
        ("in the middle", format!("{list}&cursor={deep}")),
        ("by state, few", format!("{list}&state=paid")),
        ("by state, nearly all", format!("{list}&state=placed")),
        ("by prefix", format!("{list}&prefix={middle}")),
        ("first, stale", format!("{list}&consistency=stale")),
    ] {
        let mut times = Vec::with_capacity(LISTS);
        for _ in 0..LISTS {
            let began = Instant::now();
            let page = api.get(&path).await?.expect(StatusCode::OK)?;
            times.push(began.elapsed());
            let page = page.json()?;
            let found = page["instances"].as_array().map_or(0, Vec::len);
            ensure!(found > 0, "{path} found nothing");
        }
        println!("{}", row(what, times));
    }
    Ok(())
}

/// The cursor behind so many instances.
async fn cursor_at(api: &Api, instances: usize) -> Result<String> {
    let list = "/v1/machines/order/instances?limit=1000";
    let mut path = list.to_owned();
    let mut cursor = None;
    for _ in 0..instances.div_ceil(1000) {
        let page = api.read(&path).await?;
        let next = page["next_cursor"].as_str().context("the list ended")?;
        path = format!("{list}&cursor={next}");
        cursor = Some(next.to_owned());
    }
    cursor.context("no page was read")
}

/// Kills a node and starts it again: how long until it serves linearizable reads of all there is.
async fn restart(
    cluster: &mut Cluster,
    node: usize,
    what: &str,
    instances: usize,
    empty: f64,
) -> Result<()> {
    cluster.nodes[node].kill9()?;
    // Not while the others elect.
    cluster.leader().await?;
    let began = Instant::now();
    cluster.nodes[node].start()?;
    let api = cluster.nodes[node].api();
    wait_for("the node to be ready", DEADLINE, async || {
        api.get("/readyz").await?.expect(StatusCode::OK)
    })
    .await?;
    let took = began.elapsed();
    let machine = api.read("/v1/machines/order").await?;
    ensure!(machine["instances"] == instances, "{machine}");
    let resident = api.resident().await?;
    println!(
        "| {what} | {:.2} s | {:.0} MB | {:.0} B |",
        took.as_secs_f64(),
        resident / 1e6,
        (resident - empty) / instances as f64
    );
    Ok(())
}
