//! `lockstep sink reseed`, `replay` and `discard`.

use clap::{Args, Subcommand};
use lockstep_client::{DeadLetters, EventCursor};
use serde_json::json;

use crate::{Context, Failure, output};

#[derive(Debug, Subcommand)]
pub(crate) enum ChangeSink {
    /// Backfill a sink: write the current states of all instances again
    #[command(after_help = "\
Use this after a destination was changed or restored by hand. Rows of instances that no longer exist are
deleted; the history is kept, and the gap is recorded. The backfill starts as soon as the destination is
available; `lockstep sink status NAME` shows its progress.

Example:
  lockstep sink reseed reports")]
    Reseed {
        /// The sink
        #[arg(value_name = "NAME")]
        sink: String,
    },

    /// Deliver dead letters again
    #[command(after_help = "\
Use this after fixing the cause at the destination. A dead letter that the destination accepts is
removed; one that it rejects again stays, with the new reason. A replay never overwrites a later state
of the instance.

Examples:
  lockstep sink replay reports 1204-0
  lockstep sink replay reports --all")]
    Replay(Letters),

    /// Drop dead letters; their events are never delivered
    #[command(after_help = "\
This cannot be undone; save them first with `lockstep sink dead-letters NAME --all -o json`. With --all, a
sink that is no longer configured is removed completely.

Examples:
  lockstep sink discard reports 1204-0
  lockstep sink discard reports --all")]
    Discard(Letters),
}

impl ChangeSink {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        match self {
            Self::Reseed { sink } => {
                client.reseed_sink(&sink).await?;
                Ok(context.show(
                    || json!({ "sink": sink }),
                    || format!("{sink}: the current states of all instances will be written\n"),
                ))
            }
            Self::Replay(Letters { sink, which }) => {
                let count = client.replay_dead_letters(&sink, which.into()).await?;
                let line = format!("{} will be delivered again", letters(count));
                Ok(changed(context, &sink, "marked", count, &line))
            }
            Self::Discard(Letters { sink, which }) => {
                let count = client.discard_dead_letters(&sink, which.into()).await?;
                let line = format!("discarded {}", letters(count));
                Ok(changed(context, &sink, "discarded", count, &line))
            }
        }
    }
}

/// Dead letters of a sink.
#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    #[command(flatten)]
    which: Which,
}

/// One dead letter, or all: never all by omission.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The dead letter of this event, as `lockstep sink dead-letters` shows it
    #[arg(value_name = "EVENT")]
    event: Option<EventCursor>,

    /// All dead letters
    #[arg(long)]
    all: bool,
}

impl From<Which> for DeadLetters {
    fn from(which: Which) -> Self {
        which.event.map_or(Self::All, Self::One)
    }
}

fn letters(count: u64) -> String {
    output::count(count, "dead letter")
}

/// How many dead letters were changed: in this field, or in this line.
fn changed(context: &Context, sink: &str, field: &str, count: u64, line: &str) -> String {
    let json = || json!({ "sink": sink, (field): count });
    context.show(json, || match count {
        0 => format!("{sink}: there are no dead letters\n"),
        _ => format!("{sink}: {line}\n"),
    })
}
