//! `lockstep sink discard`.

use clap::Args;
use serde_json::json;

use super::{Which, explained};
use crate::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Forget dead letters: a sink's far side will never hold their events
#[derive(Debug, Args)]
#[command(after_help = "\
It cannot be undone: `lockstep sink dead-letters NAME --all -o json` keeps what there is. With --all, of a
sink that is configured no more, nothing stays.

Examples:
  lockstep sink discard reports 1204-0
  lockstep sink discard reports --all")]
pub(super) struct Discard {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    #[command(flatten)]
    which: Which,
}

impl Discard {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Self { sink, which } = self;
        let client = context.target.client()?;
        let discarded = client.discard_dead_letters(&sink, which.into()).await;
        let discarded = discarded.map_err(|error| explained(error, &sink))?;
        Ok(match (context.output, discarded) {
            (Format::Json, _) => output::json(&json!({ "sink": sink, "discarded": discarded })),
            (_, 0) => format!("{sink}: there are no dead letters\n"),
            _ => {
                let letters = output::count(discarded, "dead letter");
                format!("{sink}: discarded {letters}\n")
            }
        })
    }
}
