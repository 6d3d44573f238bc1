//! Writers that remember what was acknowledged to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::http::{Api, after};
use crate::wait::wait_for;

/// How long one transition may stay without an acknowledgement.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
/// Before a request that failed is repeated.
const PAUSE: Duration = Duration::from_millis(10);

/// A background writer that cycles the built-in instance through its states, one transition at a time, and counts
/// them. While it runs, nothing else may change the instance.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<Result<Written>>,
}

/// What a writer has seen.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Moves acknowledged to it, each once.
    pub acknowledged: u64,
    /// The revision after the last of them.
    pub revision: u64,
    /// Requests that failed and were repeated.
    pub failed: u64,
    /// The longest time without an acknowledgement.
    pub longest_gap: Duration,
}

impl Writer {
    /// Every move has its own idempotency key, and its request is repeated until it is
    /// acknowledged. The writer itself checks every acknowledged revision: each is one more than
    /// the last, so that a move lost or made twice is an error at once.
    pub async fn persistent(api: &Api) -> Result<Self> {
        let course = Course::begin(api).await?;
        Ok(Self::spawn(course, true))
    }

    /// Uses `/?next=` without a key and never repeats: the first failed request is an error.
    pub async fn strict(api: &Api) -> Result<Self> {
        let course = Course::begin(api).await?;
        Ok(Self::spawn(course, false))
    }

    fn spawn(mut course: Course, persistent: bool) -> Self {
        let (stop, acknowledged) = (course.stop.clone(), course.acknowledged.clone());
        let task = tokio::spawn(async move {
            while !course.stop.load(Ordering::Acquire) {
                let began = Instant::now();
                match persistent {
                    true => course.move_persistently().await?,
                    false => course.move_once().await?,
                }
                course.written.acknowledged += 1;
                course.written.longest_gap = course.written.longest_gap.max(began.elapsed());
                course
                    .acknowledged
                    .store(course.written.acknowledged, Ordering::Release);
            }
            Ok(course.written)
        });
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    /// Moves acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until `more` moves than now have been acknowledged; returns how long that took.
    pub async fn wait_for_more(&self, more: u64, deadline: Duration) -> Result<Duration> {
        let (began, goal) = (Instant::now(), self.acknowledged() + more);
        wait_for(
            format!("{more} more acknowledged writes"),
            deadline,
            async || {
                ensure!(
                    self.acknowledged() >= goal || self.task.is_finished(),
                    "{} of {goal}",
                    self.acknowledged()
                );
                Ok(())
            },
        )
        .await?;
        Ok(began.elapsed())
    }

    /// Ends it after the move it is at.
    pub async fn finish(self) -> Result<Written> {
        self.stop.store(true, Ordering::Release);
        self.task.await.context("the writer panicked")?
    }
}

struct Course {
    api: Api,
    state: String,
    keys: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    written: Written,
}

impl Course {
    async fn begin(api: &Api) -> Result<Self> {
        let (state, revision) = api.instance().await?;
        Ok(Self {
            api: api.clone(),
            state,
            keys: format!("writer-{:016x}", rand::random::<u64>()),
            stop: Arc::default(),
            acknowledged: Arc::default(),
            written: Written {
                acknowledged: 0,
                revision,
                failed: 0,
                longest_gap: Duration::ZERO,
            },
        })
    }

    async fn move_persistently(&mut self) -> Result<()> {
        let to = after(&self.state);
        let key = format!("{}-{}", self.keys, self.written.acknowledged);
        let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            let failure = match self.api.transition(to, Some(&key), json!({})).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let moved = answer.moved()?;
                    ensure!(
                        (moved.to.as_str(), moved.revision) == (to, self.written.revision + 1),
                        "after revision {} a move to {to} was acknowledged as {moved:?}: a move was lost or made twice",
                        self.written.revision
                    );
                    self.written.revision = moved.revision;
                    self.state = moved.to;
                    return Ok(());
                }
                Ok(answer)
                    if answer.status.is_client_error()
                        && answer.status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    bail!(
                        "a legal move from {} to {to} was refused: {answer:?}",
                        self.state
                    )
                }
                Ok(answer) => format!("{answer:?}"),
                Err(error) => format!("{error:#}"),
            };
            self.written.failed += 1;
            ensure!(
                Instant::now() < deadline,
                "not acknowledged within {ACKNOWLEDGED_WITHIN:?}: {failure}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn move_once(&mut self) -> Result<()> {
        let to = after(&self.state);
        let answer = self.api.next(to).await?.expect(StatusCode::OK)?;
        ensure!(
            answer.text.trim() == to,
            "moved to {to}, and got {answer:?}"
        );
        self.state = to.to_owned();
        self.written.revision += 1;
        Ok(())
    }
}
