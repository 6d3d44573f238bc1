//! `lockstep sink reseed`, `replay` and `discard`.

use clap::Args;
use serde_json::json;

use super::Which;
use crate::{Context, Failure, output};

/// Backfill a sink: write the current states of all instances again
#[derive(Debug, Args)]
#[command(after_help = "\
Use this after a destination was changed or restored by hand. Rows of instances that no longer exist are
deleted; the history is kept, and the gap is recorded. The backfill starts as soon as the destination is
available; `lockstep sink status NAME` shows its progress.

Example:
  lockstep sink reseed reports")]
pub(crate) struct Reseed {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,
}

impl Reseed {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let sink = self.sink;
        context.target.client()?.reseed_sink(&sink).await?;
        Ok(context.show(
            || json!({ "sink": sink }),
            || format!("{sink}: the current states of all instances will be written\n"),
        ))
    }
}

/// Deliver dead letters again
#[derive(Debug, Args)]
#[command(after_help = "\
Use this after fixing the cause at the destination. A dead letter that the destination accepts is
removed; one that it rejects again stays, with the new reason. A replay never overwrites a later state
of the instance.

Examples:
  lockstep sink replay reports 1204-0
  lockstep sink replay reports --all")]
pub(crate) struct Replay {
    #[command(flatten)]
    letters: Letters,
}

impl Replay {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Letters { sink, which } = self.letters;
        let client = context.target.client()?;
        let marked = client.replay_dead_letters(&sink, which.into()).await;
        let marked = marked.map_err(|error| explained(error, &sink))?;
        let json = || json!({ "sink": sink, "marked": marked });
        Ok(context.show(json, || {
            changed(&sink, marked, |letters| {
                format!("{letters} will be delivered again")
            })
        }))
    }
}

/// Drop dead letters; their events are never delivered
#[derive(Debug, Args)]
#[command(after_help = "\
This cannot be undone; save them first with `lockstep sink dead-letters NAME --all -o json`. With --all, a
sink that is no longer configured is removed completely.

Examples:
  lockstep sink discard reports 1204-0
  lockstep sink discard reports --all")]
pub(crate) struct Discard {
    #[command(flatten)]
    letters: Letters,
}

impl Discard {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Letters { sink, which } = self.letters;
        let client = context.target.client()?;
        let discarded = client.discard_dead_letters(&sink, which.into()).await;
        let discarded = discarded.map_err(|error| explained(error, &sink))?;
        let json = || json!({ "sink": sink, "discarded": discarded });
        Ok(context.show(json, || {
            changed(&sink, discarded, |letters| format!("discarded {letters}"))
        }))
    }
}

/// Dead letters of a sink.
#[derive(Debug, Args)]
struct Letters {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    #[command(flatten)]
    which: Which,
}

fn changed(sink: &str, number: u64, what: impl FnOnce(String) -> String) -> String {
    match number {
        0 => format!("{sink}: there are no dead letters\n"),
        _ => format!("{sink}: {}\n", what(output::count(number, "dead letter"))),
    }
}

/// The failure, with a hint where to look.
fn explained(error: lockstep_client::Error, sink: &str) -> Failure {
    let failure = Failure::from(error);
    match failure.code() {
        "unknown_dead_letter" => {
            failure.hint(format!("`lockstep sink dead-letters {sink}` shows them"))
        }
        _ => failure,
    }
}
