//! Lockstep's benchmarks: three nodes (release build) on loopback, and the load generator on the same machine.
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
//! ends the run with an error. `bench/compare` runs the comparison with etcd and PostgreSQL. `bench/writes` is separate:
//! it loads `lockstepd dev` with wrk.

mod compare;
mod curves;
mod failover;
mod figures;
mod generator;
mod scale;
mod sinks;

use anyhow::Result;
use clap::Parser;

/// Lockstep's benchmarks
#[derive(Debug, Parser)]
enum Benchmark {
    Compare(compare::Compare),
    Curves(curves::Curves),
    /// How long writes stop when the leader is killed
    Failover,
    /// Memory, timeouts and snapshots with many instances
    #[command(subcommand)]
    Scale(scale::Scale),
    /// Whether a sink slows commits down, and how fast it catches up
    #[command(subcommand)]
    Sinks(sinks::Sinks),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Benchmark::parse() {
        Benchmark::Compare(compare) => compare.run().await,
        Benchmark::Curves(curves) => curves.run().await,
        Benchmark::Failover => failover::run().await,
        Benchmark::Scale(scale) => scale.run().await,
        Benchmark::Sinks(sinks) => sinks.run().await,
    }
}
