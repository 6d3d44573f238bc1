//! What a sink does to a cluster, and how fast it catches up. Its figures are in docs/BENCHMARKS.md.
//!
//! ```text
//! cargo build --release --bins
//! cargo run --release -p lockstep-tests --example sinks -- stall postgres
//! cargo run --release -p lockstep-tests --example sinks -- backlog postgres
//! ```
//!
//! `stall`: whether commits wait for a far side that answers nothing. `backlog`: a million events, or
//! as many as are asked for, that piled up while the far side was away. Whatever is lost, doubled,
//! altered or refused ends the run with an error.

mod backlog;
mod far;
mod stall;

use anyhow::{Context, Result, bail};

const USAGE: &str =
    "usage: sinks (stall [postgres | webhook] | backlog [postgres | webhook | mongo] [EVENTS])";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["stall"] => stall("postgres").await,
        ["stall", kind] => stall(kind).await,
        ["backlog"] => backlog("postgres", "1000000").await,
        ["backlog", kind] => backlog(kind, "1000000").await,
        ["backlog", kind, events] => backlog(kind, events).await,
        _ => bail!(USAGE),
    }
}

async fn stall(kind: &str) -> Result<()> {
    match kind {
        "postgres" => stall::run(kind, far::postgres).await,
        "webhook" => stall::run(kind, far::webhook).await,
        _ => bail!(USAGE),
    }
}

async fn backlog(kind: &str, events: &str) -> Result<()> {
    let events = events.parse().context(USAGE)?;
    match kind {
        "postgres" => backlog::run(kind, far::postgres().await?, events).await,
        "webhook" => backlog::run(kind, far::webhook().await?, events).await,
        "mongo" => backlog::run(kind, far::mongo().await?, events).await,
        _ => bail!(USAGE),
    }
}
