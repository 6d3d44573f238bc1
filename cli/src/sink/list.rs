//! `lockstep sink list`.

use clap::Args;
use lockstep_client::{SinkList, Timestamp};
use serde_json::json;

use super::shown;
use crate::{Context, Failure, output, time};

/// List the sinks, with their phase and lag
#[derive(Debug, Args)]
#[command(after_help = "\
LAG-EVENTS is the number of events after the sink's checkpoint, LAG-SECONDS the age of the oldest of
them. If a sink is not following the events, the reason is printed to stderr.

Examples:
  lockstep sink list
  lockstep sink list -o json | jq '.sinks[] | select(.lag_ms > 1000) | .name'")]
pub(crate) struct List {}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let list = context.target.client()?.sinks().await?;
        Ok(context.show(|| json!(list), || table(&list)))
    }
}

fn table(list: &SinkList) -> String {
    if list.sinks.is_empty() {
        output::say(&format!("lockstep: no sink is configured on {}", list.node));
    }
    for sink in &list.sinks {
        if let Some(reason) = &sink.reason {
            let (name, phase) = (&sink.name, sink.phase());
            let reason = shown::one_line(reason);
            output::say(&format!("lockstep: {name} is {phase}: {reason}"));
        }
    }
    output::columns!(&list.sinks, |sink| {
        "NAME": sink.name,
        "KIND": sink.kind,
        "PHASE": sink.phase(),
        "LAG-EVENTS": sink.lag_events,
        "LAG-SECONDS": shown::seconds(sink),
        "DEAD-LETTERS": sink.dead_letters,
        "WRITTEN": output::or_dash(sink.written_at_ms.map(Timestamp).map(time::local)),
    })
}
