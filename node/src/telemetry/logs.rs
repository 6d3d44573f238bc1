//! Logs: one event per line on standard error, as text or JSON.
//!
//! A separate thread writes the lines, so that a closed or slow pipe, or a full disk, neither stops nor
//! blocks the node. Lines that cannot be written are dropped and counted; once writing works again, a line
//! reports how many were lost.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Registry, reload};

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
    /// The filter could not be replaced.
    #[error("the filter was not replaced: {0}")]
    Reload(#[from] reload::Error),
}

/// Lines that wait to be written, at most.
const QUEUE_LINES_MAX: usize = 8192;

/// Lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Lines for which the queue had no room.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were lost since the process started.
pub fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    FAILED.load(Ordering::Relaxed) + dropped as u64
}

/// Writes lines, and says after a failure how many were lost.
struct Reporting<W> {
    inner: W,
    /// What [`lost_lines`] was when it was last reported.
    reported: u64,
}

impl<W: Write> Write for Reporting<W> {
    /// Each call has one line. Never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.inner.write_all(line).is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let lost = lost_lines();
        if lost > self.reported {
            let lines = lost - std::mem::replace(&mut self.reported, lost);
            tracing::warn!(
                lines,
                "log lines were lost: standard error was blocked or closed"
            );
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.inner.flush();
        Ok(())
    }
}

/// The logging of the process. Dropped, it waits a moment for the last lines.
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    _writer: WorkerGuard,
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
    let writer = Reporting {
        inner: io::stderr(),
        reported: 0,
    };
    let (queue, writer_guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .thread_name("log-writer")
        .finish(writer);
    let _ = DROPPED.set(queue.error_counter());
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(queue);
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
        _writer: writer_guard,
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
    fn a_line_that_cannot_be_written_is_counted_and_no_failure() {
        struct Full(bool);
        impl Write for Full {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                match self.0 {
                    true => Err(io::ErrorKind::StorageFull.into()),
                    false => Ok(line.len()),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let before = lost_lines();
        let mut writer = Reporting {
            inner: Full(true),
            reported: before,
        };
        for _ in 0..3 {
            writer.write_all(b"line\n").unwrap();
            writer.flush().unwrap();
        }
        assert_eq!((lost_lines(), writer.reported), (before + 3, before));
        writer.inner.0 = false;
        writer.write_all(b"line\n").unwrap();
        assert_eq!(writer.reported, before + 3);
    }

    #[test]
    fn an_invalid_filter_is_named() {
        assert!(parse_filter("info,lockstep_node=debug").is_ok());
        let error = parse_filter("lockstep_node=loud").expect_err("no such level");
        assert!(error.to_string().contains("lockstep_node=loud"), "{error}");
    }
}
