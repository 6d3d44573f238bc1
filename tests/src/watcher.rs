//! A watcher over server-sent events that resumes on another node when its node fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

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
    /// When the bytes with it came.
    pub came: SystemTime,
}

/// Watches `path_and_query` on the first node that answers, from its last event on.
pub struct Watcher {
    progress: Arc<Progress>,
    task: JoinHandle<Result<Vec<Seen>>>,
}

#[derive(Default)]
struct Progress {
    seen: AtomicU64,
    connections: AtomicU64,
}

impl Watcher {
    /// Collects events until there are `count` of them. Bookmarks move it on and are not counted.
    pub fn start(nodes: Vec<Api>, path_and_query: &str, count: usize) -> Self {
        let progress = Arc::<Progress>::default();
        let mut course = Course {
            path: path_and_query.to_owned(),
            count,
            last: None,
            events: Vec::new(),
            progress: progress.clone(),
        };
        let task = tokio::spawn(async move {
            let client = Client::builder().no_proxy().build()?;
            for node in nodes.iter().cycle() {
                // However a connection ends, the next one resumes after the last event.
                match course.receive(&client, node).await {
                    Ok(()) => break,
                    Err(error) => {
                        ensure!(!error.to_string().contains("must not"), "{error:#}");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            Ok(course.events)
        });
        Self { progress, task }
    }

    /// How often a node answered that it may watch: once, and once more for each time that it
    /// went on.
    pub fn connections(&self) -> u64 {
        self.progress.connections.load(Ordering::Acquire)
    }

    /// Waits until it has seen so many events.
    pub async fn wait_for(&self, count: u64, deadline: Duration) -> Result<()> {
        wait_for(format!("{count} events"), deadline, async || {
            let seen = self.progress.seen.load(Ordering::Acquire);
            ensure!(seen >= count || self.task.is_finished(), "{seen} so far");
            Ok(())
        })
        .await
    }

    /// All it has seen, once that is complete.
    pub async fn finish(self, deadline: Duration) -> Result<Vec<Seen>> {
        match tokio::time::timeout(deadline, self.task).await {
            Ok(done) => done.context("the watcher panicked")?,
            Err(_) => bail!(
                "after {deadline:?} only {} events",
                self.progress.seen.load(Ordering::Acquire)
            ),
        }
    }
}

struct Course {
    path: String,
    count: usize,
    last: Option<String>,
    events: Vec<Seen>,
    progress: Arc<Progress>,
}

impl Course {
    /// Until all is seen, on one connection to one node.
    async fn receive(&mut self, client: &Client, node: &Api) -> Result<()> {
        let mut request = client.get(node.url(&self.path));
        if let Some(last) = &self.last {
            request = request.header("Last-Event-ID", last);
        }
        let mut response = tokio::time::timeout(SILENCE_MAX, request.send()).await??;
        let status = response.status();
        ensure!(
            !status.is_client_error(),
            "it must not be rejected: {}",
            response.text().await?
        );
        ensure!(status == StatusCode::OK, "not now: {status}");
        self.progress.connections.fetch_add(1, Ordering::AcqRel);
        // What came and is not a whole block yet.
        let mut rest = Vec::new();
        while let Some(chunk) = tokio::time::timeout(SILENCE_MAX, response.chunk()).await?? {
            let came = SystemTime::now();
            rest.extend_from_slice(&chunk);
            let mut read = 0;
            while let Some(length) = find_end(&rest[read..]) {
                let block = std::str::from_utf8(&rest[read..read + length])?;
                read += length;
                self.take(parse(block, came)?)?;
                if self.events.len() >= self.count {
                    return Ok(());
                }
            }
            rest.drain(..read);
        }
        bail!("the stream ended")
    }

    fn take(&mut self, seen: Seen) -> Result<()> {
        ensure!(seen.kind != "lagged", "it must not lag: {}", seen.data);
        self.last = Some(seen.id.clone());
        if seen.kind != "bookmark" {
            self.events.push(seen);
            self.progress
                .seen
                .store(self.events.len() as u64, Ordering::Release);
        }
        Ok(())
    }
}

/// How long the first block is, with the empty line at its end.
fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .map(|at| at + 2)
}

fn parse(block: &str, came: SystemTime) -> Result<Seen> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Ok(Seen {
        id: field("id").unwrap_or_default().to_owned(),
        kind: field("event").context("no event")?.to_owned(),
        data: serde_json::from_str(field("data").context("no data")?)?,
        came,
    })
}
