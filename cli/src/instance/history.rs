//! `lockstep instance history`.

use clap::Args;
use lockstep_client::{Cause, Event, InstanceId};
use serde_json::json;

use crate::args::Fresh;
use crate::{Context, Failure, output, shape, time};

/// Show the last changes of an instance
#[derive(Debug, Args)]
#[command(after_help = "\
Oldest first. The number of changes kept is limited by the cluster settings history_entries_max and
history_bytes_max.

Examples:
  lockstep instance history order/42
  lockstep instance history order/42 -o json | jq '.events[] | select(.cause == \"timeout\")'")]
pub(crate) struct History {
    /// The instance, machine/name
    #[arg(value_name = "ID")]
    instance: InstanceId,

    #[command(flatten)]
    fresh: Fresh,
}

impl History {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let read = client.history(&self.instance, self.fresh).await?;
        let json = || shape::read(json!(read.found), &read);
        Ok(context.show(json, || table(&read.found)))
    }
}

fn table(found: &lockstep_client::History) -> String {
    // The first change makes revision 1.
    if let Some(oldest) = found.oldest_revision.filter(|oldest| oldest.0 > 1) {
        output::say(&format!(
            "lockstep: changes before revision {oldest} are no longer kept"
        ));
    }
    output::columns!(&found.events, |event| {
        "REVISION": event.instance_revision,
        "KIND": event.kind.name(),
        "FROM": output::or_dash(event.from.as_ref()),
        "TO": output::or_dash(event.to.as_ref()),
        "EVENT": cause(event),
        "AT": time::local(event.at),
        "AGE": time::age(event.at),
        "METADATA": output::metadata(&event.metadata),
    })
}

fn cause(event: &Event) -> String {
    match event.cause {
        Cause::Timeout { .. } => "(timeout)".to_owned(),
        Cause::Request => output::or_dash(event.event.as_ref()),
    }
}
