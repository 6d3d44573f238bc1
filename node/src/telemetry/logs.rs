//! Logs: one event per line on standard error, as text or JSON.
//!
//! Through [`Output`], so that a closed or slow pipe, or a full disk, neither stops nor blocks the node.

use std::io;
use std::sync::OnceLock;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::output::Output;
use crate::config::{Log, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what it is")]
pub enum LogsError {
    #[error(
        "log.filter {filter:?} is not valid: {source}; an example is \"info,lockstep_node=debug\""
    )]
    Filter { filter: String, source: ParseError },
    #[error("logging is already set up: {0}")]
    Twice(#[from] TryInitError),
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
    #[error("the filter was not replaced: {0}")]
    Reload(#[from] reload::Error),
}

/// Lines that wait to be written, at most.
const LINES_MAX: usize = 8192;
/// What [`init`] made.
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// How many lines were lost since the process started.
pub fn lost_lines() -> u64 {
    OUTPUT.get().map_or(0, Output::lost)
}

/// The logging of the process. Dropped, it waits a moment for the last lines.
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    output: &'static Output,
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.output.drain();
    }
}

impl Logs {
    /// Chooses other lines from now on.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogsError> {
        Ok(self.filter.reload(parse_filter(filter)?)?)
    }
}

/// Sets up logging for the whole process. Call it once.
pub fn init(log: &Log) -> Result<Logs, LogsError> {
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
    use tracing_subscriber::util::SubscriberInitExt as _;

    let filter = parse_filter(&log.filter)?;
    let output = Output::start("log-writer", LINES_MAX, io::stderr(), |lines, _| {
        // A line itself, in the format of the others.
        tracing::warn!(
            lines,
            "log lines were lost: standard error was blocked or closed"
        );
        Ok(())
    })?;
    let output = OUTPUT.get_or_init(|| output);
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| output.clone());
    let lines = match log.format {
        LogFormat::Text => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(Logs {
        filter: handle,
        output,
    })
}

/// Parses a filter.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LogsError> {
    EnvFilter::try_new(filter).map_err(|source| LogsError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_filter_is_named() {
        assert!(parse_filter("info,lockstep_node=debug").is_ok());
        let error = parse_filter("lockstep_node=loud").expect_err("no such level");
        assert!(error.to_string().contains("lockstep_node=loud"), "{error}");
    }
}
