//! `lockstep sink list`.

use clap::Args;
use lockstep_client::SinkStatus;
use serde_json::json;

use super::shown;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::{Context, time};

/// List the sinks, with what each is doing and how far behind it is
#[derive(Debug, Args)]
#[command(after_help = "\
LAG-EVENTS counts the cluster's events that a sink has not taken care of, LAG-SECONDS is the age of
the oldest of them. Why one is not following is said on stderr.

Examples:
  lockstep sink list
  lockstep sink list -o json | jq '.sinks[] | select(.lag_ms > 1000) | .name'")]
pub(super) struct List {}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let list = context.target.client()?.sinks().await?;
        if context.output == Format::Json {
            let sinks: Vec<_> = list.sinks.iter().map(shown::sink).collect();
            let body = json!({ "sinks": sinks, "node": list.node });
            return Ok(output::json(&body));
        }
        if list.sinks.is_empty() {
            output::say(&format!("lockstep: no sink is configured on {}", list.node));
        }
        for sink in &list.sinks {
            if let Some(reason) = &sink.reason {
                let (name, phase) = (&sink.name, sink.phase.as_str());
                let reason = shown::one_line(reason);
                output::say(&format!("lockstep: {name} is {phase}: {reason}"));
            }
        }
        Ok(output::table(
            [
                "NAME",
                "KIND",
                "PHASE",
                "LAG-EVENTS",
                "LAG-SECONDS",
                "DEAD-LETTERS",
                "WRITTEN",
            ],
            list.sinks.iter().map(row),
        ))
    }
}

fn row(sink: &SinkStatus) -> [String; 7] {
    [
        sink.name.clone(),
        sink.kind.clone(),
        sink.phase.as_str().to_owned(),
        sink.lag_events.to_string(),
        shown::seconds(sink),
        sink.dead_letters.to_string(),
        output::or_dash(sink.written_at.map(time::local)),
    ]
}
