//! `lockstep instance create`.

use clap::Args;
use lockstep_client::{Client, CreateCall, Created, MachineName, Metadata, Version, Written};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bulk::{self, Line};
use crate::args::{self, Key, Maybe, Meta, Subject};
use crate::input::Source;
use crate::output::{self, Format};
use crate::{Context, Failure, shape};

const EXAMPLES: &str = r#"Prints the id of each instance that is created.

In bulk, each line is a JSON object, all of whose fields are optional:
  {"id": "42", "metadata": {"customer": "ann"}, "version": 2}

A line that fails is reported with its number, and the others are still executed. The exit code is
the highest of all failures: 1 rejected, 2 a line cannot be parsed, 3 no node answered. With
--skip-existing, the command can be repeated with the same file until all instances exist.

Examples:
  lockstep instance create order/42 --meta customer=ann
  id=$(lockstep instance create order)         generates an id that sorts by time
  lockstep instance create order --from orders.jsonl
  generate | lockstep instance create order --from - -o json > created.jsonl"#;

/// Create an instance, or many from a file, in the initial state
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Create {
    /// The machine, or the id of the instance; for a machine alone, an id is generated
    #[arg(value_name = "MACHINE[/ID]")]
    subject: Subject,

    /// The version to pin it to [default: the newest]
    #[arg(long, value_name = "N", value_parser = args::version)]
    version: Option<Version>,

    #[command(flatten)]
    meta: Meta,

    #[command(flatten)]
    key: Key,

    #[command(flatten)]
    bulk: BulkArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "In bulk")]
struct BulkArguments {
    /// Create one instance for each line of JSON in this file; - for standard input
    #[arg(long = "from", value_name = "FILE", conflicts_with_all = ["version", "pairs", "key"])]
    source: Option<Source>,

    /// Number of lines to process concurrently
    #[arg(long, value_name = "N", default_value_t = 32, requires = "source", value_parser = args::range(1, 256))]
    concurrency: u32,

    /// Skip instances that already exist instead of failing
    #[arg(long, requires = "source")]
    skip_existing: bool,
}

/// One line of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    version: Option<Version>,
}

impl Create {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        match (&self.bulk.source, &self.subject) {
            (Some(source), Subject::Machine(machine)) => {
                self.bulk.run(context, &client, machine, source).await
            }
            (Some(_), Subject::Instance(id)) => Err(Failure::usage(format!(
                "--from takes a machine, not one instance: use {} instead of {id}",
                id.machine
            ))),
            (None, _) => self.one(context, &client).await,
        }
    }

    async fn one(self, context: &Context, client: &Client) -> Result<String, Failure> {
        let call = match &self.subject {
            Subject::Machine(machine) => CreateCall::of(machine),
            Subject::Instance(id) => CreateCall::new(id),
        }
        .metadata(self.meta.into_metadata()?)
        .maybe(self.version, CreateCall::version);
        let written = client.create(self.key.on(call)).await?;
        let json = || body(&written);
        Ok(context.show(json, || format!("{}\n", written.made.instance)))
    }
}

impl BulkArguments {
    async fn run(
        &self,
        context: &Context,
        client: &Client,
        machine: &MachineName,
        source: &Source,
    ) -> Result<String, Failure> {
        let format = context.output;
        let work = async |item: Item| match client.create(call(machine, item)?).await {
            Ok(written) => Ok(Line::Done(match format {
                Format::Json => output::json_line(&body(&written)),
                _ => format!("{}\n", written.made.instance),
            })),
            Err(error) if self.skip_existing && error.code() == "instance_exists" => {
                Ok(Line::Skipped)
            }
            Err(error) => Err(error.into()),
        };
        output::while_read(bulk::run(format, self.concurrency, source, work)).await
    }
}

fn call(machine: &MachineName, item: Item) -> Result<CreateCall, Failure> {
    let mut call = match item.id {
        None => CreateCall::of(machine),
        Some(text) => {
            let id = args::within(machine, &text);
            CreateCall::new(&id.map_err(|why| Failure::input("invalid_line", why))?)
        }
    };
    call = call.metadata(item.metadata);
    Ok(call.maybe(item.version, CreateCall::version))
}

fn body(written: &Written<Created>) -> Value {
    shape::written(json!({ "created": written.made }), written)
}
