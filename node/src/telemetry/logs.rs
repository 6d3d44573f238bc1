//! Logs: one event per line on standard error, as text or JSON.
//!
//! A separate thread writes the lines, so that a closed or slow pipe, or a full disk, neither stops nor
//! blocks the node. Lines that cannot be written are dropped and counted; once writing works again, a line
//! reports how many were lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Registry, reload};

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
const QUEUE_LINES_MAX: usize = 8192;
/// How long the last lines may take when the process ends.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at the lines that wait.
const LAST_LINES_STEP: Duration = Duration::from_millis(1);

/// Lines that could not be written, or for which the queue had no room.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were lost since the process started.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The lines that wait for the thread that writes them. Never blocks.
///
/// Not `tracing_appender`: when its guard is dropped while the queue is full, it prints to standard output, which
/// blocks if that is the same pipe, and panics if that is closed.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Vec<u8>>,
    /// Lines that are not written yet.
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue whose lines a thread writes to `writer`.
    fn start(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, received) = mpsc::sync_channel(QUEUE_LINES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Self {
            lines,
            waiting: waiting.clone(),
        };
        let mut writer = Writer {
            inner: writer,
            reported: lost_lines(),
        };
        let write = move || {
            while let Ok(line) = received.recv() {
                writer.write(&line, || {
                    waiting.load(Ordering::Relaxed) <= QUEUE_LINES_MAX / 2
                });
                waiting.fetch_sub(1, Ordering::Release);
            }
        };
        thread::Builder::new()
            .name("log-writer".into())
            .spawn(write)?;
        Ok(queue)
    }

    /// Waits until all lines are written, or for [`LAST_LINES_TIMEOUT`]: they may never be.
    fn drain(&self) {
        let deadline = Instant::now() + LAST_LINES_TIMEOUT;
        while self.waiting.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(LAST_LINES_STEP);
        }
    }
}

impl Write for Queue {
    /// Each call has one line. Never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(1, Ordering::Release);
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines, and says after a failure how many were lost.
struct Writer<W> {
    inner: W,
    /// What [`lost_lines`] was when it was last reported.
    reported: u64,
}

impl<W: Write> Writer<W> {
    /// Writes one line, and then reports the lines lost, if the queue `has_room`: the report is a line itself, and must
    /// not be lost for want of room.
    fn write(&mut self, line: &[u8], has_room: impl FnOnce() -> bool) {
        let written = self.inner.write_all(line);
        if written.and_then(|()| self.inner.flush()).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = lost_lines();
        if lost > self.reported && has_room() {
            let lines = lost - std::mem::replace(&mut self.reported, lost);
            tracing::warn!(
                lines,
                "log lines were lost: standard error was blocked or closed"
            );
        }
    }
}

/// The logging of the process. Dropped, it waits a moment for the last lines.
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    queue: Queue,
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.queue.drain();
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
    let queue = Queue::start(io::stderr())?;
    let to_queue = queue.clone();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(move || to_queue.clone());
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
        queue,
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
                Ok(())
            }
        }
        let before = lost_lines();
        let mut writer = Writer {
            inner: Full(true),
            reported: before,
        };
        for _ in 0..3 {
            writer.write(b"line\n", || true);
        }
        // Another test may lose lines too.
        assert!(lost_lines() >= before + 3);
        assert_eq!(writer.reported, before);
        writer.inner.0 = false;
        writer.write(b"line\n", || false);
        assert_eq!(writer.reported, before, "the report might be lost");
        writer.write(b"line\n", || true);
        assert!(writer.reported >= before + 3);
    }

    #[test]
    fn a_writer_that_blocks_holds_no_more_than_the_queue_and_delays_no_end() {
        struct Blocked(mpsc::Receiver<()>);
        impl Write for Blocked {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                // Until the test ends.
                let _ = self.0.recv();
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_unblock, blocked) = mpsc::channel();
        let mut queue = Queue::start(Blocked(blocked)).unwrap();
        for _ in 0..2 * QUEUE_LINES_MAX {
            queue.write_all(b"line\n").unwrap();
        }
        // The thread may hold one.
        assert!(queue.waiting.load(Ordering::Relaxed) <= QUEUE_LINES_MAX + 1);
        queue.drain();
    }

    #[test]
    fn an_invalid_filter_is_named() {
        assert!(parse_filter("info,lockstep_node=debug").is_ok());
        let error = parse_filter("lockstep_node=loud").expect_err("no such level");
        assert!(error.to_string().contains("lockstep_node=loud"), "{error}");
    }
}
