//! Injects faults, and counts them by kind.

use std::time::Duration;

use openraft_rt::Instant as _;
use openraft_rt_sim::SimInstant;

use super::chance::{one_of, sleep_ms, up_to};
use super::cluster::Cluster;
use super::network::Weather;
use lockstep_machine::Timestamp;

/// A node whose disk has failed stops within this time.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// Breaks things for `how_long`, then mends everything.
pub async fn trouble(cluster: &Cluster, how_long: Duration) {
    let began = SimInstant::now();
    cluster.network().set_weather(Weather {
        delay_max: Duration::from_micros(500 + up_to(8000)),
        lost_permille: one_of(2) * up_to(60),
        late_permille: one_of(2) * up_to(20),
        twice_permille: one_of(2) * up_to(20),
    });
    while began.elapsed() < how_long {
        sleep_ms(50 + up_to(400)).await;
        match one_of(11) {
            0 | 1 => cut_a_link(cluster).await,
            2 => isolate_a_node(cluster).await,
            3 => slow_a_disk(cluster).await,
            4 => crash_a_node(cluster).await,
            5 => crash_all(cluster).await,
            6 => transfer_leadership(cluster).await,
            7 => set_a_clock(cluster),
            8 => fail_a_flush(cluster).await,
            9 => fill_a_disk(cluster).await,
            _ => {}
        }
        cluster.check().await;
    }
    cluster.network().set_weather(Weather::FINE);
    repair_clocks(cluster);
}

async fn cut_a_link(cluster: &Cluster) {
    cluster.oracle().count("cut links");
    let (from, to) = (cluster.any_node(), cluster.any_node());
    cluster.network().cut(from, to);
    if one_of(2) == 0 {
        cluster.network().cut(to, from);
    }
    sleep_ms(20 + up_to(900)).await;
    cluster.network().mend();
}

async fn isolate_a_node(cluster: &Cluster) {
    cluster.oracle().count("isolated nodes");
    let alone = cluster.any_node();
    for other in cluster.nodes() {
        cluster.network().cut(alone, other);
        cluster.network().cut(other, alone);
    }
    sleep_ms(20 + up_to(1500)).await;
    cluster.network().mend();
}

async fn slow_a_disk(cluster: &Cluster) {
    let Some(disk) = cluster.disk(cluster.any_node()) else {
        return;
    };
    cluster.oracle().count("slow disks");
    let before = disk.set_flush_max(Duration::from_millis(up_to(600)));
    sleep_ms(20 + up_to(800)).await;
    disk.set_flush_max(before);
}

async fn crash_a_node(cluster: &Cluster) {
    cluster.oracle().count("crashes");
    let node = cluster.any_node();
    cluster.crash(node).await;
    sleep_ms(up_to(1500)).await;
    cluster.start(node).await;
}

/// A power cut.
async fn crash_all(cluster: &Cluster) {
    cluster.oracle().count("power cuts");
    let nodes = cluster.nodes();
    for node in &nodes {
        cluster.crash(*node).await;
    }
    sleep_ms(up_to(300)).await;
    for node in nodes {
        cluster.start(node).await;
    }
}

/// Makes the leader hand over.
async fn transfer_leadership(cluster: &Cluster) {
    if let Some((_, leader)) = cluster.leader()
        && leader
            .hand_over(None, Duration::from_millis(500))
            .await
            .is_ok()
    {
        cluster.oracle().count("transfers");
    }
}

/// Sets one clock forward or back.
fn set_a_clock(cluster: &Cluster) {
    cluster.oracle().count("clock jumps");
    let clocks = cluster.clocks();
    let clock = &clocks[one_of(clocks.len() as u64) as usize];
    clock.jump(Duration::from_millis(up_to(60_000)), one_of(2) == 0);
}

/// Sets all clocks to that which is ahead of the others, or to cluster time. Otherwise timeouts would wait until
/// the leader's clock has caught up with cluster time.
fn repair_clocks(cluster: &Cluster) {
    let clocks = cluster.clocks();
    let shown = clocks.iter().map(|clock| clock.now());
    let applied = cluster.running().into_iter();
    let applied = applied.map(|(_, consensus)| consensus.state().read().state.now());
    let latest = shown.chain(applied).max().unwrap_or(Timestamp(0));
    for clock in clocks {
        clock.catch_up(latest);
    }
}

/// A flush fails. What the disk holds then is unknown, so the node must stop; it is started again.
async fn fail_a_flush(cluster: &Cluster) {
    let node = cluster.any_node();
    let Some(disk) = cluster.disk(node) else {
        return;
    };
    disk.fail_next_flush(true);
    sleep_ms(up_to(500)).await;
    disk.fail_next_flush(false);
    if !disk.has_failed() {
        return;
    }
    cluster.oracle().count("failed flushes");
    let failed = SimInstant::now();
    while cluster.core_runs(node).await {
        if failed.elapsed() > STOPS_WITHIN {
            let text = format!("node {node} still runs {STOPS_WITHIN:?} after a failed flush");
            return cluster.oracle().violated(text);
        }
        sleep_ms(50).await;
    }
    cluster.crash(node).await;
    sleep_ms(up_to(500)).await;
    cluster.start(node).await;
}

async fn fill_a_disk(cluster: &Cluster) {
    let Some(disk) = cluster.disk(cluster.any_node()) else {
        return;
    };
    cluster.oracle().count("full disks");
    disk.set_full(true);
    sleep_ms(500 + up_to(2000)).await;
    disk.set_full(false);
}
