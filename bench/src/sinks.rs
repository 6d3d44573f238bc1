//! Whether a sink slows commits down (`stall`), and how fast it catches up after its destination was
//! unreachable (`backlog`).

mod backlog;
mod destination;
mod stall;

use anyhow::{Context, Result, bail};

use crate::USAGE;

pub async fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
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
        "postgres" => stall::run(kind, destination::postgres).await,
        "webhook" => stall::run(kind, destination::webhook).await,
        _ => bail!(USAGE),
    }
}

async fn backlog(kind: &str, events: &str) -> Result<()> {
    let events = events.parse().context(USAGE)?;
    match kind {
        "postgres" => backlog::run(kind, destination::postgres().await?, events).await,
        "webhook" => backlog::run(kind, destination::webhook().await?, events).await,
        "mongo" => backlog::run(kind, destination::mongo().await?, events).await,
        _ => bail!(USAGE),
    }
}
