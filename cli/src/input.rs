//! Input from files and pipes: bounded, and with the line of every fault.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::failure::Failure;

/// The largest document: more than any node takes in one message.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The longest line of JSON lines: twice the most metadata that an instance may ever have.
const LINE_BYTES_MAX: u64 = 128 * 1024;
/// Lines read ahead.
const LINES_AHEAD: usize = 256;

/// Where a document comes from: a file, or `-` for standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Stdin,
    File(PathBuf),
}

/// The language of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Json,
    Yaml,
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Source::Stdin,
            path => Source::File(path.into()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stdin => f.write_str("standard input"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// The whole document and its language: by the file's extension, else by how it begins.
    pub(super) fn document(&self) -> Result<(String, Language), Failure> {
        let mut bytes = Vec::new();
        // One more than allowed tells "too large" from "just fits".
        let read = self
            .open()?
            .take(DOCUMENT_BYTES_MAX + 1)
            .read_to_end(&mut bytes);
        read.map_err(|error| self.unreadable(&error))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            let message = format!("{self} is larger than {DOCUMENT_BYTES_MAX} bytes");
            return Err(Failure::input("document_too_large", message));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("{self}: line {line} is not UTF-8 text");
            Failure::input("malformed_document", message).with("line", line)
        })?;
        if text.trim().is_empty() {
            let message = format!("{self} is empty");
            return Err(Failure::input("malformed_document", message));
        }
        let language = self.language(&text);
        Ok((text, language))
    }

    fn language(&self, text: &str) -> Language {
        let extension = match self {
            Source::File(path) => path.extension().and_then(|it| it.to_str()),
            Source::Stdin => None,
        };
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Language::Json,
            Some("yaml" | "yml") => Language::Yaml,
            _ if text.trim_start().starts_with(['{', '[']) => Language::Json,
            _ => Language::Yaml,
        }
    }

    /// Reads JSON lines ahead, on a thread of its own: standard input may block.
    pub(super) fn lines<T: DeserializeOwned + Send + 'static>(&self) -> Result<Lines<T>, Failure> {
        let file = self.open()?;
        let bytes = match self {
            Source::Stdin => None,
            // A pipe or a device has no length.
            Source::File(path) => length(path),
        };
        let (sender, entries) = mpsc::channel(LINES_AHEAD);
        std::thread::spawn(move || {
            let mut lines = RawLines::new(BufReader::new(file));
            while let Some(line) = lines.next_line().transpose() {
                let entry = line.map(|line| Entry {
                    number: line.number,
                    read_bytes: line.read_bytes,
                    value: line.value.and_then(|text| parse(&text)),
                });
                let is_last = entry.is_err();
                // The receiver is gone when the command has ended.
                if sender.blocking_send(entry).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Lines {
            source: self.clone(),
            bytes,
            entries,
        })
    }

    fn open(&self) -> Result<Box<dyn Read + Send>, Failure> {
        match self {
            Source::Stdin => Ok(Box::new(io::stdin())),
            Source::File(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(self.unreadable(&error)),
            },
        }
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::input("unreadable", format!("cannot read {self}: {error}"))
    }
}

fn length(path: &Path) -> Option<u64> {
    let metadata = path.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// Lines as they come, each with its number.
pub(super) struct Lines<T> {
    source: Source,
    /// How many bytes there will be, where that is known.
    pub(super) bytes: Option<u64>,
    entries: mpsc::Receiver<io::Result<Entry<T>>>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// From 1.
    pub(super) number: u64,
    /// How many bytes were read up to its end.
    pub(super) read_bytes: u64,
    /// The value, or what is wrong with it.
    pub(super) value: Result<T, String>,
}

impl<T> Lines<T> {
    /// The next line that is not blank; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Entry<T>>, Failure> {
        let next = self.entries.recv().await.transpose();
        next.map_err(|error| self.source.unreadable(&error))
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        // Within one line, only the column says something.
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or_default();
        match error.column() {
            0 => message.to_owned(),
            column => format!("{message} (column {column})"),
        }
    })
}

