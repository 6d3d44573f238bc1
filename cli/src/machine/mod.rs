//! `lockstep machine`: what users define.

mod apply;
mod delete;
mod graph;
mod list;
mod show;

use clap::{Args, Subcommand};

use super::Context;
use super::failure::Failure;

/// Define machines, and look at them
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

#[derive(Debug, Subcommand)]
enum Command {
    Apply(apply::Apply),
    List(list::List),
    Show(show::Show),
    Graph(graph::Graph),
    Delete(delete::Delete),
}

impl Machine {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        match self.command {
            Command::Apply(apply) => apply.run(context).await,
            Command::List(list) => list.run(context).await,
            Command::Show(show) => show.run(context).await,
            Command::Graph(graph) => graph.run(context).await,
            Command::Delete(delete) => delete.run(context).await,
        }
    }
}
