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

fn rows(sink: &SinkStatus, node: &str) -> impl Iterator<Item = [String; 2]> {
    let reached = sink.cursor.map(|cursor| cursor.revision);
    let reason = sink.reason.as_ref().map(|it| shown::one_line(it));
    let rows = [
        ("kind", Some(sink.kind.clone())),
        ("address", Some(output::filled(&sink.address))),
        ("follows", Some(follows(sink))),
        ("node", Some(output::filled(node))),
        ("phase", Some(phase(sink))),
        ("reason", reason),
        ("since", Some(with_age(Some(sink.since_ms)))),
        ("at revision", Some(output::or_dash(reached))),
        (
            "backfilled at revision",
            Some(output::or_dash(sink.seeded_revision)),
        ),
        ("lag", Some(lag(sink))),
        ("events written", Some(sink.events.to_string())),
        ("last written", Some(with_age(sink.written_at_ms))),
        ("errors", Some(sink.errors.to_string())),
        ("dead letters", Some(sink.dead_letters.to_string())),
    ];
    let rows = rows.into_iter();
    rows.filter_map(|(name, value)| Some([name.to_owned(), value?]))
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
