//! Disks that fill up while nodes run: writes are refused before anything fails, and reads go on.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bulk::{create, numbered};
use lockstep_tests::cluster::{Cluster, Node, Plan};
use lockstep_tests::disk::Disk;
use lockstep_tests::http::{Api, after};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Each node's disk.
const DISK_BYTES: u64 = 128 << 20;
/// Free bytes below which a leader takes no writes.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Space left on a filled disk: the node itself still writes a little.
const LEFT_BYTES: u64 = 8 << 20;
/// Timeout until nodes have noticed that their disks are full and leadership has moved.
const NOTICED_DEADLINE: Duration = Duration::from_secs(30);

/// Three nodes, each on a small disk of its own; none where this user may not mount one.
async fn on_small_disks() -> Result<Option<(Cluster, Vec<Disk>)>> {
    let plan = Plan::default()
        .with("LOCKSTEP_STORAGE_FREE_BYTES_MIN", FREE_BYTES_MIN)
        .with("LOCKSTEP_STORAGE_RESERVE_BYTES", 1 << 20);
    on_disks(plan, DISK_BYTES).await
}

async fn on_disks(plan: Plan, bytes: u64) -> Result<Option<(Cluster, Vec<Disk>)>> {
    let mut cluster = Cluster::lay_out(plan)?;
    let mut disks = vec![];
    for node in &cluster.nodes {
        fs::create_dir(node.data())?;
        let Some(disk) = Disk::mount(node.data(), bytes)? else {
            println!("left out: this user may not mount a disk");
            return Ok(None);
        };
        disks.push(disk);
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    Ok(Some((cluster, disks)))
}

async fn wait_until_it_sees_its_full_disk(node: &Node) -> Result<()> {
    wait_for(
        "a node to see how full its disk is",
        NOTICED_DEADLINE,
        async || {
            let full = node.api().metric("lockstep_disk_full").await?;
            ensure!(full == 1.0, "{} does not see it", node.name);
            Ok(())
        },
    )
    .await
}

/// Moves the built-in instance through a node, to wherever it can go; whether that was taken.
async fn moved(node: &Node) -> Result<bool> {
    let (state, _) = node.api().instance().await?;
    let next = if state == "first" { "second" } else { "first" };
    let next = if state == "second" { "third" } else { next };
    let answer = node.api().next(next).await?;
    if answer.status == StatusCode::OK {
        return Ok(true);
    }
    ensure!(
        answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.text.starts_with("disk_full"),
        "{answer:?}"
    );
    ensure!(answer.headers.contains_key("retry-after"), "{answer:?}");
    Ok(false)
}

#[tokio::test]
async fn with_nearly_full_disks_writes_are_rejected_and_reads_continue() -> Result<()> {
    let Some((cluster, disks)) = on_small_disks().await? else {
        return Ok(());
    };
    ensure!(moved(&cluster.nodes[0]).await?, "it is refused at first");
    disks
        .iter()
        .try_for_each(|disk| disk.fill_but(LEFT_BYTES))?;
    for node in &cluster.nodes {
        wait_until_it_sees_its_full_disk(node).await?;
    }
    let before = cluster.nodes[0].api().instance().await?;
    for node in &cluster.nodes {
        ensure!(!moved(node).await?, "{} takes a write", node.name);
        assert_eq!(node.api().instance().await?, before, "{}", node.name);
        node.api().get("/readyz").await?.expect(StatusCode::OK)?;
    }
    disks.iter().try_for_each(Disk::make_room)?;
    for node in &cluster.nodes {
        wait_for("writes to be taken again", NOTICED_DEADLINE, async || {
            ensure!(moved(node).await?, "{} refuses", node.name);
            Ok(())
        })
        .await?;
    }
    let (_, revision) = cluster.nodes[0].api().instance().await?;
    assert_eq!(revision, before.1 + 3);
    cluster.agree().await
}

#[tokio::test]
async fn a_leader_whose_disk_is_nearly_full_hands_over() -> Result<()> {
    let Some((cluster, disks)) = on_small_disks().await? else {
        return Ok(());
    };
    let old = cluster.leader().await?;
    disks[old].fill_but(LEFT_BYTES)?;
    wait_for("another leader", NOTICED_DEADLINE, async || {
        ensure!(cluster.leader().await? != old, "it leads still");
        Ok(())
    })
    .await?;
    for node in &cluster.nodes {
        ensure!(moved(node).await?, "{} refuses", node.name);
    }
    cluster.agree().await
}

#[tokio::test]
async fn leadership_goes_to_the_one_voter_whose_disk_has_space_and_stays_where_none_has()
-> Result<()> {
    let Some((cluster, disks)) = on_small_disks().await? else {
        return Ok(());
    };
    let api = cluster.nodes[0].api();
    let transfer = async |to: &str| {
        let path = "/v1/cluster/transfer-leadership";
        api.post(path, &json!({ "to": to })).await
    };
    transfer("node3").await?.expect(StatusCode::OK)?;
    for full in [1, 2] {
        disks[full].fill_but(LEFT_BYTES)?;
        wait_until_it_sees_its_full_disk(&cluster.nodes[full]).await?;
    }
    wait_for("node1 to lead", NOTICED_DEADLINE, async || {
        ensure!(cluster.leader().await? == 0, "another node leads");
        ensure!(moved(&cluster.nodes[1]).await?, "writes are refused");
        Ok(())
    })
    .await?;
    let refused = transfer("node2").await?.expect(StatusCode::CONFLICT)?;
    let reason = "node2 should not lead, because its disk is nearly full";
    ensure!(
        refused.text.contains("no_successor") && refused.text.contains(reason),
        "{refused:?}"
    );
    disks[0].fill_but(LEFT_BYTES)?;
    wait_until_it_sees_its_full_disk(&cluster.nodes[0]).await?;
    let term = api.cluster().await?.term;
    // Longer than a leader waits between two attempts to hand over.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(api.cluster().await?.term, term, "leadership has moved");
    ensure!(!moved(&cluster.nodes[0]).await?, "it takes a write");
    Ok(())
}

/// Size of each disk that takes twice its size in writes.
const ENDURANCE_DISK_BYTES: u64 = 300 << 20;
/// Bytes of payload written to it; `LOCKSTEP_TEST_WRITTEN_BYTES` sets another number.
const WRITTEN_BYTES: u64 = 600 << 20;
/// Bytes of one transition's metadata.
const PAYLOAD_BYTES: usize = 4000;
/// Transitions in one transaction: as many as fit into one request of 64 KiB.
const TRANSITIONS: usize = 15;
const WRITERS: usize = 24;
/// For one transaction to be acknowledged while two cores do everything.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// Moves instances of its own with a payload, transaction after transaction, until `left` is used up.
async fn write_payloads(api: Api, writer: usize, left: Arc<AtomicU64>) -> Result<()> {
    const BYTES: u64 = (TRANSITIONS * PAYLOAD_BYTES) as u64;
    let ids: Vec<String> = (0..TRANSITIONS)
        .map(|number| numbered("triad", writer * TRANSITIONS + number))
        .collect();
    let created: Vec<Value> = ids.iter().map(|id| create(id)).collect();
    commit(&api, &json!({ "operations": created })).await?;
    let payload = "x".repeat(PAYLOAD_BYTES);
    let mut state = "first";
    while take(&left, BYTES) {
        state = after(state);
        let moves: Vec<Value> = ids
            .iter()
            .map(|id| json!({ "transition": { "id": id, "to": state, "metadata": { "payload": payload } } }))
            .collect();
        commit(&api, &json!({ "operations": moves })).await?;
    }
    Ok(())
}

/// Whether there were so many bytes left to write.
fn take(left: &AtomicU64, bytes: u64) -> bool {
    let order = Ordering::Relaxed;
    left.fetch_update(order, order, |left| left.checked_sub(bytes))
        .is_ok()
}

/// Every refusal is an error.
async fn commit(api: &Api, transaction: &Value) -> Result<()> {
    let answered = api.post("/v1/transactions", transaction);
    let answered = tokio::time::timeout(WRITE_DEADLINE, answered).await;
    answered
        .context("no answer to a transaction")??
        .expect(StatusCode::OK)?;
    Ok(())
}

/// Log, snapshots and the free space that is kept share 300 MB, whatever is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_300_megabytes_takes_twice_its_size_without_a_refusal() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_STORAGE_FREE_BYTES_MIN", "64MiB");
    let Some((cluster, _disks)) = on_disks(plan, ENDURANCE_DISK_BYTES).await? else {
        return Ok(());
    };
    let bytes = match std::env::var("LOCKSTEP_TEST_WRITTEN_BYTES") {
        Ok(given) => given.parse().context("LOCKSTEP_TEST_WRITTEN_BYTES")?,
        Err(_) => WRITTEN_BYTES,
    };
    let left = Arc::new(AtomicU64::new(bytes));
    let api = cluster.nodes[cluster.leader().await?].api().clone();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_payloads(api.clone(), writer, left.clone()));
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    for node in &cluster.nodes {
        node.api().get("/readyz").await?.expect(StatusCode::OK)?;
    }
    cluster.agree().await
}
