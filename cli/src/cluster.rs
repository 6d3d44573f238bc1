//! `lockstep cluster`: what the cluster says of itself, in one place.

use clap::{Args, Subcommand};

use super::Context;
use super::failure::Failure;
use super::{leader, members, status};

/// Show how the cluster is
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  lockstep cluster status --hash   equal hashes mean equal states
  lockstep cluster members -o json"
)]
pub(super) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Members(members::Members),
    Leader(leader::Leader),
}

impl Cluster {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        match self.command {
            Command::Status(status) => status.run(context).await,
            Command::Members(members) => members.run(context).await,
            Command::Leader(leader) => leader.run(context).await,
        }
    }
}
