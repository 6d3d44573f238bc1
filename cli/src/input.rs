//! Input from files and pipes: limited in size, and errors have their line.
//!
//! A [`Source`] is a file or standard input. *documents* splits it into definitions, *decode* reads it as one value,
//! *lines* reads it line by line.

mod decode;
mod documents;
mod lines;

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

pub(super) use decode::decode;
pub(super) use documents::Document;
pub(super) use lines::Lines;

use super::Failure;

/// The largest document: more than any node takes in one message.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
const BYTE_ORDER_MARK: char = '\u{feff}';

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

#[cfg(test)]
mod tests {
    use super::*;

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
