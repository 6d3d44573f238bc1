//! `lockstep get`, and `lockstep instance get`.

use clap::Args;
use lockstep_client::{Instance, InstanceId, Read};
use serde_json::{Value, json};

use super::args::Fresh;
use super::{Context, Failure, output, time};

/// The built-in instance.
pub(super) const INSTANCE_DEFAULT: &str = "triad/default";

/// Show an instance: its state, its revision, and the states and events that come next
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep get                     the built-in instance, triad/default
  lockstep get order/42
  lockstep get order/42 --stale    from any node, also without a leader")]
pub(super) struct Get {
    /// The instance, machine/name
    #[arg(default_value = INSTANCE_DEFAULT)]
    instance: InstanceId,

    #[command(flatten)]
    fresh: Fresh,
}

impl Get {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let read = client.get(&self.instance, self.fresh).await?;
        Ok(context.show(|| body(&read), || table(&read.found)))
    }
}

fn table(found: &Instance) -> String {
    let mut header = vec![
        "INSTANCE", "STATE", "REVISION", "ALLOWED", "CHANGED", "AGE", "VERSION",
    ];
    let mut row = vec![
        found.id.to_string(),
        found.state.to_string(),
        found.revision.to_string(),
        output::list(&found.allowed),
        time::local(found.changed_at),
        time::age(found.changed_at),
        found.version.to_string(),
    ];
    if !found.events.is_empty() {
        header.push("EVENTS");
        row.push(output::list(&found.events));
    }
    if let Some(deadline) = found.deadline {
        header.push("TIMEOUT");
        let until = time::until(deadline);
        row.push(match &found.timeout_to {
            // `overdue in 5m`, or `overdue due`: it has not fired yet.
            Some(to) => format!("{to} {until}"),
            None => until,
        });
    }
    if !found.metadata.is_empty() {
        header.push("METADATA");
        row.push(output::metadata(&found.metadata));
    }
    output::table(header, [row])
}

/// The fields of HTTP, and the older names of some of them.
fn body(read: &Read<Instance>) -> Value {
    let found = &read.found;
    let mut body = json!(found);
    body["applied_index"] = read.applied_index.into();
    body["cluster_revision"] = json!(read.revision);
    body["instance"] = found.id.to_string().into();
    body["created_at_ms"] = json!(found.created_at.0);
    body["changed_at_ms"] = json!(found.changed_at.0);
    body
}
