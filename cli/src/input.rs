//! Input from files and pipes: limited in size, and errors have their line.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::str::FromStr;

use lockstep_machine::json::explain;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use tokio::sync::mpsc;

use super::Failure;

/// The largest document: more than any node takes in one message.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most documents in one file: as many as a cluster has machines unless that limit is raised.
const DOCUMENTS_MAX: usize = 1000;
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
            let message = format!("{self} is larger than {DOCUMENT_BYTES_MAX} bytes; split it");
            return Err(Failure::input("document_too_large", message));
        }
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("{self}: line {line} is not UTF-8 text");
            Failure::input("malformed_document", message).with("line", line)
        })?;
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        if text.trim().is_empty() {
            return Err(self.empty());
        }
        let language = self.language(&text);
        Ok((text, language))
    }

    /// The documents of a YAML stream or of a file of JSON values, in order. Those without content are left
    /// out.
    pub(super) fn documents(&self) -> Result<Vec<Document>, Failure> {
        let (text, language) = self.document()?;
        let found = match language {
            Language::Json => json_values(&text),
            Language::Yaml => lockstep_document::documents(&text),
        };
        match found.len() {
            0 => return Err(self.empty()),
            1..=DOCUMENTS_MAX => {}
            _ => {
                let message = format!("{self} has more than {DOCUMENTS_MAX} documents; split it");
                return Err(Failure::input("document_too_large", message));
            }
        }
        let is_alone = found.len() == 1;
        let read = |(number, (lines_before, text)): (usize, (usize, &str))| {
            let blank = &text[..text.len() - text.trim_start().len()];
            Document {
                number: (!is_alone).then_some(number),
                line: lines_before + newlines(blank) + 1,
                text: "\n".repeat(lines_before) + text,
                language,
            }
        };
        Ok((1..).zip(found).map(read).collect())
    }

    fn empty(&self) -> Failure {
        Failure::input("malformed_document", format!("{self} is empty"))
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

const BYTE_ORDER_MARK: char = '\u{feff}';

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Which of the file's documents it is, from 1, if there are several.
    pub(super) number: Option<usize>,
    /// The line of the file on which it begins, from 1.
    pub(super) line: usize,
    /// Its text, below as many empty lines as the file has before it: a fault's line is that of the file.
    pub(super) text: String,
    pub(super) language: Language,
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The JSON values of a text, each with the number of lines before it. What cannot be parsed is the last one.
fn json_values(text: &str) -> Vec<(usize, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let (mut found, mut start, mut lines_before) = (vec![], 0, 0);
    while let Some(value) = values.next() {
        let end = match value {
            Ok(_) => values.byte_offset(),
            Err(_) => text.len(),
        };
        found.push((lines_before, &text[start..end]));
        if end == text.len() || found.len() > DOCUMENTS_MAX {
            break;
        }
        lines_before += newlines(&text[start..end]);
        start = end;
    }
    found
}

/// The lines that are not blank, as they come.
pub(super) struct Lines<T> {
    /// How many bytes there will be, where that is known.
    pub(super) bytes: Option<u64>,
    pub(super) entries: mpsc::Receiver<Result<Entry<T>, Failure>>,
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

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let message = explain(&error.to_string());
        // Within one line, only the column says something.
        match error.column() {
            0 => message,
            column => format!("{message} (column {column})"),
        }
    })
}

/// Parses a document of JSON or YAML; a fault has its path, its line and its column.
pub(super) fn decode<T: DeserializeOwned>(
    source: &Source,
    text: &str,
    language: Language,
) -> Result<T, Failure> {
    // The document itself.
    let mut path = ".".to_owned();
    let decoded = match language {
        Language::Json => {
            let mut reader = serde_json::Deserializer::from_str(text);
            located(&mut reader, &mut path)
                .and_then(|value| reader.end().map(|()| value))
                .map_err(|error| {
                    let message = explain(&error.to_string());
                    (message, error.line(), error.column())
                })
        }
        Language::Yaml => yaml(text, &mut path),
    };
    decoded.map_err(|(message, line, column)| {
        let subject = match path.as_str() {
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

/// Sets the path of a fault: `operations[0].create.id`.
fn located<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    reader: D,
    path: &mut String,
) -> Result<T, D::Error> {
    serde_path_to_error::deserialize(reader).map_err(|error| {
        *path = error.path().to_string();
        error.into_inner()
    })
}

fn yaml<T: DeserializeOwned>(text: &str, path: &mut String) -> Result<T, (String, usize, usize)> {
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
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        located(reader, path)
    })
    .map_err(|error| {
        let at = error.location();
        let (line, column) = at.map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
        (lockstep_document::explain_yaml(&error), line, column)
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

    #[test]
    fn json_values_are_told_apart_and_keep_their_lines() {
        assert_eq!(json_values(" {}\n"), [(0, " {}")]);
        assert_eq!(
            json_values("{}\n\n{\n}{\"a\": 1}\n"),
            [(0, "{}"), (0, "\n\n{\n}"), (3, "{\"a\": 1}")]
        );
        assert_eq!(
            json_values("{}\n{]\n{}"),
            [(0, "{}"), (0, "\n{]\n{}")],
            "what cannot be parsed is left to the cluster to explain"
        );
        assert_eq!(json_values(&"{}".repeat(5000)).len(), DOCUMENTS_MAX + 1);
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

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "is never read")]
    struct Sample {
        id: lockstep_machine::InstanceId,
        version: Option<lockstep_machine::Version>,
        metadata: Option<lockstep_machine::Metadata>,
        kinds: Option<Vec<Kind>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "is never read")]
    enum Kind {
        Check(u8),
        Create,
    }

    #[test]
    fn no_fault_of_a_document_or_a_line_has_a_word_of_a_library() {
        let good = r#"{"id": "a/b", "version": 1, "metadata": {"by": "ann"}, "kinds": ["create", {"check": 7}]}"#;
        let mut texts: Vec<String> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
        for wrong in [
            "7", "-1", "1.5", "null", "true", "[]", "{}", "\"x\"", "x", "*a", "&a",
        ] {
            let places = good.match_indices(": ").map(|(at, found)| at + found.len());
            texts.extend(places.map(|at| {
                let end = good[at..].find([',', '}']).map_or(good.len(), |it| at + it);
                format!("{}{wrong}{}", &good[..at], &good[end..])
            }));
        }
        let odd = [
            "{\"a\": 1}",
            "id: a\nid: b",
            "<<: {}",
            "- a",
            "a: b: c",
            "'",
            "? [a]\n: b",
            "!!set {a}",
        ];
        texts.extend(odd.map(str::to_owned));
        let mut faults = 0;
        for text in texts {
            let json = decode::<Sample>(&Source::Stdin, &text, Language::Json);
            let yaml = decode::<Sample>(&Source::Stdin, &text, Language::Yaml);
            let said = [json, yaml].into_iter().filter_map(Result::err);
            let said: Vec<String> = said.map(|it| it.message().to_owned()).collect();
            let line = parse::<Sample>(&text).err();
            for message in said.into_iter().chain(line) {
                let word = lockstep_machine::library_words(&message);
                assert_eq!(word, None, "{text}: {message}");
                faults += 1;
            }
        }
        assert!(faults > 200, "{faults}");
    }
}
