//! `lockstep instance get`.

use clap::Args;
use lockstep_client::InstanceId;

use crate::args::Fresh;
use crate::{Context, Failure, get};

/// Show an instance: its state, its revision and the states it may go to
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep instance get order/42
  lockstep instance get order/42 -o json | jq -r .state")]
pub(crate) struct Get {
    /// The instance, machine/name
    #[arg(value_name = "ID")]
    instance: InstanceId,

    #[command(flatten)]
    fresh: Fresh,
}

impl Get {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        get::show(context, &self.instance, self.fresh).await
    }
}
