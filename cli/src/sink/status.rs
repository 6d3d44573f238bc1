//! `lockstep sink status`.

use clap::Args;
use lockstep_client::{SeedProgress, SinkStatus, Timestamp};
use serde_json::json;

use super::shown;
use crate::{Context, Failure, output, time};

/// Show the details of a sink, and what to do if it has a problem
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep sink status reports
  lockstep sink status reports -o json | jq .lag_events")]
pub(crate) struct Status {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,
}

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let (sink, node) = context.target.client()?.sink(&self.sink).await?;
        let json = || {
            let mut body = json!(sink);
            body["node"] = node.as_str().into();
            body
        };
        Ok(context.show(json, || {
            if let Some(advice) = shown::advice(&sink) {
                output::say(&format!("try: {advice}"));
            }
            output::table(["SINK", &sink.name], rows(&sink, &node))
        }))
    }
}

fn rows(sink: &SinkStatus, node: &str) -> Vec<[String; 2]> {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let mut rows = vec![
        row("kind", sink.kind.clone()),
        row("address", output::filled(&sink.address)),
        row("follows", follows(sink)),
        row("node", output::filled(node)),
        row("phase", phase(sink)),
    ];
    if let Some(reason) = &sink.reason {
        rows.push(row("reason", shown::one_line(reason)));
    }
    let reached = sink.cursor.map(|cursor| cursor.revision);
    rows.extend([
        row("since", with_age(Some(sink.since_ms))),
        row("at revision", output::or_dash(reached)),
        row(
            "backfilled at revision",
            output::or_dash(sink.seeded_revision),
        ),
        row("lag", lag(sink)),
        row("events written", sink.events.to_string()),
        row("last written", with_age(sink.written_at_ms)),
        row("errors", sink.errors.to_string()),
        row("dead letters", sink.dead_letters.to_string()),
    ]);
    rows
}

fn follows(sink: &SinkStatus) -> String {
    match sink.follows.is_empty() {
        true => "everything".to_owned(),
        false => output::list(&sink.follows),
    }
}

fn phase(sink: &SinkStatus) -> String {
    let phase = sink.phase();
    match &sink.seeding {
        Some(SeedProgress { done, total }) => format!("{phase}, {done} of {total} instances"),
        None => phase.to_string(),
    }
}

fn lag(sink: &SinkStatus) -> String {
    let events = output::count(sink.lag_events, "event");
    format!("{events}, {} s", shown::seconds(sink))
}

fn with_age(at_ms: Option<u64>) -> String {
    match at_ms.filter(|ms| *ms > 0).map(Timestamp) {
        Some(at) => format!("{}, {} ago", time::local(at), time::age(at)),
        None => "-".to_owned(),
    }
}
