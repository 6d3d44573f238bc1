//! Watchers by the thousand, and watchers that never read: the bound holds, memory stays bounded, and
//! the node goes on serving. Sizes of processes are printed, and compared with generous bounds.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::Api;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ORDER, refused};

const DEADLINE: Duration = Duration::from_secs(60);
/// As the configuration has it by default.
const WATCHERS_MAX: u64 = 10_000;
/// Files that the test and the node have open beside the watchers' connections.
const OTHER_FILES: u64 = 1500;
/// For one connection, one task and the place in the stream, in an unoptimised build.
const IDLE_WATCHER_BYTES_MAX: u64 = 64 * 1024;
/// With what waits to be sent: a piece of text, what the connection may buffer, and a chunk of events.
const STUCK_WATCHER_BYTES_MAX: u64 = 128 * 1024;

/// Raises this process's limit on open files as far as it goes.
fn open_files_max() -> Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer, and then a valid limit.
    let done = unsafe {
        let got = libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        got == 0 && libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
    };
    ensure!(done, "the limit on open files cannot be raised");
    Ok(limit.rlim_cur)
}

/// Opens a watch and reads the head of its answer; the events are left to lie.
async fn watch(address: SocketAddr, query: &str) -> Result<(u16, TcpStream)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /v1/watch{query} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut head)).await??;
    let head = std::str::from_utf8(&head)?;
    let status = head.strip_prefix("HTTP/1.1 ").context("an answer")?;
    Ok((status.parse()?, stream))
}

async fn open(address: SocketAddr, count: u64, query: &'static str) -> Result<Vec<TcpStream>> {
    let mut streams = vec![];
    while (streams.len() as u64) < count {
        let left = (count - streams.len() as u64).min(100);
        let some = (0..left).map(|_| tokio::spawn(watch(address, query)));
        for opened in some.collect::<Vec<_>>() {
            let (status, stream) = opened.await??;
            ensure!(status == 200, "watch {} got {status}", streams.len());
            streams.push(stream);
        }
    }
    Ok(streams)
}

async fn watchers_are(api: &Api, expected: u64) -> Result<()> {
    wait_for(format!("{expected} watchers"), DEADLINE, async || {
        let metrics = api.get("/metrics").await?.text;
        let line = format!("lockstep_watchers {expected}\n");
        ensure!(metrics.contains(&line), "there are others");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_watchers_are_served_and_the_next_is_rejected() -> Result<()> {
    let files = open_files_max()?;
    let count = WATCHERS_MAX.min(files.saturating_sub(OTHER_FILES));
    println!("{count} watchers, as {files} files may be open");
    ensure!(count >= 100, "only {files} files may be open (ulimit -Hn)");
    let plan = Plan::default().with("LOCKSTEP_WATCHERS_MAX", count);
    let cluster = Cluster::start_as(plan).await?;
    let node = &cluster.nodes[cluster.follower().await?];
    let (api, address) = (node.api(), node.http_address());
    api.define(ORDER).await?.expect(StatusCode::CREATED)?;

    let before = api.resident().await? as u64;
    let mut watchers = open(address, count, "?machine=order").await?;
    watchers_are(api, count).await?;
    let after = api.resident().await? as u64;
    let each = after.saturating_sub(before) / count;
    println!("the node: {before} bytes before, {after} with {count} watchers: {each} for each");
    assert!(each < IDLE_WATCHER_BYTES_MAX, "{each} bytes for a watcher");

    for path in ["/v1/watch", "/v1/machines/order/watch"] {
        let said = api.get(path).await?;
        refused(&said, 429, "too_many_watchers")?;
        assert!(said.retry_after().is_some(), "{said:?}");
    }
    // All of them get the event, and the node still serves.
    let created = api
        .post("/v1/machines/order/instances", &json!({ "id": "told" }))
        .await?;
    created.expect(StatusCode::CREATED)?;
    api.get("/readyz").await?.expect(StatusCode::OK)?;
    api.next("second").await?.expect(StatusCode::OK)?;
    let told = watchers.iter_mut().map(|stream| async move {
        let mut text = Vec::new();
        while !text.windows(10).any(|it| it == b"order/told") {
            let read = tokio::time::timeout(DEADLINE, stream.read_buf(&mut text)).await??;
            if read == 0 {
                bail!("a watch ended: {}", String::from_utf8_lossy(&text));
            }
        }
        anyhow::Ok(())
    });
    for told in told.collect::<Vec<_>>() {
        told.await?;
    }
    // One leaves: there is room for one.
    watchers.pop();
    let again = wait_for("room", DEADLINE, async || {
        let (status, stream) = watch(address, "").await?;
        ensure!(status == 200, "{status}");
        Ok(stream)
    })
    .await?;
    drop((again, watchers));
    watchers_are(api, 0).await?;
    assert!(!node.log().contains("panicked"));
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_never_read_cost_a_bounded_part_of_memory() -> Result<()> {
    const WATCHERS: u64 = 1000;
    const EVENTS: usize = 4000;
    let cluster = Cluster::start_as(Plan::single()).await?;
    open_files_max()?;
    let node = &cluster.nodes[0];
    let (api, address) = (node.api(), node.http_address());
    // What the events themselves take, in the ring, the log and the caches.
    let text = "v".repeat(3500);
    let states = ["second", "third", "first"];
    let moves = async |from: usize, to: usize| -> Result<()> {
        for n in from..to {
            let metadata = json!({ "metadata": { "why": text } });
            let moved = api.transition(states[n % 3], None, metadata).await?;
            moved.expect(StatusCode::OK)?;
        }
        Ok(())
    };
    moves(0, EVENTS).await?;
    let before = api.resident().await? as u64;
    // Each of them has all of it to read: fourteen gigabytes, if it were kept for them.
    let watchers = open(address, WATCHERS, "?from_revision=1").await?;
    watchers_are(api, WATCHERS).await?;
    moves(EVENTS, EVENTS + 60).await?;
    let after = api.resident().await? as u64;
    let each = after.saturating_sub(before) / WATCHERS;
    println!(
        "the node: {before} bytes before, {after} with {WATCHERS} that never read: {each} each"
    );
    assert!(each < STUCK_WATCHER_BYTES_MAX, "{each} bytes for a watcher");
    api.get("/readyz").await?.expect(StatusCode::OK)?;
    drop(watchers);
    watchers_are(api, 0).await
}
