//! Waiting for a condition, with a deadline.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until `look` gives a value, and returns it. At the deadline the error
/// says what was waited for, and why the last look gave nothing.
pub async fn wait_for<T, F, Fut>(what: impl Display, deadline: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut last = anyhow!("no look came back in time");
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() + LOOK_EVERY > end {
            return Err(last.context(format!("waited {deadline:?} in vain for {what}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
