//! Whether a sink slows commits down (`stall`), and how fast it catches up after its destination was
//! unreachable (`backlog`).

mod backlog;
mod stall;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use lockstep_tests::cluster::Plan;
use lockstep_tests::sinks::{Database, Destination, Documents, Stage, Webhook};
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub enum Sinks {
    /// Commits beside a sink that follows, and beside one whose destination answers nothing
    Stall {
        #[arg(value_enum, default_value = "postgres")]
        kind: Kind,
    },
    /// Events that piled up while the destination was away
    Backlog {
        #[arg(value_enum, default_value = "postgres")]
        kind: Kind,
        #[arg(default_value_t = 1_000_000)]
        events: usize,
    },
}

/// What a sink writes into.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// A PostgreSQL server
    Postgres,
    /// A receiver of webhooks, in this process
    Webhook,
    /// What stands in for a MongoDB
    Mongo,
}

impl Sinks {
    pub async fn run(self) -> Result<()> {
        use Kind::{Mongo, Postgres, Webhook as Hook};
        match self {
            Self::Stall { kind: Postgres } => stall::run("postgres", Database::start).await,
            Self::Stall { kind: Hook } => stall::run("webhook", Webhook::start).await,
            Self::Stall { kind: Mongo } => stall::run("mongo", Documents::start).await,
            Self::Backlog { kind, events } => match kind {
                Postgres => backlog::run("postgres", Database::start().await?, events).await,
                Hook => backlog::run("webhook", Webhook::start().await?, events).await,
                Mongo => backlog::run("mongo", Documents::start().await?, events).await,
            },
        }
    }
}

/// A cluster whose sink follows. It is connected directly: the cost of a cable is not the sink's.
async fn stage<F: Destination>(destination: F, mut plan: Plan) -> Result<Stage<F>> {
    let direct = destination.settings(destination.address());
    plan.settings.extend(direct);
    Stage::start_as(destination, plan).await
}

/// How many events the sink is behind.
fn lag(status: &Value) -> Result<u64> {
    let lag = status["lag_events"].as_u64();
    lag.with_context(|| format!("no lag in {status}"))
}
