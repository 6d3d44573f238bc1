//! `lockstep machine apply`.

use clap::Args;
use lockstep_client::{Client, DefineCall, Defined, Written};
use serde_json::{Value, json};

use crate::args::Key;
use crate::input::{Language, Source};
use crate::output::{self, Format};
use crate::{Context, Failure, shape};

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
        let mut outcomes = Vec::with_capacity(files.len());
        for file in &files {
            let outcome = apply(&client, file, dry_run, key.clone()).await;
            if let (Ok(written), Format::Table) = (&outcome, context.output) {
                for warning in &written.made.warnings {
                    let code = &warning.code;
                    output::say(&format!("lockstep: {file}: warning: {warning} ({code})"));
                }
            }
            outcomes.push(outcome);
        }
        if let [_] = &files[..] {
            let written = outcomes.remove(0)?;
            let text = || line(&written.made, dry_run);
            return Ok(context.show(|| body(&written, dry_run), text));
        }
        report(context, &files, dry_run, outcomes)
    }
}

/// What came of several files.
fn report(
    context: &Context,
    files: &[Source],
    dry_run: bool,
    outcomes: Vec<Result<Written<Defined>, Failure>>,
) -> Result<String, Failure> {
    let (mut text, mut results, mut failures) = (String::new(), vec![], vec![]);
    for (file, outcome) in files.iter().zip(outcomes) {
        let mut result = match &outcome {
            Ok(written) => body(written, dry_run),
            Err(failure) => json!({ "error": failure.json() }),
        };
        result["file"] = file.to_string().into();
        results.push(result);
        match outcome {
            Ok(written) => text.push_str(&line(&written.made, dry_run)),
            Err(failure) => failures.push(failure),
        }
    }
    let text = context.show(|| json!({ "results": results }), || text);
    let Some(exit) = failures.iter().map(Failure::exit).max() else {
        return Ok(text);
    };
    if context.output == Format::Table {
        failures.iter().for_each(|it| it.say(Format::Table));
    }
    let (failed, all) = (failures.len(), files.len());
    let message = format!("{failed} of {all} files could not be applied");
    Err(Failure::incomplete(exit, message).with_partial(text))
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

fn body(written: &Written<Defined>, dry_run: bool) -> Value {
    let mut body = json!(written.made);
    if dry_run {
        body["dry_run"] = true.into();
    }
    shape::written(body, written)
}
