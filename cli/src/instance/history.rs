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
    output::table(
        [
            "REVISION", "KIND", "FROM", "TO", "EVENT", "AT", "AGE", "METADATA",
        ],
        found.events.iter().map(row),
    )
}

fn row(event: &Event) -> [String; 8] {
    let by = match (&event.event, event.cause) {
        (_, Cause::Timeout { .. }) => "(timeout)".to_owned(),
        (event, _) => output::or_dash(event.as_ref()),
    };
    [
        event.instance_revision.to_string(),
        event.kind.name().to_owned(),
        output::or_dash(event.from.as_ref()),
        output::or_dash(event.to.as_ref()),
        by,
        time::local(event.at),
        time::age(event.at),
        output::metadata(&event.metadata),
    ]
}
