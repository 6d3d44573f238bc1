//! `lockstep cluster`: the cluster itself.

use super::{commands, members, settings, status};

commands! {
    /// Show the state of the cluster, and its settings
    #[command(after_help = "\
Examples:
  lockstep cluster status --hash   equal hashes mean equal states
  lockstep cluster members -o json
  lockstep cluster settings get")]
    pub(super) Cluster {
        Status(status),
        Members(members),
        Leader(members),
        #[command(subcommand)]
        Settings(settings),
    }
}
