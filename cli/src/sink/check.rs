//! `lockstep sink check`.

use clap::Args;
use lockstep_client::{CHECK_TIMEOUT_DEFAULT, CheckStep, SinkCheck};
use serde_json::json;

use super::shown;
use crate::failure::{Exit, Failure};
use crate::{Context, output};

/// Test a sink's destination step by step: insert test data, read it back, delete it
#[derive(Debug, Args)]
#[command(after_help = "\
The leader runs the check, in a separate table, collection or request, so that it does not affect the
sink. A node gives it 1m at most. If a step fails, the remaining steps are skipped, and the exit code is 1.

Examples:
  lockstep sink check reports
  lockstep sink check reports -o json | jq '.steps[] | {step, took_ms}'")]
pub(crate) struct Check {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,
}

impl Check {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let timeout = context.target.timeout.unwrap_or(CHECK_TIMEOUT_DEFAULT);
        let checking = async { Ok(client.check_sink(&self.sink, timeout).await?) };
        let check = output::while_read(checking).await?;
        let table = || {
            output::columns!(&check.steps, |step| {
                "STEP": step.step,
                "MS": format!("{:.1}", step.took_us as f64 / 1e3),
                "RESULT": if step.outcome().is_ok() { "ok" } else { "failed" },
                "DETAIL": output::filled(&detail(step)),
            })
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
        Failure::new(Exit::Rejected, "check_failed", message)
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
