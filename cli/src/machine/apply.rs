//! `lockstep machine apply`.

use clap::Args;
use lockstep_client::{Client, DefineCall, Defined, Error, Written};
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
    /// None of a file that cannot be read.
    document: Option<Document>,
    dry_run: bool,
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
            let documents = file.documents();
            self.check_key(documents.as_ref().map_or(1, Vec::len))?;
            match documents {
                Ok(documents) => applied.extend(self.file(&client, file, documents).await),
                Err(failure) => applied.push(self.applied(file, None, Err(failure))),
            }
        }
        report(context, applied)
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
        documents: Vec<Document>,
    ) -> Vec<Applied<'a>> {
        let all = documents.len();
        let mut applied = vec![];
        for document in documents {
            let mut outcome = self.define(client, &document).await;
            let is_last = outcome.is_err() && !self.dry_run;
            if is_last && all > 1 {
                let (before, after) = (applied.len(), all - applied.len() - 1);
                let extent =
                    format!("documents applied before it: {before}, not applied after it: {after}");
                outcome = outcome.map_err(|failure| failure.because(extent));
            }
            applied.push(self.applied(file, Some(document), outcome));
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
        let call = match document.language {
            Language::Json => DefineCall::json(text),
            Language::Yaml => DefineCall::yaml(text),
        };
        let call = match self.dry_run {
            true => call.dry_run(),
            false => call,
        };
        let defined = client.define(self.key.clone().on(call)).await;
        Ok(defined.map_err(|error| match error {
            Error::Invalid(message) => Error::Invalid(document.with_line_of_file(&message)),
            other => other,
        })?)
    }

    fn applied<'a>(
        &self,
        file: &'a Source,
        document: Option<Document>,
        outcome: Result<Written<Defined>, Failure>,
    ) -> Applied<'a> {
        let mut applied = Applied {
            file,
            document,
            dry_run: self.dry_run,
            outcome,
        };
        // What cannot be read has its file in its message.
        if applied.document.is_some() {
            let (subject, position) = (applied.subject(), applied.position());
            applied.outcome = applied.outcome.map_err(|failure| match position {
                None => failure.about(subject),
                Some((number, line)) => failure
                    .about(subject)
                    .with("document", number)
                    .with("line", line),
            });
        }
        applied
    }
}

impl Applied<'_> {
    /// Its number and its line, in a file of several.
    fn position(&self) -> Option<(usize, usize)> {
        let document = self.document.as_ref()?;
        Some((document.number?, document.line))
    }

    fn subject(&self) -> String {
        let file = self.file;
        match self.position() {
            None => file.to_string(),
            Some((number, line)) => format!("{file}: document {number} (line {line})"),
        }
    }

    /// What it prints for people; warnings go to stderr.
    fn text(&self) -> String {
        let Ok(written) = &self.outcome else {
            return String::new();
        };
        for warning in &written.made.warnings {
            let (subject, code) = (self.subject(), &warning.code);
            output::say(&format!("lockstep: {subject}: warning: {warning} ({code})"));
        }
        let Defined {
            machine,
            version,
            timeouts,
            ..
        } = &written.made;
        let mut text = match (written.made.created, self.dry_run) {
            (true, false) => format!("{machine}: created version {version}\n"),
            (true, true) => format!("{machine}: would create version {version}\n"),
            (false, false) => format!("{machine}: unchanged, version {version}\n"),
            (false, true) => format!("{machine}: would be unchanged, version {version}\n"),
        };
        for (state, timeout) in timeouts {
            text.push_str(&format!(
                "  {state}: after {} -> {}\n",
                timeout.after, timeout.to
            ));
        }
        text
    }

    fn json(&self) -> Value {
        let written = match &self.outcome {
            Ok(written) => written,
            Err(failure) => return json!({ "error": failure.json() }),
        };
        let mut body = shape::written(json!(written.made), written);
        if self.dry_run {
            body["dry_run"] = true.into();
        }
        body
    }
}

/// The text for stdout, or the failures: of one definition its own, of several each on its own line.
fn report(context: &Context, applied: Vec<Applied>) -> Result<String, Failure> {
    let all = applied.len();
    let is_alone = all == 1 && applied[0].position().is_none();
    let result = |it: &Applied| {
        let mut result = it.json();
        if !is_alone {
            result["file"] = it.file.to_string().into();
        }
        if let Some((number, line)) = it.position() {
            result["document"] = number.into();
            result["line"] = line.into();
        }
        result
    };
    let json = || match &applied[..] {
        [alone] if is_alone => result(alone),
        _ => json!({ "results": applied.iter().map(result).collect::<Vec<_>>() }),
    };
    let text = context.show(json, || applied.iter().map(Applied::text).collect());
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
    let message = format!(
        "{} of {all} definitions could not be applied",
        failures.len()
    );
    Err(Failure::incomplete(exit, message).with_partial(text))
}
