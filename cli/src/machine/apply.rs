//! `lockstep machine apply`.

use clap::Args;
use lockstep_client::{Client, DefineCall, Defined, Error, StateTimeout, Written};
use serde_json::{Value, json};

use crate::args::Key;
use crate::input::{Document, Language, Source};
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
A file may hold several definitions: YAML documents separated by ---, or JSON objects one after another.
They are applied in order; if one fails, those after it in the file are not applied.
Versions are immutable: a definition that differs from the newest version becomes the next one, and
an equal one changes nothing. All errors are reported at once, each with its position in the document.
Each timeout is printed in words, to show how its duration was read.

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

/// A definition, and what came of it.
struct Applied<'a> {
    file: &'a Source,
    /// Its number and its line, in a file of several.
    position: Option<(usize, usize)>,
    outcome: Result<Written<Defined>, Failure>,
}

impl Apply {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let inputs = self.files.iter().filter(|file| **file == Source::Stdin);
        if inputs.count() > 1 {
            return Err(Failure::usage("standard input can be read only once"));
        }
        self.check_key(self.files.len())?;
        let client = context.target.client()?;
        let mut applied = vec![];
        for file in &self.files {
            match file.documents() {
                Ok(documents) => {
                    self.check_key(documents.len())?;
                    applied.extend(self.file(&client, file, &documents).await);
                }
                Err(failure) => applied.push(Applied {
                    file,
                    position: None,
                    outcome: Err(failure),
                }),
            }
        }
        self.report(context, applied)
    }

    fn check_key(&self, definitions: usize) -> Result<(), Failure> {
        match definitions > 1 && self.key.key.is_some() {
            true => Err(Failure::usage(
                "--idempotency-key can be used with only one definition, because each definition is a separate request",
            )),
            false => Ok(()),
        }
    }

    /// Applies the documents of a file, up to the first that fails: those after it may depend on it.
    async fn file<'a>(
        &self,
        client: &Client,
        file: &'a Source,
        documents: &[Document],
    ) -> Vec<Applied<'a>> {
        let mut applied = vec![];
        for (before, document) in documents.iter().enumerate() {
            let mut one = Applied {
                file,
                position: document.number.map(|number| (number, document.line)),
                outcome: self.define(client, document).await,
            };
            let is_last = one.outcome.is_err() && !self.dry_run;
            let subject = one.subject();
            one.outcome = one.outcome.map_err(|mut failure| {
                if is_last && documents.len() > 1 {
                    let after = documents.len() - before - 1;
                    failure = failure.because(format!(
                        "documents applied before it: {before}, not applied after it: {after}"
                    ));
                }
                failure = failure.about(subject);
                match one.position {
                    None => failure,
                    Some((number, line)) => failure.with("document", number).with("line", line),
                }
            });
            applied.push(one);
            if is_last {
                break;
            }
        }
        applied
    }

    async fn define(
        &self,
        client: &Client,
        document: &Document,
    ) -> Result<Written<Defined>, Failure> {
        let text = document.text.as_str();
        let mut call = match document.language {
            Language::Json => DefineCall::json(text),
            Language::Yaml => DefineCall::yaml(text),
        };
        if self.dry_run {
            call = call.dry_run();
        }
        let defined = client.define(self.key.clone().on(call)).await;
        Ok(defined.map_err(|error| match error {
            Error::Invalid(message) => Error::Invalid(document.with_line_of_file(&message)),
            other => other,
        })?)
    }

    /// The text for stdout, or the failures: of one definition its own, of several each on its own line.
    fn report(&self, context: &Context, applied: Vec<Applied>) -> Result<String, Failure> {
        let all = applied.len();
        let is_alone = all == 1 && applied[0].position.is_none();
        let json = || match &applied[..] {
            [alone] if is_alone => alone.json(self.dry_run),
            _ => {
                let result = |it: &Applied| {
                    let mut result = it.json(self.dry_run);
                    result["file"] = it.file.to_string().into();
                    result
                };
                json!({ "results": applied.iter().map(result).collect::<Vec<_>>() })
            }
        };
        let text = || applied.iter().map(|it| it.text(self.dry_run)).collect();
        let text = context.show(json, text);
        let failed = applied.into_iter().filter_map(|it| it.outcome.err());
        let mut failures: Vec<_> = failed.collect();
        let Some(exit) = failures.iter().map(Failure::exit).max() else {
            return Ok(text);
        };
        if is_alone {
            return Err(failures.remove(0));
        }
        if context.output == Format::Table {
            failures.iter().for_each(|it| it.say(Format::Table));
        }
        let failed = failures.len();
        let message = format!("{failed} of {all} definitions could not be applied");
        Err(Failure::incomplete(exit, message).with_partial(text))
    }
}

impl Applied<'_> {
    fn subject(&self) -> String {
        let file = self.file;
        match self.position {
            None => file.to_string(),
            Some((number, line)) => format!("{file}: document {number} (line {line})"),
        }
    }

    /// What it prints for people; warnings go to stderr.
    fn text(&self, dry_run: bool) -> String {
        let Ok(written) = &self.outcome else {
            return String::new();
        };
        let Defined {
            machine,
            version,
            created,
            warnings,
            timeouts,
        } = &written.made;
        for warning in warnings {
            let (subject, code) = (self.subject(), &warning.code);
            output::say(&format!("lockstep: {subject}: warning: {warning} ({code})"));
        }
        let what = match (created, dry_run) {
            (true, false) => "created",
            (true, true) => "would create",
            (false, false) => "unchanged,",
            (false, true) => "would be unchanged,",
        };
        let mut text = format!("{machine}: {what} version {version}\n");
        for (state, StateTimeout { after, to, .. }) in timeouts {
            text.push_str(&format!("  {state}: after {after} -> {to}\n"));
        }
        text
    }

    fn json(&self, dry_run: bool) -> Value {
        let mut body = match &self.outcome {
            Ok(written) => {
                let mut body = shape::written(json!(written.made), written);
                if dry_run {
                    body["dry_run"] = true.into();
                }
                body
            }
            Err(failure) => json!({ "error": failure.json() }),
        };
        if let Some((number, line)) = self.position {
            body["document"] = number.into();
            body["line"] = line.into();
        }
        body
    }
}
