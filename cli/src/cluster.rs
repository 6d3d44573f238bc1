//! `lockstep cluster`: the cluster itself.

use super::{backup, change_members, commands, members, settings, status};

commands! {
    /// Show the state of the cluster, change its members and settings
    #[command(after_help = "\
Examples:
  lockstep cluster status --hash   equal hashes mean equal states
  lockstep cluster members -o json
  lockstep cluster settings get
  lockstep cluster backup lockstep.backup")]
    pub(super) Cluster {
        Status(status),
        Members(members),
        Leader(members),
        #[command(flatten)]
        ChangeMembers(change_members),
        Backup(backup),
        #[command(subcommand)]
        Settings(settings),
    }
}
