//! Hand-made documents that try to break the parser, each with its expected result in
//! `corpus/expected.txt`. `LOCKSTEP_WRITE_EXPECTED=1` rewrites that file: review the diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use lockstep_document::{parse_json, parse_yaml, to_json, to_yaml};
use lockstep_machine::{DefinitionInvalid, DocumentError, Limits, library_words};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// What comes of one document, in a line: `good`, or the code and every fault with its path.
fn outcome(name: &str, bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "not UTF-8".to_owned();
    };
    let limits = Limits {
        // The bounds behind the first one are what is tried.
        document_bytes_max: 4 << 20,
        ..Limits::default()
    };
    let read = match name.rsplit_once('.') {
        Some((_, "json")) => parse_json(text, &limits),
        _ => parse_yaml(text, &limits),
    };
    if let Err(error) = &read {
        let message = error.to_string();
        assert_eq!(library_words(&message), None, "{name}: {message}");
    }
    match read {
        Ok(definition) => {
            let again = parse_json(&to_json(&definition), &limits);
            assert_eq!(again.as_ref(), Ok(&definition), "{name}, as JSON");
            let again = parse_yaml(&to_yaml(&definition), &limits);
            assert_eq!(again.as_ref(), Ok(&definition), "{name}, as YAML");
            "good".to_owned()
        }
        Err(DocumentError::Invalid(DefinitionInvalid(faults))) => {
            let mut line = "invalid_definition".to_owned();
            for fault in faults.iter().take(30) {
                let _ = write!(line, " {:?}:{}", fault.path, fault.code.name());
            }
            if faults.len() > 30 {
                let _ = write!(line, " and {} more", faults.len() - 30);
            }
            line
        }
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{name}: {error}");
            error.code().to_owned()
        }
    }
}

/// Also where a document is read as the other language, or damaged.
#[test]
fn no_fault_of_a_document_has_a_word_of_a_library() {
    let limits = Limits::default();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let cut = text.char_indices().nth(text.chars().count() / 2);
        let cut = cut.map_or("", |(at, _)| &text[..at]);
        for text in [text.as_str(), cut] {
            for read in [parse_json(text, &limits), parse_yaml(text, &limits)] {
                let message = read
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default();
                assert_eq!(library_words(&message), None, "{path:?}: {message}");
            }
        }
    }
}

#[test]
fn every_document_has_the_expected_result() {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        // The folders are those of `translated.rs`.
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name != "expected.txt" {
            let outcome = outcome(&name, &fs::read(&path).unwrap());
            found.insert(name, outcome);
        }
    }
    assert!(found.len() > 60, "{}", found.len());
    let lines: String = found
        .iter()
        .fold(String::new(), |mut lines, (name, outcome)| {
            let _ = writeln!(lines, "{name}: {outcome}");
            lines
        });
    let expected = folder().join("expected.txt");
    if std::env::var_os("LOCKSTEP_WRITE_EXPECTED").is_some() {
        fs::write(&expected, &lines).unwrap();
    }
    let expected = fs::read_to_string(expected).unwrap();
    for (found, expected) in lines.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(lines.lines().count(), expected.lines().count());
}
