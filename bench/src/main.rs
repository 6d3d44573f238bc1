//! Lockstep's benchmarks: three release nodes on loopback, the load generator beside them.
//! docs/BENCHMARKS.md has the figures.
//!
//! ```text
//! cargo build --release --workspace --bins
//! target/release/lockstep-bench failover
//! target/release/lockstep-bench scale million
//! target/release/lockstep-bench sinks backlog postgres
//! ```
//!
//! Each benchmark also checks what it measures: a write that is lost, executed twice, early or rejected
//! ends the run with an error. `bench/writes` is separate: it loads `lockstepd dev` with wrk.

mod failover;
mod figures;
mod scale;
mod sinks;

use anyhow::{Result, bail};

const USAGE: &str = "usage:
  lockstep-bench failover
  lockstep-bench scale million | timers | snapshot-stall [INSTANCES]
  lockstep-bench sinks stall [postgres | webhook]
  lockstep-bench sinks backlog [postgres | webhook | mongo] [EVENTS]";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["failover"] => failover::run().await,
        ["scale", ref rest @ ..] => scale::run(rest).await,
        ["sinks", ref rest @ ..] => sinks::run(rest).await,
        _ => bail!(USAGE),
    }
}
