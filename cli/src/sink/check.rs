//! `lockstep sink check`.

use std::time::Duration;

use clap::Args;
use lockstep_client::{CheckStep, SinkCheck};
use serde_json::json;

use super::shown;
use crate::failure::{Exit, Failure};
use crate::{Context, output};

/// Test a sink's destination step by step: insert test data, read it back, delete it
#[derive(Debug, Args)]
#[command(after_help = "\
The leader runs the check, in a separate table, collection or request, so that it does not affect the
sink. If a step fails, the remaining steps are skipped, and the exit code is 1.

Examples:
  lockstep sink check reports
  lockstep sink check reports -o json | jq '.steps[] | {step, took_ms}'")]
pub(crate) struct Check {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    /// Timeout of the check, instead of --timeout; at most 1m
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    patience: Duration,
}

impl Check {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let check = client.check_sink(&self.sink, self.patience).await?;
        let table = || {
            output::table(
                ["STEP", "MS", "RESULT", "DETAIL"],
                check.steps.iter().map(row),
            )
        };
        let text = context.show(|| json!(check), table);
        match check.failed() {
            None => Ok(text),
            Some(step) => Err(self.failure(&check, step).with_partial(text)),
        }
    }

    fn failure(&self, check: &SinkCheck, failed: &CheckStep) -> Failure {
        let message = format!(
            "{}: {:?} failed, as seen from {}: {}",
            self.sink,
            failed.step,
            check.node,
            detail(failed)
        );
        Failure::new(Exit::Refused, "check_failed", message)
            .with("step", failed.step.as_str())
            .hint(format!(
                "fix it at the destination or in the nodes' configuration, then run `lockstep sink check {}` again",
                self.sink
            ))
    }
}

fn detail(step: &CheckStep) -> String {
    shown::one_line(step.outcome().unwrap_or_else(|failed| failed))
}

fn row(step: &CheckStep) -> [String; 4] {
    let result = if step.outcome().is_ok() {
        "ok"
    } else {
        "failed"
    };
    [
        step.step.clone(),
        format!("{:.1}", step.took_us as f64 / 1e3),
        result.to_owned(),
        output::filled(&detail(step)),
    ]
}
