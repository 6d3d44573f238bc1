//! `lockstep machine apply`.

use clap::Args;
use lockstep_client::{Client, DefineCall, Defined, Fault, Written};
use serde_json::{Value, json};

use crate::Context;
use crate::args::Key;
use crate::failure::Failure;
use crate::input::{Language, Source};
use crate::output::{self, Format};
use crate::shape;

const EXAMPLES: &str = r#"A definition names the machine, its states and the transitions between them:

  name: order
  initial: open
  states:
    open: {timeout: {after: 15m, to: expired}}
    paid: {description: The payment has arrived}
    shipped: {final: true}
    expired: {final: true}
  transitions:
    - {from: open, to: paid, event: pay}
    - {from: paid, to: shipped, event: ship}

The format follows from the extension: .json, or .yaml or .yml; without one of these, from the content.
Versions are immutable: a definition that differs from the newest version becomes the next one, and
an equal one changes nothing. All errors are reported at once, each with its position in the document.

Examples:
  lockstep machine apply order.yaml --dry-run    show what would happen, and all faults
  lockstep machine apply machines/*.yaml
  generate-definition | lockstep machine apply -"#;

/// Store definitions, each as the first or next version of its machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Apply {
    /// JSON or YAML files; - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<Source>,

    /// Validate only, and show what would happen
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    key: Key,
}

impl Apply {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Self {
            files,
            dry_run,
            key,
        } = self;
        if key.key.is_some() && files.len() > 1 {
            return Err(Failure::usage(
                "--idempotency-key can be used with only one file, because each file is a separate request",
            ));
        }
        if files.iter().filter(|file| **file == Source::Stdin).count() > 1 {
            return Err(Failure::usage("standard input can be read only once"));
        }
        let client = context.target.client()?;
        let mut report = Report {
            format: context.output,
            files: files.len(),
            ..Report::default()
        };
        for file in &files {
            let outcome = apply(&client, file, dry_run, key.clone()).await;
            report.add(file, dry_run, outcome);
        }
        report.finish()
    }
}

async fn apply(
    client: &Client,
    file: &Source,
    dry_run: bool,
    key: Key,
) -> Result<Written<Defined>, Failure> {
    let (text, language) = file.document()?;
    let mut call = match language {
        Language::Json => DefineCall::json(text),
        Language::Yaml => DefineCall::yaml(text),
    };
    if dry_run {
        call = call.dry_run();
    }
    client
        .define(key.on(call))
        .await
        .map_err(|error| Failure::from(error).about(file))
}

/// The outcome of each file.
#[derive(Default)]
struct Report {
    format: Format,
    files: usize,
    text: String,
    results: Vec<Value>,
    failures: Vec<Failure>,
}

impl Report {
    fn add(&mut self, file: &Source, dry_run: bool, outcome: Result<Written<Defined>, Failure>) {
        let written = match outcome {
            Ok(written) => written,
            Err(failure) => {
                let error = failure.json();
                self.results
                    .push(json!({ "file": file.to_string(), "error": error }));
                self.failures.push(failure);
                return;
            }
        };
        let mut body = body(&written, dry_run);
        if self.files > 1 {
            body["file"] = file.to_string().into();
        }
        self.results.push(body);
        self.text.push_str(&line(&written.made, dry_run));
        if self.format == Format::Table {
            for warning in &written.made.warnings {
                output::say(&warning_line(file, warning));
            }
        }
    }

    fn finish(mut self) -> Result<String, Failure> {
        let text = match self.format {
            Format::Json if self.files == 1 => match self.failures.is_empty() {
                true => self.results.iter().map(output::json).collect(),
                false => String::new(),
            },
            Format::Json => output::json(&json!({ "results": self.results })),
            _ => self.text,
        };
        let failed = self.failures.len();
        let Some(exit) = self.failures.iter().map(Failure::exit).max() else {
            return Ok(text);
        };
        if self.files == 1 {
            return Err(self.failures.remove(0));
        }
        if self.format == Format::Table {
            self.failures.iter().for_each(|it| it.say(self.format));
        }
        let message = format!("{failed} of {} files could not be applied", self.files);
        Err(Failure::incomplete(exit, message).with_partial(text))
    }
}

fn line(made: &Defined, dry_run: bool) -> String {
    let Defined {
        machine, version, ..
    } = made;
    match (made.created, dry_run) {
        (true, false) => format!("{machine}: created version {version}\n"),
        (true, true) => format!("{machine}: would create version {version}\n"),
        (false, false) => format!("{machine}: unchanged, version {version}\n"),
        (false, true) => format!("{machine}: would be unchanged, version {version}\n"),
    }
}

fn warning_line(file: &Source, warning: &Fault) -> String {
    format!("lockstep: {file}: warning: {warning} ({})", warning.code)
}

fn body(written: &Written<Defined>, dry_run: bool) -> Value {
    let mut body = json!(written.made);
    if dry_run {
        body["dry_run"] = true.into();
    }
    shape::written(body, written)
}
