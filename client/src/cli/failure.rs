//! How a command fails: what is said on stderr, and the exit code.

use std::process::ExitCode;

use lockstep_client::{Address, Error, Rejected};
use serde_json::{Value, json};

use super::output::{self, Format};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    code: String,
    message: String,
    /// Further fields for the JSON form.
    details: Value,
    /// Data that was gathered all the same, for stdout.
    partial: String,
}

#[derive(Debug, Clone, Copy)]
enum Exit {
    Refused = 1,
    Usage = 2,
    Unavailable = 3,
}

impl Failure {
    /// The arguments make no sense together, or not here.
    pub(super) fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// This machine does not let the command run.
    pub(super) fn local(error: std::io::Error) -> Self {
        Self::new(Exit::Unavailable, "local", error)
    }

    /// Nobody could answer.
    pub(super) fn unavailable(message: impl ToString) -> Self {
        Self::new(Exit::Unavailable, "unavailable", message)
    }

    /// Still prints this to stdout.
    pub(super) fn with_partial(mut self, text: String) -> Self {
        self.partial = text;
        self
    }

    fn new(exit: Exit, code: &str, message: impl ToString) -> Self {
        let (code, message) = (code.to_owned(), message.to_string());
        Self {
            exit,
            code,
            message,
            details: json!({}),
            partial: String::new(),
        }
    }

    /// Says what happened and gives the exit code.
    pub(super) fn report(self, format: Format) -> ExitCode {
        if !self.partial.is_empty() {
            output::print(&self.partial);
        }
        match format {
            Format::Table => output::say(&format!("lockstep: {}", self.message)),
            Format::Json => {
                let mut error = self.details;
                error["code"] = self.code.into();
                error["message"] = self.message.into();
                output::say(&json!({ "error": error }).to_string());
            }
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Rejected(_) => Exit::Refused,
            Error::Invalid(_) => Exit::Usage,
            _ => Exit::Unavailable,
        };
        let mut failure = Self::new(exit, error.code(), &error);
        match &error {
            Error::Rejected(rejected) => {
                failure.details = rejection(rejected);
                failure.message = rejection_message(rejected);
            }
            Error::OutcomeUnknown { key, .. } => {
                failure.details = json!({ "idempotency_key": key.as_str() })
            }
            _ => {}
        }
        failure
    }
}

fn rejection(rejected: &Rejected) -> Value {
    json!({
        "current_state": rejected.current_state,
        "current_revision": rejected.current_revision,
        "allowed": rejected.allowed,
        "replayed": rejected.replayed,
    })
}

/// The machine's own words, and where the instance may go from where it is, if they do not say.
fn rejection_message(rejected: &Rejected) -> String {
    let message = &rejected.message;
    let Some(state) = &rejected.current_state else {
        return message.clone();
    };
    if message.contains("allowed from") {
        return message.clone();
    }
    let allowed: Vec<_> = rejected
        .allowed
        .iter()
        .map(|state| state.as_str())
        .collect();
    match allowed.is_empty() {
        true => message.clone(),
        false => format!("{message}; allowed from {state:?}: {}", allowed.join(", ")),
    }
}

/// What went wrong at one endpoint, where a line already names it.
pub(super) fn short(error: &Error) -> String {
    match error {
        Error::Unavailable { tried, .. } if tried.len() == 1 => {
            tried.iter().map(|tried| tried.cause.as_str()).collect()
        }
        error => error.to_string(),
    }
}

/// Says on stderr why endpoints have no line of data.
pub(super) fn explain<T>(answers: &[(Address, Result<T, Error>)]) {
    for (endpoint, answer) in answers {
        if let Err(error) = answer {
            output::say(&format!("lockstep: {endpoint}: {}", short(error)));
        }
    }
}
