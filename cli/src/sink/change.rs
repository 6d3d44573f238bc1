//! `lockstep sink reseed`, `replay` and `discard`.

use clap::Args;
use lockstep_client::{Client, Error, EventCursor, Letters as Selected};
use serde_json::json;

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
        let again = |letters| format!("{letters} will be delivered again");
        let replay = Client::replay_dead_letters;
        self.letters.change(context, replay, "marked", again).await
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
        let discarded = |letters| format!("discarded {letters}");
        let discard = Client::discard_dead_letters;
        self.letters
            .change(context, discard, "discarded", discarded)
            .await
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

impl Letters {
    /// Changes them, and says how many there were: in this field, or in these words.
    async fn change(
        self,
        context: &Context,
        change: impl AsyncFn(&Client, &str, Selected) -> Result<u64, Error>,
        field: &str,
        words: impl FnOnce(String) -> String,
    ) -> Result<String, Failure> {
        let Self { sink, which } = self;
        let selected = which.event.map_or(Selected::All, Selected::One);
        let count = change(&context.target.client()?, &sink, selected).await?;
        let json = || json!({ "sink": sink, (field): count });
        Ok(context.show(json, || match count {
            0 => format!("{sink}: there are no dead letters\n"),
            _ => format!("{sink}: {}\n", words(output::count(count, "dead letter"))),
        }))
    }
}
