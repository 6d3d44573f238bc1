//! JSON lines, read ahead.

use std::io::{self, BufRead, BufReader, Read};

use lockstep_machine::json::explain;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::{BYTE_ORDER_MARK, Source};
use crate::Failure;

/// The longest line of JSON lines: twice the most metadata that an instance may ever have.
const LINE_BYTES_MAX: u64 = 128 * 1024;
/// Lines read ahead.
const LINES_AHEAD: usize = 256;

impl Source {
    /// Reads JSON lines ahead, on a thread of its own: standard input may block.
    pub(crate) fn lines<T: DeserializeOwned + Send + 'static>(&self) -> Result<Lines<T>, Failure> {
        let mut lines = RawLines::new(BufReader::new(self.open()?));
        let bytes = match self {
            Source::Stdin => None,
            // A pipe or a device has no length.
            Source::File(path) => path.metadata().ok().filter(|it| it.is_file()),
        };
        let (sender, entries) = mpsc::channel(LINES_AHEAD);
        let source = self.clone();
        std::thread::spawn(move || {
            while let Some(entry) = lines.next_line().transpose() {
                let is_last = entry.is_err();
                let entry = entry.map_err(|error| source.unreadable(&error));
                // The receiver is gone when the command has ended.
                if sender.blocking_send(entry).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Lines {
            bytes: bytes.map(|metadata| metadata.len()),
            entries,
        })
    }
}

/// The lines that are not blank, as they come.
pub(crate) struct Lines<T> {
    /// How many bytes there will be, where that is known.
    pub(crate) bytes: Option<u64>,
    pub(crate) entries: mpsc::Receiver<Result<Entry<T>, Failure>>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// From 1.
    pub(crate) number: u64,
    /// How many bytes were read up to its end.
    pub(crate) read_bytes: u64,
    /// The value, or what is wrong with it.
    pub(crate) value: Result<T, String>,
}

pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let message = explain(&error.to_string());
        // Within one line, only the column says something.
        match error.column() {
            0 => message,
            column => format!("{message} (column {column})"),
        }
    })
}

/// Splits into lines without ever holding more than one of bounded length.
struct RawLines<R> {
    reader: R,
    number: u64,
    read_bytes: u64,
}

impl<R: BufRead> RawLines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            read_bytes: 0,
        }
    }

    /// The next line that is not blank.
    fn next_line<T: DeserializeOwned>(&mut self) -> io::Result<Option<Entry<T>>> {
        loop {
            let mut bytes = Vec::new();
            let limit = LINE_BYTES_MAX + 1;
            let read = (&mut self.reader)
                .take(limit)
                .read_until(b'\n', &mut bytes)? as u64;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.read_bytes += read;
            let is_whole = bytes.last() == Some(&b'\n') || read < limit;
            let value = if is_whole {
                String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
            } else {
                self.read_bytes += self.reader.skip_until(b'\n')? as u64;
                Err(format!("it is longer than {LINE_BYTES_MAX} bytes"))
            };
            let value = value.map(|text| match self.number {
                1 => text.trim_start_matches(BYTE_ORDER_MARK).to_owned(),
                _ => text,
            });
            if value.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            return Ok(Some(Entry {
                number: self.number,
                read_bytes: self.read_bytes,
                value: value.and_then(|text| parse(&text)),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<(u64, Result<u8, String>)> {
        let mut lines = RawLines::new(BufReader::with_capacity(7, text));
        let mut found = vec![];
        while let Some(line) = lines.next_line().expect("memory can be read") {
            found.push((line.number, line.value));
        }
        assert_eq!(lines.read_bytes, text.len() as u64);
        found
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_are_skipped() {
        assert_eq!(lines(b"1\n\n  \n2"), [(1, Ok(1)), (4, Ok(2))]);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_byte_order_mark_before_the_first_line_is_ignored() {
        assert_eq!(lines("\u{feff}1\n2".as_bytes()), [(1, Ok(1)), (2, Ok(2))]);
        assert_eq!(lines("\u{feff}\n2".as_bytes()), [(2, Ok(2))]);
        assert!(lines("1\n\u{feff}2".as_bytes())[1].1.is_err());
    }

    #[test]
    fn a_line_that_is_too_long_or_not_text_is_a_fault_of_its_own() {
        let long = "x".repeat(3 * LINE_BYTES_MAX as usize);
        let text = format!("1\n{long}\n2\n");
        let found = lines(text.as_bytes());
        assert_eq!(found.len(), 3);
        assert!(found[1].1.as_ref().is_err_and(|why| why.contains("longer")));
        assert_eq!(found[2], (3, Ok(2)));
        assert!(lines(b"\xff\n2")[0].1.is_err());
        let exact = " ".repeat(LINE_BYTES_MAX as usize - 1) + "1";
        assert!(lines(exact.as_bytes())[0].1.is_ok());
    }
}
