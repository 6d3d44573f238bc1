//! Executes a command for each line of a file: several at once; a line that fails is reported with
//! its number, and the others are still executed.

use std::cell::Cell;

use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;

use crate::failure::{Exit, Failure};
use crate::input::{Lines, Source};
use crate::output::{self, Format, Reader};
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

/// How a file of lines is processed.
pub(super) struct Bulk {
    pub(super) format: Format,
    pub(super) concurrency: usize,
    /// What happened to a line that is done: "created".
    pub(super) verb: &'static str,
}

/// The outcomes so far.
#[derive(Debug, Default)]
struct Tally {
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
    /// The last line that was executed, and how much of the input was read by then.
    last: u64,
    read_bytes: u64,
}

impl Bulk {
    /// Reads and executes every line. It gives up, and reports where, when as many lines in a row
    /// as are executed at once, and at least eight, are not answered.
    pub(super) async fn run<T: DeserializeOwned + Send + 'static>(
        &self,
        source: &Source,
        work: impl AsyncFn(T) -> Result<Line, Failure>,
    ) -> Result<String, Failure> {
        let lines: Lines<T> = source.lines()?;
        let progress = Progress::over_bytes(lines.bytes);
        let stopped = Cell::new(false);
        let entries = stream::try_unfold(lines, async |mut lines| {
            if stopped.get() {
                return Ok(None);
            }
            let entry = lines.next().await?;
            Ok::<_, Failure>(entry.map(|entry| (entry, lines)))
        });
        let outcomes = entries
            .map_ok(async |entry| {
                let outcome = match entry.value {
                    Ok(value) => work(value).await,
                    Err(fault) => Err(Failure::input("invalid_line", fault)),
                };
                Ok((entry.number, entry.read_bytes, outcome))
            })
            .try_buffered(self.concurrency);
        let mut outcomes = std::pin::pin!(outcomes);

        let mut tally = Tally::default();
        while let Some((number, read_bytes, outcome)) = outcomes.next().await.transpose()? {
            tally.last = number;
            tally.read_bytes = read_bytes;
            if self.settle(&progress, &mut tally, number, outcome)? == Reader::Gone {
                return Ok(String::new());
            }
            // Requests in flight are waited for: their outcome would be unknown.
            let unanswered_max = self.concurrency.max(UNANSWERED_MIN);
            stopped.set(stopped.get() || tally.unanswered >= unanswered_max);
            progress.show(read_bytes, || self.summary(&tally));
        }
        drop(progress);
        self.finish(&tally, stopped.get())
    }

    fn settle(
        &self,
        progress: &Progress,
        tally: &mut Tally,
        number: u64,
        outcome: Result<Line, Failure>,
    ) -> Result<Reader, Failure> {
        tally.unanswered = match &outcome {
            Err(failure) if failure.exit() == Exit::Unavailable => tally.unanswered + 1,
            _ => 0,
        };
        let mut reader = Reader::Reads;
        let (text, failure) = match outcome {
            Ok(Line::Done(text)) => {
                tally.done += 1;
                (text, None)
            }
            Ok(Line::Skipped) => {
                tally.skipped += 1;
                (String::new(), None)
            }
            Ok(Line::Differs(text, failure)) => {
                tally.differing += 1;
                (text, Some(failure))
            }
            Err(failure) => {
                tally.failed += 1;
                (String::new(), Some(failure))
            }
        };
        if !text.is_empty() {
            reader = progress.beside(|| output::print(&text))?;
        }
        if let Some(failure) = failure {
            tally.exit = tally.exit.max(Some(failure.exit()));
            if tally.lines.len() <= LINES_NAMED {
                tally.lines.push(number);
            }
            let failure = failure.about(format!("line {number}")).with("line", number);
            progress.aside(|| failure.say(self.format));
        }
        Ok(reader)
    }

    fn summary(&self, tally: &Tally) -> String {
        let mut text = format!("{} {}", tally.done + tally.differing, self.verb);
        for (number, what) in [
            (tally.differing, "of them in another state than exported"),
            (tally.skipped, "already existed"),
            (tally.failed, "failed"),
        ] {
            if number > 0 {
                text.push_str(&format!(", {number} {what}"));
            }
        }
        text
    }

    fn finish(&self, tally: &Tally, stopped: bool) -> Result<String, Failure> {
        let mut message = self.summary(tally);
        let Some(exit) = tally.exit else {
            if self.format == Format::Table {
                output::say(&format!("lockstep: {message}"));
            }
            return Ok(String::new());
        };
        let named: Vec<_> = tally.lines.iter().take(LINES_NAMED).collect();
        let noun = if named.len() == 1 { "line" } else { "lines" };
        let more = if tally.lines.len() > LINES_NAMED {
            ", ..."
        } else {
            ""
        };
        message.push_str(&format!(": {noun} {}{more}", output::list(&named)));
        if stopped {
            message.push_str(&format!(
                "; given up after line {}: no node answered",
                tally.last
            ));
        }
        Err(Failure::incomplete(exit, message)
            .with(self.verb, tally.done + tally.differing)
            .with("skipped", tally.skipped)
            .with("differing", tally.differing)
            .with("failed", tally.failed)
            .with("last_line", tally.last))
    }
}
