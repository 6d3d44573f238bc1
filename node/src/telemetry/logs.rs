//! Logs: one event per line on standard error, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

use crate::config::{Log, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter does not parse.
    #[error(
        "log.filter {filter:?} is not valid: {source}; an example is \"info,lockstep_node=debug\""
    )]
    Filter {
        /// The filter as configured.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Logging was set up before.
    #[error("logging is already set up: {0}")]
    Twice(#[from] TryInitError),
}

/// Sets up logging for the whole process. Call it once.
pub fn init(log: &Log) -> Result<(), LogsError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = parse_filter(&log.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
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
