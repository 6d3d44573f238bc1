//! `lockstep sink replay`.

use clap::Args;
use serde_json::json;

use super::{Which, explained};
use crate::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Have dead letters written to a sink's far side once more
#[derive(Debug, Args)]
#[command(after_help = "\
For when what was refused is mended at the far side. One that it takes is a dead letter no longer; one
that it refuses again stays, with the new reason. A later state of the instance is never undone.

Examples:
  lockstep sink replay reports 1204-0
  lockstep sink replay reports --all")]
pub(super) struct Replay {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    #[command(flatten)]
    which: Which,
}

impl Replay {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Self { sink, which } = self;
        let client = context.target.client()?;
        let marked = client.replay_dead_letters(&sink, which.into()).await;
        let marked = marked.map_err(|error| explained(error, &sink))?;
        Ok(match (context.output, marked) {
            (Format::Json, _) => output::json(&json!({ "sink": sink, "marked": marked })),
            (_, 0) => format!("{sink}: there are no dead letters\n"),
            _ => {
                let letters = output::count(marked, "dead letter");
                format!("{sink}: {letters} will be written once more\n")
            }
        })
    }
}
