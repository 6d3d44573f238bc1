//! What is printed, and where.

use std::io::{self, Write};
use std::thread;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, Row, Table, Width};
use lockstep_client::{Address, Event, Metadata};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Failure;
use super::paint::{NOTE, paint};

/// How data is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// Only where a definition is printed.
    Yaml,
}

impl Format {
    /// What most commands can print.
    pub(super) fn parser() -> impl TypedValueParser<Value = Format> {
        Self::one_of(&["table", "json"])
    }

    /// What a command that prints a definition can print.
    pub(super) fn parser_with_yaml() -> impl TypedValueParser<Value = Format> {
        Self::one_of(&["table", "json", "yaml"])
    }

    fn one_of(names: &'static [&'static str]) -> impl TypedValueParser<Value = Format> {
        PossibleValuesParser::new(names).map(|name| match name.as_str() {
            "json" => Format::Json,
            "yaml" => Format::Yaml,
            _ => Format::Table,
        })
    }
}

/// Writes data to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::local(format!("cannot write to stdout: {error}"))),
    }
}

/// The result of a command that may print nothing for long. The command ends early when no process reads its
/// output any more, which it would otherwise notice only as it prints.
pub(super) async fn while_read<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (closed, unread) = oneshot::channel();
    // A thread, because the runtime waits for its own blocking tasks when the program ends.
    thread::spawn(move || {
        let stdout = io::stdout();
        // Errors and hang-ups are reported without being asked for. A file has neither.
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        if retry_on_intr(|| poll(&mut polled, None)).is_ok() {
            let _ = closed.send(());
        }
    });
    tokio::select! {
        done = work => done,
        Ok(()) = unread => Err(Failure::reader_gone()),
    }
}

/// Writes a line to stderr, if it is open.
pub(super) fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Prints a note about an endpoint to stderr, in the form of failures.
pub(super) fn note(format: Format, code: &str, message: &str, endpoint: Address) {
    if format == Format::Json {
        let endpoint = endpoint.as_str();
        let note = json!({ "code": code, "message": message, "endpoint": endpoint });
        say(&json!({ "note": note }).to_string());
    } else {
        say(&format!("{} {message}", paint(NOTE, "lockstep:")));
    }
}

/// One JSON document on one line, for streams.
pub(super) fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

/// One JSON document, ended by a newline.
pub(super) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A table without lines, so that `awk` and `column` can read it too.
pub(super) fn table(header: impl Into<Row>, rows: impl IntoIterator<Item: Into<Row>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    lines(&mut table)
}

/// A table of values: the header of each column, and its cell in the row of a value.
macro_rules! columns {
    ($values:expr, |$value:pat_param| { $($header:literal: $cell:expr,)+ }) => {
        $crate::output::table(
            [$($header),+],
            $values.into_iter().map(|$value| [$(ToString::to_string(&$cell)),+]),
        )
    };
}
pub(super) use columns;

fn lines(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// A table that is printed in parts: the header once, and columns that never become narrower.
#[derive(Debug)]
pub(super) struct Pages<const N: usize> {
    header: [&'static str; N],
    widths: [u16; N],
    begun: bool,
}

impl<const N: usize> Pages<N> {
    pub(super) fn new(header: [&'static str; N]) -> Self {
        Self {
            header,
            widths: [0; N],
            begun: false,
        }
    }

    /// The next part.
    pub(super) fn page(&mut self, rows: impl IntoIterator<Item = [String; N]>) -> String {
        const PADDING: u16 = 2;
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_header(self.header)
            .add_rows(rows);
        let widest = table.column_max_content_widths();
        for ((column, width), widest) in table.column_iter_mut().zip(&mut self.widths).zip(widest) {
            *width = widest.max(*width);
            let least = Width::Fixed(width.saturating_add(PADDING));
            column.set_constraint(ColumnConstraint::LowerBoundary(least));
        }
        let text = lines(&mut table);
        if std::mem::replace(&mut self.begun, true) {
            return text
                .split_once('\n')
                .map_or_else(String::new, |(_, rows)| rows.to_owned());
        }
        text
    }
}

/// A number of things, in words that fit.
pub(super) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// Metadata in a row; a dash for none. What holds a space is quoted.
pub(super) fn metadata(metadata: &Metadata) -> String {
    let pair = |(key, value): (&str, &str)| match value.contains([' ', '"', ',']) {
        true => format!("{key}={value:?}"),
        false => format!("{key}={value}"),
    };
    let pairs: Vec<_> = metadata.iter().map(pair).collect();
    filled(&pairs.join(" "))
}

/// What an event is about: an instance, or a machine.
pub(super) fn subject(event: &Event) -> String {
    event
        .instance()
        .map_or_else(|| event.machine.to_string(), |id| id.to_string())
}

/// A value that may be missing.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Text that may be empty.
pub(super) fn filled(text: &str) -> String {
    or_dash(Some(text).filter(|text| !text.is_empty()))
}

pub(super) fn yes_or_dash(is: bool) -> &'static str {
    if is { "yes" } else { "-" }
}

/// Names in a row; a dash for none.
pub(super) fn list<T: ToString>(names: &[T]) -> String {
    filled(
        &names
            .iter()
            .map(T::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_columns_of_text_and_nothing_else() {
        let rows = [
            ["1".to_owned(), "2".to_owned()],
            ["three".to_owned(), "4".to_owned()],
        ];
        assert_eq!(table(["A", "B"], rows), "A      B\n1      2\nthree  4\n");
    }

    #[test]
    fn a_table_in_parts_has_one_header_and_keeps_its_columns() {
        let mut pages = Pages::new(["A", "B"]);
        let row = |a: &str, b: &str| [[a.to_owned(), b.to_owned()]];
        assert_eq!(pages.page(row("three", "1")), "A      B\nthree  1\n");
        assert_eq!(pages.page(row("2", "2")), "2      2\n");
        assert_eq!(pages.page(row("seventeen", "3")), "seventeen  3\n");
    }
}