/// What is wrong with a document, and where.
struct Fault {
    message: String,
    /// The place in the document: `operations[0].create.id`.
    path: String,
    line: usize,
    column: usize,
}

/// Parses a document of JSON or YAML; a fault has its path, its line and its column.
pub(super) fn decode<T: DeserializeOwned>(
    source: &Source,
    text: &str,
    language: Language,
) -> Result<T, Failure> {
    let decoded = match language {
        Language::Json => json(text),
        Language::Yaml => yaml(text),
    };
    decoded.map_err(|fault| {
        let Fault {
            message,
            path,
            line,
            column,
        } = fault;
        let message = message.split(" at line ").next().unwrap_or_default();
        let subject = match path.as_str() {
            // The document itself.
            "." => source.to_string(),
            path => format!("{source}: {path}"),
        };
        let place = match line {
            0 => String::new(),
            line => format!(" (line {line}, column {column})"),
        };
        Failure::input("malformed_document", format!("{subject}: {message}{place}"))
            .with("path", path)
            .with("line", line)
            .with("column", column)
    })
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader);
    value
        .map_err(|error| (error.path().to_string(), error.into_inner()))
        .and_then(|value| {
            let ended = reader.end().map_err(|error| (".".to_owned(), error));
            ended.map(|()| value)
        })
        .map_err(|(path, error)| Fault {
            message: error.to_string(),
            path,
            line: error.line(),
            column: error.column(),
        })
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            max_nodes: 100_000,
            max_anchors: 0,
            max_aliases: 0,
            max_documents: 1,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    let mut path = ".".to_owned();
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        serde_path_to_error::deserialize(reader).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    })
    .map_err(|error| {
        let at = error.location();
        let (line, column) = at.map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default().to_owned();
        Fault {
            message,
            path,
            line,
            column,
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
    fn next_line(&mut self) -> io::Result<Option<Entry<String>>> {
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
                self.read_bytes += skip_line(&mut self.reader)?;
                Err(format!("it is longer than {LINE_BYTES_MAX} bytes"))
            };
            if value.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            return Ok(Some(Entry {
                number: self.number,
                read_bytes: self.read_bytes,
                value,
            }));
        }
    }
}

/// Skips to the end of the line; returns the number of bytes.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let held = reader.fill_buf()?;
        let (taken, is_end) = match held.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (held.len(), held.is_empty()),
        };
        reader.consume(taken);
        skipped += taken as u64;
        if is_end {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let mut lines = RawLines::new(BufReader::with_capacity(7, text));
        let mut found = vec![];
        while let Some(line) = lines.next_line().expect("memory can be read") {
            found.push((line.number, line.value.map(|text| text.trim().to_owned())));
        }
        assert_eq!(lines.read_bytes, text.len() as u64);
        found
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_are_skipped() {
        let expected = [(1, Ok("a".to_owned())), (4, Ok("b".to_owned()))];
        assert_eq!(lines(b"a\n\n  \nb"), expected);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_or_not_text_is_a_fault_of_its_own() {
        let long = "x".repeat(3 * LINE_BYTES_MAX as usize);
        let text = format!("a\n{long}\nb\n");
        let found = lines(text.as_bytes());
        assert_eq!(found.len(), 3);
        assert!(found[1].1.as_ref().is_err_and(|why| why.contains("longer")));
        assert_eq!(found[2], (3, Ok("b".to_owned())));
        assert!(lines(b"\xff\nb")[0].1.is_err());
        let exact = "x".repeat(LINE_BYTES_MAX as usize);
        assert!(lines(exact.as_bytes())[0].1.is_ok());
    }

    #[test]
    fn the_language_follows_the_extension_or_else_the_content() {
        for (name, text, language) in [
            ("a.json", "x", Language::Json),
            ("a.yaml", "{}", Language::Yaml),
            ("a.YML", "{}", Language::Yaml),
            ("a", " {\"x\": 1}", Language::Json),
            ("-", "[1]", Language::Json),
            ("-", "name: x", Language::Yaml),
        ] {
            let source: Source = name.parse().expect("any text is a source");
            assert_eq!(source.language(text), language, "{name}");
        }
    }
}
