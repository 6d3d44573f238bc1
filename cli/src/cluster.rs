//! `lockstep cluster`: the cluster itself.

use clap::Args;

use super::Context;
use super::failure::Failure;
use super::{commands, members, settings, status};

/// Show the state of the cluster, and its settings
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  lockstep cluster status --hash   equal hashes mean equal states
  lockstep cluster members -o json
  lockstep cluster settings get"
)]
pub(super) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

commands!(Command {
    Status(status),
    Members(members),
    Leader(members),
    Settings(settings),
});

impl Cluster {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        self.command.run(context).await
    }
}
