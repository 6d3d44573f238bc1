//! Whether a sink slows commits down (`stall`), and how fast it catches up after its destination was
//! unreachable (`backlog`).

mod backlog;
mod stall;

use anyhow::{Context, Result, bail};
use lockstep_tests::cluster::Plan;
use lockstep_tests::sinks::{Database, Destination, Documents, Webhook};

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
        "postgres" => stall::run(kind, Database::start).await,
        "webhook" => stall::run(kind, Webhook::start).await,
        _ => bail!(USAGE),
    }
}

async fn backlog(kind: &str, events: &str) -> Result<()> {
    let events = events.parse().context(USAGE)?;
    match kind {
        "postgres" => backlog::run(kind, Database::start().await?, events).await,
        "webhook" => backlog::run(kind, Webhook::start().await?, events).await,
        "mongo" => backlog::run(kind, Documents::start().await?, events).await,
        _ => bail!(USAGE),
    }
}

/// Connects the sink directly: the cost of a cable is not the sink's.
fn direct(mut plan: Plan, destination: &impl Destination) -> Plan {
    plan.settings
        .extend(destination.settings(destination.address()));
    plan
}
