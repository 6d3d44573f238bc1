//! The systems that the sinks write into, each started anew.

use anyhow::Result;
use lockstep_tests::cluster::Plan;
use lockstep_tests::sinks::{Database, Documents, FarSide, Webhook};

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

/// The sink's connections go straight to the far side: what a cable costs is not a sink's.
pub fn direct(mut plan: Plan, far: &impl FarSide) -> Plan {
    plan.settings.extend(far.settings(far.address()));
    plan
}
