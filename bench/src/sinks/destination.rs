//! The systems that the sinks write into, each started anew.

use anyhow::Result;
use lockstep_tests::cluster::Plan;
use lockstep_tests::sinks::{Database, Destination, Documents, Webhook};

/// A PostgreSQL server.
pub async fn postgres() -> Result<Database> {
    Database::start().await
}

/// A receiver of webhooks, in this process.
pub async fn webhook() -> Result<Webhook> {
    Webhook::start().await
}

/// What stands in for a MongoDB.
pub async fn mongo() -> Result<Documents> {
    Documents::start().await
}

/// Connects the sink directly: the cost of a cable is not the sink's.
pub fn direct(mut plan: Plan, destination: &impl Destination) -> Plan {
    plan.settings
        .extend(destination.settings(destination.address()));
    plan
}
