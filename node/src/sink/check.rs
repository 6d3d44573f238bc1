//! `lockstep sink check`: the steps of a test of a destination.

use std::future::Future;
use std::time::{Duration, Instant};

use super::SinkError;

/// One step of a test of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStep {
    /// What was done: `connect`, `insert 3`, `find one`, `drop`.
    pub step: String,
    /// How long it took.
    pub took: Duration,
    /// What was seen, or what failed. Nothing follows a step that failed.
    pub result: Result<String, String>,
}

/// The steps taken so far.
#[derive(Default)]
pub(crate) struct CheckSteps(pub(crate) Vec<CheckStep>);

impl CheckSteps {
    /// Takes a step and records it with what `seen` says of its value. `None` if it failed.
    pub(crate) async fn take<T>(
        &mut self,
        step: impl Into<String>,
        work: impl Future<Output = Result<T, SinkError>>,
        seen: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let began = Instant::now();
        let done = work.await;
        self.0.push(CheckStep {
            step: step.into(),
            took: began.elapsed(),
            result: match &done {
                Ok(value) => Ok(seen(value)),
                Err(error) => Err(error.to_string()),
            },
        });
        done.ok()
    }
}
