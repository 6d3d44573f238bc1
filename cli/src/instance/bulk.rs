//! Executes a command for each line of a file: several at once; a line that fails is reported with
//! its number, and the others are still executed.

use std::cell::Cell;

use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;

use crate::failure::{Exit, Failure};
use crate::input::{Lines, Source};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Lines named in the last message.
const LINES_NAMED: usize = 10;
/// Unanswered lines in a row before it gives up: fewer may be an election.
const UNANSWERED_MIN: usize = 8;

/// The outcome of one line.
pub(super) enum Line {
    /// Done; this goes to stdout.
    Done(String),
    /// Nothing to do.
    Skipped,
    /// Done, with a result that differs from the line.
    Differs(String, Failure),
}

/// The outcomes so far.
#[derive(Debug, Default)]
struct Tally {
    format: Format,
    done: u64,
    skipped: u64,
    differing: u64,
    failed: u64,
    /// The first lines that failed.
    lines: Vec<u64>,
    /// The worst exit code.
    exit: Option<Exit>,
    /// How many of the last lines in a row were not answered.
    unanswered: usize,
    /// The last line that was executed.
    last: u64,
}

/// Reads and executes every line, so many at once. It gives up, and reports where, when as many lines
/// in a row, and at least eight, are not answered.
pub(super) async fn run<T: DeserializeOwned + Send + 'static>(
    format: Format,
    concurrency: u32,
    source: &Source,
    work: impl AsyncFn(T) -> Result<Line, Failure>,
) -> Result<String, Failure> {
    let concurrency = concurrency as usize;
    let lines: Lines<T> = source.lines()?;
    let progress = Progress::over_bytes(lines.bytes);
    let stopped = Cell::new(false);
    let entries = stream::try_unfold(lines.entries, async |mut entries| {
        if stopped.get() {
            return Ok(None);
        }
        let entry = entries.recv().await.transpose()?;
        Ok::<_, Failure>(entry.map(|entry| (entry, entries)))
    });
    let outcomes = entries
        .map_ok(async |entry| {
            let outcome = match entry.value {
                Ok(value) => work(value).await,
                Err(fault) => Err(Failure::input("invalid_line", fault)),
            };
            Ok((entry.number, entry.read_bytes, outcome))
        })
        .try_buffered(concurrency);
    let mut outcomes = std::pin::pin!(outcomes);

    let mut tally = Tally {
        format,
        ..Tally::default()
    };
    while let Some((number, read_bytes, outcome)) = outcomes.next().await.transpose()? {
        tally.last = number;
        tally.settle(&progress, outcome)?;
        // Requests in flight are waited for: their outcome would be unknown.
        let unanswered_max = concurrency.max(UNANSWERED_MIN);
        stopped.set(stopped.get() || tally.unanswered >= unanswered_max);
        progress.show(read_bytes, || tally.summary());
    }
    drop(progress);
    tally.finish(stopped.get())
}

impl Tally {
    fn settle(
        &mut self,
        progress: &Progress,
        outcome: Result<Line, Failure>,
    ) -> Result<(), Failure> {
        self.unanswered = match &outcome {
            Err(failure) if failure.exit() == Exit::Unavailable => self.unanswered + 1,
            _ => 0,
        };
        let (count, text, failure) = match outcome {
            Ok(Line::Done(text)) => (&mut self.done, text, None),
            Ok(Line::Skipped) => (&mut self.skipped, String::new(), None),
            Ok(Line::Differs(text, failure)) => (&mut self.differing, text, Some(failure)),
            Err(failure) => (&mut self.failed, String::new(), Some(failure)),
        };
        *count += 1;
        if !text.is_empty() {
            progress.beside(|| output::print(&text))?;
        }
        if let Some(failure) = failure {
            self.exit = self.exit.max(Some(failure.exit()));
            let number = self.last;
            if self.lines.len() <= LINES_NAMED {
                self.lines.push(number);
            }
            let failure = failure.about(format!("line {number}")).with("line", number);
            progress.aside(|| failure.say(self.format));
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let mut text = format!("{} created", self.done + self.differing);
        for (number, what) in [
            (self.differing, "of them in another state than exported"),
            (self.skipped, "already existed"),
            (self.failed, "failed"),
        ] {
            if number > 0 {
                text.push_str(&format!(", {number} {what}"));
            }
        }
        text
    }

    fn finish(&self, stopped: bool) -> Result<String, Failure> {
        let mut message = self.summary();
        let Some(exit) = self.exit else {
            if self.format == Format::Table {
                output::say(&format!("lockstep: {message}"));
            }
            return Ok(String::new());
        };
        let named: Vec<_> = self.lines.iter().take(LINES_NAMED).collect();
        let noun = if named.len() == 1 { "line" } else { "lines" };
        let more = if self.lines.len() > LINES_NAMED {
            ", ..."
        } else {
            ""
        };
        message.push_str(&format!(": {noun} {}{more}", output::list(&named)));
        if stopped {
            let last = self.last;
            message.push_str(&format!("; given up after line {last}: no node answered"));
        }
        Err(Failure::incomplete(exit, message)
            .with("created", self.done + self.differing)
            .with("skipped", self.skipped)
            .with("differing", self.differing)
            .with("failed", self.failed)
            .with("last_line", self.last))
    }
}
