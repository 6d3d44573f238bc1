//! Memory, timeouts and snapshots with a million instances.

mod million;
mod snapshot_stall;
mod timers;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Scale {
    /// Memory, snapshots, restarts and lists
    Million {
        #[arg(default_value_t = 1_000_000)]
        instances: usize,
    },
    /// Timeouts that are due within ten seconds
    Timers {
        #[arg(default_value_t = 100_000)]
        instances: usize,
    },
    /// Whether writes wait for snapshots
    SnapshotStall {
        #[arg(default_value_t = 1_000_000)]
        instances: usize,
    },
}

impl Scale {
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Million { instances } => million::run(instances).await,
            Self::Timers { instances } => timers::run(instances).await,
            Self::SnapshotStall { instances } => snapshot_stall::run(instances).await,
        }
    }
}
