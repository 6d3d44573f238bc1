//! `lockstep get`.

use clap::Args;
use lockstep_client::{Consistency, InstanceId};
use serde_json::json;

use super::Context;
use super::failure::Failure;
use super::output::{self, Format};

/// The built-in instance.
pub(super) const INSTANCE_DEFAULT: &str = "triad/default";

/// Show an instance: its state, its revision and where it may go from here
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The instance, machine/name
    #[arg(default_value = INSTANCE_DEFAULT)]
    instance: InstanceId,

    /// What the answering node has applied so far: works without a leader, and may be old
    #[arg(long)]
    stale: bool,
}

impl Get {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let consistency = if self.stale {
            Consistency::Stale
        } else {
            Consistency::Linearizable
        };
        let read = context
            .target
            .client()?
            .get(&self.instance, consistency)
            .await?;
        let found = &read.found;
        Ok(match context.output {
            Format::Table => output::table(
                [
                    "INSTANCE", "STATE", "REVISION", "ALLOWED", "CHANGED", "APPLIED",
                ],
                [[
                    found.id.to_string(),
                    found.state.to_string(),
                    found.revision.to_string(),
                    output::list(&found.allowed),
                    output::time(found.changed_at.0),
                    read.applied_index.to_string(),
                ]],
            ),
            Format::Json => output::json(&json!({
                "instance": found.id.to_string(),
                "version": found.version,
                "state": found.state,
                "revision": found.revision,
                "created_at_ms": found.created_at,
                "changed_at_ms": found.changed_at,
                "allowed": found.allowed,
                "applied_index": read.applied_index,
            })),
        })
    }
}
