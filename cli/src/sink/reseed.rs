//! `lockstep sink reseed`.

use clap::Args;
use serde_json::json;

use super::explained;
use crate::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Have the current states written to a sink's far side as a whole, once more
#[derive(Debug, Args)]
#[command(after_help = "\
For a far side that somebody has changed or restored by hand. What it holds of instances that are no
more is removed; its history stays, and says what is missing. It happens as soon as the far side is
there: `lockstep sink status NAME` shows how far it is.

Example:
  lockstep sink reseed reports")]
pub(super) struct Reseed {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,
}

impl Reseed {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let sink = self.sink;
        let asked = context.target.client()?.reseed_sink(&sink).await;
        asked.map_err(|error| explained(error, &sink))?;
        Ok(match context.output {
            Format::Json => output::json(&json!({ "sink": sink })),
            _ => format!("{sink}: the current states will be written as a whole\n"),
        })
    }
}
