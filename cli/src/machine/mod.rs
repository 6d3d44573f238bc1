//! `lockstep machine`: what users define.

mod apply;
mod delete;
mod graph;
mod list;
mod show;

use clap::Args;

use super::failure::Failure;
use super::{Context, commands};

/// Define and show machines
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  lockstep machine apply order.yaml --dry-run
  lockstep machine list
  lockstep machine graph order --format svg > order.svg")]
pub(super) struct Machine {
    #[command(subcommand)]
    command: Command,
}

commands!(Command {
    Apply(apply),
    List(list),
    Show(show),
    Graph(graph),
    Delete(delete),
});

impl Machine {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        self.command.run(context).await
    }
}
