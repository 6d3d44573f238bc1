//! A watcher over server-sent events, that goes on elsewhere when its node fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::http::Api;
use crate::wait::wait_for;

/// Before another node is tried.
const PAUSE: Duration = Duration::from_millis(50);
/// A bookmark comes every few seconds: silence for longer means that the node is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// One event as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `revision-position`.
    pub id: String,
    /// `transitioned`, ...
    pub kind: String,
    /// Its data.
    pub data: Value,
}

/// Follows `path_and_query` on the first node that answers, from its last event on.
pub struct Watcher {
    seen: Arc<AtomicU64>,
    task: JoinHandle<Result<Vec<Seen>>>,
}

impl Watcher {
    /// Collects events until there are `count` of them. Bookmarks move it on and are not counted.
    pub fn start(nodes: Vec<Api>, path_and_query: &str, count: usize) -> Self {
        let path = path_and_query.to_owned();
        let seen = Arc::new(AtomicU64::new(0));
        let counter = seen.clone();
        let task = tokio::spawn(async move {
            let client = Client::builder().no_proxy().build()?;
            let (mut events, mut last, mut turn) = (Vec::new(), None, 0);
            while events.len() < count {
                let node = &nodes[turn % nodes.len()];
                turn += 1;
                // Whatever ends a connection, the next one goes on behind the last event.
                let followed = follow(
                    &client,
                    node,
                    &path,
                    &mut last,
                    &mut events,
                    count,
                    &counter,
                )
                .await;
                if let Err(error) = followed {
                    ensure!(!error.to_string().contains("must not"), "{error:#}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Ok(events)
        });
        Self { seen, task }
    }

    /// Waits until it has seen so many events.
    pub async fn wait_for(&self, count: u64, deadline: Duration) -> Result<()> {
        wait_for(format!("{count} events"), deadline, async || {
            let seen = self.seen.load(Ordering::Acquire);
            ensure!(seen >= count || self.task.is_finished(), "{seen} so far");
            Ok(())
        })
        .await
    }

    /// All it has seen, once that is complete.
    pub async fn finish(self, deadline: Duration) -> Result<Vec<Seen>> {
        let seen = self.seen.clone();
        match tokio::time::timeout(deadline, self.task).await {
            Ok(done) => done.context("the watcher panicked")?,
            Err(_) => bail!(
                "after {deadline:?} only {} events",
                seen.load(Ordering::Acquire)
            ),
        }
    }
}

async fn follow(
    client: &Client,
    node: &Api,
    path: &str,
    last: &mut Option<String>,
    events: &mut Vec<Seen>,
    count: usize,
    counter: &AtomicU64,
) -> Result<()> {
    let mut request = client.get(node.url(path));
    if let Some(last) = &last {
        request = request.header("Last-Event-ID", last);
    }
    let mut response = tokio::time::timeout(SILENCE_MAX, request.send()).await??;
    ensure!(
        response.status() == StatusCode::OK,
        "the watch was refused: {}",
        response.text().await?
    );
    let mut text = Vec::new();
    while let Some(chunk) = tokio::time::timeout(SILENCE_MAX, response.chunk()).await?? {
        text.extend_from_slice(&chunk);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = text.drain(..end + 2).collect();
            let seen = parse(std::str::from_utf8(&block)?)?;
            ensure!(seen.kind != "lagged", "it must not lag: {}", seen.data);
            *last = Some(seen.id.clone());
            if seen.kind != "bookmark" {
                events.push(seen);
                counter.store(events.len() as u64, Ordering::Release);
            }
            if events.len() >= count {
                return Ok(());
            }
        }
    }
    bail!("the stream ended")
}

fn parse(block: &str) -> Result<Seen> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Ok(Seen {
        id: field("id").unwrap_or_default().to_owned(),
        kind: field("event").context("no event")?.to_owned(),
        data: serde_json::from_str(field("data").context("no data")?)?,
    })
}
