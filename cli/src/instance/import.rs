//! `lockstep instance import`.

use clap::Args;
use lockstep_client::{CreateCall, Created, InstanceId, Metadata, StateName, Version, Written};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::bulk::{self, Line};
use super::walk::Walker;
use crate::args::{self, Maybe};
use crate::failure::{Exit, Failure};
use crate::input::Source;
use crate::output::{self, Format};
use crate::{Context, shape};

const EXAMPLES: &str = r#"Creates every instance of the file that does not exist yet, with its metadata and version. Existing
instances are not changed.

An instance starts in its machine's initial state; no command sets a state, a revision, a time or a
history directly. So an instance that was exported in another state is created, reported, and makes
the exit code 1. With --walk it is moved to that state along the fewest transitions. These are real:
they are in its history (marked "import"), watchers see them, timeouts start.

A line has the fields that `lockstep instance export` writes; only id is needed.

Examples:
  lockstep instance import orders.jsonl
  lockstep instance import orders.jsonl --walk
  lockstep -e old:4333 instance export order | lockstep -e new:4333 instance import - --walk"#;

/// Create the instances of an export that do not exist
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Import {
    /// A file of JSON lines, as `export` writes them; - for standard input
    #[arg(value_name = "FILE")]
    source: Source,

    /// Move each new instance to the state it was exported in, through transitions
    #[arg(long)]
    walk: bool,

    /// The version to pin all of them to [default: the exported one]
    #[arg(long, value_name = "N", value_parser = args::version)]
    version: Option<Version>,

    /// Number of lines to process concurrently
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = args::range(1, 256))]
    concurrency: u32,
}

/// One line of an export.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: InstanceId,
    version: Option<Version>,
    state: Option<StateName>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, rename = "revision")]
    _revision: IgnoredAny,
    #[serde(default, rename = "created_at")]
    _created_at: IgnoredAny,
    #[serde(default, rename = "changed_at")]
    _changed_at: IgnoredAny,
    #[serde(default, rename = "allowed")]
    _allowed: IgnoredAny,
    #[serde(default, rename = "events")]
    _events: IgnoredAny,
    #[serde(default, rename = "deadline")]
    _deadline: IgnoredAny,
    #[serde(default, rename = "timeout_to")]
    _timeout_to: IgnoredAny,
}

impl Import {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let walker = self.walk.then(|| Walker::new(client.clone()));
        let work = async |item: Item| {
            let call = CreateCall::new(&item.id)
                .metadata(item.metadata)
                .maybe(self.version.or(item.version), CreateCall::version);
            match client.create(call).await {
                Ok(written) => finish(context.output, walker.as_ref(), written, item.state).await,
                Err(error) if error.code() == "instance_exists" => Ok(Line::Skipped),
                Err(error) => Err(error.into()),
            }
        };
        let format = context.output;
        output::while_read(bulk::run(format, self.concurrency, &self.source, work)).await
    }
}

/// Moves a new instance to the state it was exported in, or reports that it is in another one.
async fn finish(
    format: Format,
    walker: Option<&Walker>,
    written: Written<Created>,
    exported: Option<StateName>,
) -> Result<Line, Failure> {
    let created = &written.made;
    let Some(exported) = exported.filter(|state| *state != created.state) else {
        return Ok(Line::Done(line(format, &written, 0)));
    };
    let failure = match walker {
        Some(walker) => match walker.walk(created, &exported).await {
            Ok(steps) => return Ok(Line::Done(line(format, &written, steps))),
            Err(failure) => failure.about(format!(
                "{} was created, but not moved to its state",
                created.instance
            )),
        },
        None => {
            let message = format!(
                "{} was created in state {:?}, but was exported in state {exported:?}",
                created.instance, created.state
            );
            Failure::new(Exit::Rejected, "state_differs", message)
        }
    };
    let failure = failure
        .with("id", created.instance.to_string())
        .with("exported_state", exported.as_str());
    Ok(Line::Differs(line(format, &written, 0), failure))
}

fn line(format: Format, written: &Written<Created>, steps: usize) -> String {
    match format {
        Format::Json => {
            let mut body: Value = json!({ "created": written.made });
            if steps > 0 {
                body["walked"] = steps.into();
            }
            output::json_line(&shape::written(body, written))
        }
        _ => format!("{}\n", written.made.instance),
    }
}
