//! What Lockstep does at scale. Its figures are in docs/BENCHMARKS.md.
//!
//! ```text
//! cargo build --release --bins
//! cargo run --release -p lockstep-tests --example scale -- million
//! cargo run --release -p lockstep-tests --example scale -- timers
//! cargo run --release -p lockstep-tests --example scale -- snapshot-stall
//! ```
//!
//! Each takes another number of instances as a second argument. Three processes on loopback, with
//! the generator beside them; whatever is lost, doubled, early or refused ends the run with an error.

mod million;
mod snapshot_stall;
mod timers;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: scale (million | timers | snapshot-stall) [INSTANCES]";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, instances) = match &arguments[..] {
        [what] => (what, None),
        [what, instances] => (what, Some(instances.parse().context(USAGE)?)),
        _ => bail!(USAGE),
    };
    match what.as_str() {
        "million" => million::run(instances.unwrap_or(1_000_000)).await,
        "timers" => timers::run(instances.unwrap_or(100_000)).await,
        "snapshot-stall" => snapshot_stall::run(instances.unwrap_or(1_000_000)).await,
        _ => bail!(USAGE),
    }
}
