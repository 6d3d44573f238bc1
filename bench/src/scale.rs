//! Memory, timeouts and snapshots with a million instances.

mod million;
mod snapshot_stall;
mod timers;

use anyhow::{Context, Result, bail};

use crate::USAGE;

pub async fn run(arguments: &[&str]) -> Result<()> {
    let (what, instances) = match arguments {
        [what] => (*what, None),
        [what, instances] => (*what, Some(instances.parse().context(USAGE)?)),
        _ => bail!(USAGE),
    };
    match what {
        "million" => million::run(instances.unwrap_or(1_000_000)).await,
        "timers" => timers::run(instances.unwrap_or(100_000)).await,
        "snapshot-stall" => snapshot_stall::run(instances.unwrap_or(1_000_000)).await,
        _ => bail!(USAGE),
    }
}
