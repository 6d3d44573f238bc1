//! Injects faults.

use std::time::Duration;

use openraft_rt::Instant as _;
use openraft_rt_sim::SimInstant;

use super::chance::{one_of, sleep_ms, up_to};
use super::cluster::{Cluster, NODES};
use lockstep_raft::consensus::NodeId;

fn any_node() -> NodeId {
    NODES[one_of(NODES.len() as u64) as usize]
}

/// Breaks things for `how_long`, then mends everything.
pub async fn trouble(cluster: &Cluster, how_long: Duration) {
    let began = SimInstant::now();
    let loss_permille = one_of(2) * up_to(60);
    cluster
        .network()
        .set_weather(Duration::from_micros(500 + up_to(8000)), loss_permille);
    while began.elapsed() < how_long {
        sleep_ms(50 + up_to(400)).await;
        match one_of(8) {
            0 | 1 => cut_a_link(cluster).await,
            2 => isolate_a_node(cluster).await,
            3 => slow_a_disk(cluster).await,
            4 => crash_a_node(cluster).await,
            5 => crash_all(cluster).await,
            6 => cluster.transfer().await,
            _ => {}
        }
        cluster.check().await;
    }
    cluster.network().set_weather(Duration::from_millis(1), 0);
}

async fn cut_a_link(cluster: &Cluster) {
    let (from, to) = (any_node(), any_node());
    cluster.network().cut(from, to);
    if one_of(2) == 0 {
        cluster.network().cut(to, from);
    }
    sleep_ms(20 + up_to(900)).await;
    cluster.network().mend();
}

async fn isolate_a_node(cluster: &Cluster) {
    let alone = any_node();
    for other in NODES {
        cluster.network().cut(alone, other);
        cluster.network().cut(other, alone);
    }
    sleep_ms(20 + up_to(1500)).await;
    cluster.network().mend();
}

async fn slow_a_disk(cluster: &Cluster) {
    let disk = cluster.disk(any_node());
    let before = disk.set_flush_max(Duration::from_millis(up_to(600)));
    sleep_ms(20 + up_to(800)).await;
    disk.set_flush_max(before);
}

async fn crash_a_node(cluster: &Cluster) {
    let node = any_node();
    cluster.crash(node).await;
    sleep_ms(up_to(1500)).await;
    cluster.start(node).await;
}

/// A power cut.
async fn crash_all(cluster: &Cluster) {
    for node in NODES {
        cluster.crash(node).await;
    }
    sleep_ms(up_to(300)).await;
    for node in NODES {
        cluster.start(node).await;
    }
}
