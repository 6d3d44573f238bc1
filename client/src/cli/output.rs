//! What is printed, and where.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Row, Table};
use serde_json::Value;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Writes data to stdout. A reader that closed the pipe has what it wanted.
pub(super) fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("lockstep: cannot write to stdout: {error}"));
            ExitCode::from(3)
        }
    }
}

/// Writes a line to stderr; with stderr closed there is nobody left to tell.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One JSON document, ended by a newline.
pub(super) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A table without lines, so that `awk` and `column` can read it too.
pub(super) fn table(header: impl Into<Row>, rows: impl IntoIterator<Item: Into<Row>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// A value that may be missing.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Text that may be empty.
pub(super) fn filled(text: &str) -> String {
    or_dash(Some(text).filter(|text| !text.is_empty()))
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

/// A point of cluster time; a dash for 0, which stands for none.
pub(super) fn time(ms: u64) -> String {
    // The last millisecond of the year 9999: the calendar of RFC 3339 ends there.
    const MS_MAX: u64 = 253_402_300_799_999;
    match UNIX_EPOCH.checked_add(Duration::from_millis(ms)) {
        _ if ms == 0 => "-".to_owned(),
        Some(time) if ms <= MS_MAX => humantime::format_rfc3339_millis(time).to_string(),
        _ => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_can_be_printed() {
        assert_eq!(time(0), "-");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(time(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(253_402_300_800_000), "253402300800000 ms");
        assert_eq!(time(u64::MAX), "18446744073709551615 ms");
    }

    #[test]
    fn a_table_is_columns_of_text_and_nothing_else() {
        let rows = [
            ["1".to_owned(), "2".to_owned()],
            ["three".to_owned(), "4".to_owned()],
        ];
        assert_eq!(table(["A", "B"], rows), "A      B\n1      2\nthree  4\n");
    }
}
