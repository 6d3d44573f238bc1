//! How a command fails: the message on stderr, a hint, and the exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use lockstep_client::{Error, Rejected};
use serde_json::{Map, Value, json};

use super::output::{self, Format};
use super::paint::{FAULT, paint};

/// Why a command failed. Boxed, because every function returns it.
#[derive(Debug)]
pub(super) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    exit: Exit,
    code: String,
    message: String,
    /// Lines below the message.
    lines: Vec<String>,
    /// What to try next.
    hint: Option<String>,
    /// Further fields for the JSON form.
    details: Map<String, Value>,
    /// Data for stdout that was gathered before the failure.
    partial: String,
}

/// The exit code. The greatest wins where a command fails in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    Done = 0,
    Rejected = 1,
    Usage = 2,
    Unavailable = 3,
}

impl Failure {
    /// The arguments cannot be used together.
    pub(super) fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The input cannot be used.
    pub(super) fn input(code: &str, message: impl ToString) -> Self {
        Self::new(Exit::Usage, code, message)
    }

    /// The local system prevents the command.
    pub(super) fn local(error: impl ToString) -> Self {
        Self::new(Exit::Unavailable, "local", error)
    }

    /// A file or folder cannot be written.
    pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Self {
        Self::local(format!("cannot write {}: {error}", path.display()))
    }

    /// The reader of stdout closed the pipe. That ends the command, and is no failure.
    pub(super) fn reader_gone() -> Self {
        Self::new(Exit::Done, "reader_gone", "stdout is closed")
    }

    /// What happened.
    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.0.message
    }

    /// No node could answer.
    pub(super) fn unavailable(message: impl ToString) -> Self {
        Self::new(Exit::Unavailable, "unavailable", message)
    }

    /// Some of several items failed.
    pub(super) fn incomplete(exit: Exit, message: impl ToString) -> Self {
        Self::new(exit, "incomplete", message)
    }

    pub(super) fn new(exit: Exit, code: &str, message: impl ToString) -> Self {
        Self(Box::new(Details {
            exit,
            code: code.to_owned(),
            message: message.to_string(),
            lines: Vec::new(),
            hint: None,
            details: Map::new(),
            partial: String::new(),
        }))
    }

    /// Still prints this to stdout.
    pub(super) fn with_partial(mut self, text: String) -> Self {
        self.0.partial = text;
        self
    }

    /// One more field of the JSON form.
    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(field.to_owned(), value.into());
        self
    }

    /// What to try next.
    pub(super) fn hint(mut self, hint: impl ToString) -> Self {
        self.0.hint = Some(hint.to_string());
        self
    }

    /// Adds to the message.
    pub(super) fn because(mut self, more: impl ToString) -> Self {
        self.0.message = format!("{}; {}", self.0.message, more.to_string());
        self
    }

    /// Puts the subject in front of the message.
    pub(super) fn about(mut self, subject: impl ToString) -> Self {
        self.0.message = format!("{}: {}", subject.to_string(), self.0.message);
        self
    }

    pub(super) fn exit(&self) -> Exit {
        self.0.exit
    }

    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// Prints the failure and returns the exit code.
    pub(super) fn report(mut self, format: Format) -> ExitCode {
        let partial = std::mem::take(&mut self.0.partial);
        if !partial.is_empty() {
            // The failure itself matters more than a stdout that takes nothing.
            let _ = output::print(&partial);
        }
        if self.0.exit != Exit::Done {
            self.say(format);
        }
        ExitCode::from(self.0.exit as u8)
    }

    /// Prints the failure to stderr.
    pub(super) fn say(&self, format: Format) {
        if format == Format::Json {
            output::say(&json!({ "error": self.json() }).to_string());
            return;
        }
        let name = paint(FAULT, "lockstep:");
        output::say(&format!("{name} {}", self.0.message));
        for line in &self.0.lines {
            output::say(&format!("  {line}"));
        }
        if let Some(hint) = &self.0.hint {
            output::say(&format!("try: {hint}"));
        }
    }

    /// The fields of the JSON form.
    pub(super) fn json(&self) -> Value {
        let mut error = self.0.details.clone();
        error.insert("code".to_owned(), self.0.code.as_str().into());
        error.insert("message".to_owned(), self.0.message.as_str().into());
        if let Some(hint) = &self.0.hint {
            error.insert("hint".to_owned(), hint.as_str().into());
        }
        error.into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Rejected(_) => Exit::Rejected,
            Error::Invalid(_) => Exit::Usage,
            Error::Unavailable { .. }
            | Error::OutcomeUnknown { .. }
            | Error::Discovery(_)
            | Error::Compacted { .. }
            | Error::Lagged { .. }
            | Error::BadAnswer { .. } => Exit::Unavailable,
        };
        let mut failure = Self::new(exit, error.code(), &error);
        if let Error::Rejected(rejected) = &error {
            failure.0.details = details(rejected);
            failure.0.message = rejection_message(rejected);
            failure.0.lines = fault_lines(rejected);
        }
        if let Error::OutcomeUnknown { key: Some(key), .. } = &error {
            failure = failure.with("idempotency_key", key.as_str());
        }
        failure.0.hint = next_step(&failure.0.code).map(str::to_owned);
        failure
    }
}

/// The details of a rejection: the fields of HTTP's problem document.
fn details(rejected: &Rejected) -> Map<String, Value> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(rejected) else {
        return Map::new();
    };
    all.remove("code");
    all.remove("detail");
    all
}

/// The state machine's message, with the allowed states if it does not name them.
fn rejection_message(rejected: &Rejected) -> String {
    if !rejected.faults.is_empty() {
        let count = rejected.faults.len();
        return format!(
            "the definition has {}",
            output::count(count as u64, "error")
        );
    }
    let message = &rejected.message;
    let Some(state) = &rejected.current_state else {
        return message.clone();
    };
    if message.contains("allowed from") || rejected.allowed.is_empty() {
        return message.clone();
    }
    let allowed = output::list(&rejected.allowed);
    format!("{message}; allowed from {state:?}: {allowed}")
}

fn fault_lines(rejected: &Rejected) -> Vec<String> {
    rejected
        .faults
        .iter()
        .map(|fault| format!("{fault} ({})", fault.code))
        .collect()
}

/// What to try after a failure with this code.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "unknown_machine" => "`lockstep machine list` lists the machines",
        "unknown_instance" => "`lockstep instance list MACHINE` lists the instances",
        "unknown_version" => "`lockstep machine show MACHINE` lists the versions",
        "unmapped_state" => "map the state with --map FROM=TO",
        "definition_in_use" => {
            "delete its instances, or migrate them: `lockstep instance list MACHINE` shows them"
        }
        "idempotency_key_reused" => "use a new key for a new request",
        "invalid_definition" => "correct it, and check it with `lockstep machine apply --dry-run`",
        "state_mismatch" | "revision_mismatch" => {
            "read the instance with `lockstep instance get ID`, then decide again"
        }
        "backup_in_progress" => "wait for the other backup, or name another node with --endpoint",
        "unknown_setting" => "`lockstep cluster settings get` lists the settings",
        "unknown_dead_letter" => "`lockstep sink dead-letters NAME` lists the dead letters",
        "unknown_sink" => "`lockstep sink list` lists the sinks",
        "picture_too_large" => "use --format dot or --format mermaid",
        "unavailable" => "`lockstep status` shows which nodes answer",
        _ => return None,
    })
}
