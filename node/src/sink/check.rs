//! `lockstep sink check`: the steps of a test of a destination.

use std::future::Future;
use std::time::Instant;

use lockstep_proto::v1::check_step::Result as Outcome;

use super::{CHECK_MAX, CheckStep, Destination, SinkError};

/// Tests a destination. Nothing follows a step that failed.
pub(super) async fn check(destination: &mut dyn Destination) -> Vec<CheckStep> {
    let mut steps = CheckSteps::default();
    let began = Instant::now();
    let checked = tokio::time::timeout(CHECK_MAX, destination.check(&mut steps)).await;
    if checked.is_err() {
        let late = format!("not finished within {} s", CHECK_MAX.as_secs());
        steps.0 = vec![step("check".to_owned(), began, Outcome::Failed(late))];
    }
    steps.0
}

#[derive(Default)]
pub(crate) struct CheckSteps(Vec<CheckStep>);

impl CheckSteps {
    /// Takes a step and records it with what `seen` says of its value. `None` if it failed.
    pub(crate) async fn take<T>(
        &mut self,
        name: impl Into<String>,
        work: impl Future<Output = Result<T, SinkError>>,
        seen: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let began = Instant::now();
        let done = work.await;
        let outcome = match &done {
            Ok(value) => Outcome::Seen(seen(value)),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.0.push(step(name.into(), began, outcome));
        done.ok()
    }
}

fn step(step: String, began: Instant, outcome: Outcome) -> CheckStep {
    let took = began.elapsed();
    CheckStep {
        step,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        result: Some(outcome),
    }
}
