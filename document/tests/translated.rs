//! Definitions translated from public examples of other state machine tools, a folder for each tool, with their
//! expected results in the folder's `expected.txt`: `good`, or the whole message. Documents left in the form of
//! the tool are called `refused-`. `LOCKSTEP_WRITE_EXPECTED=1` rewrites the files: review the diff, a user must
//! be able to act on each message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use lockstep_document::{parse_json, parse_yaml, to_json, to_yaml};
use lockstep_machine::{Definition, DocumentError, Limits, library_words};

const TOOLS: [&str; 5] = [
    "aasm",
    "pytransitions",
    "states_language",
    "statesman",
    "xstate",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str, text: &str) -> Result<Definition, DocumentError> {
    let limits = Limits::default();
    match name.ends_with(".json") {
        true => parse_json(text, &limits),
        false => parse_yaml(text, &limits),
    }
}

/// Checks that a definition is valid and reads the same when it is written out.
fn check(name: &str, definition: &Definition) {
    let limits = Limits::default();
    assert_eq!(definition.validate(&limits), Ok(()), "{name}");
    for again in [
        parse_json(&to_json(definition), &limits),
        parse_yaml(&to_yaml(definition), &limits),
    ] {
        assert_eq!(again.as_ref(), Ok(definition), "{name}");
    }
    let warnings = definition.warnings();
    let unreachable = warnings.iter().find(|it| it.code.name() == "unreachable");
    assert_eq!(unreachable, None, "{name}");
}

#[test]
fn a_translated_example_applies_and_an_untranslated_one_says_what_it_is() {
    let (mut good, mut refused) = (0, 0);
    for tool in TOOLS {
        let folder = repository().join("document/tests/corpus").join(tool);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "expected.txt" {
                continue;
            }
            let outcome = match read(&name, &fs::read_to_string(&path).unwrap()) {
                Ok(definition) => {
                    check(&name, &definition);
                    good += 1;
                    "good".to_owned()
                }
                Err(error) => {
                    refused += 1;
                    let message = error.to_string();
                    assert_eq!(library_words(&message), None, "{name}: {message}");
                    message
                }
            };
            assert_eq!(outcome != "good", name.starts_with("refused-"), "{name}");
            found.insert(name, outcome);
        }
        let lines: String = found.iter().fold(String::new(), |mut lines, (name, it)| {
            let _ = writeln!(lines, "{name}: {it}");
            lines
        });
        let expected = folder.join("expected.txt");
        if std::env::var_os("LOCKSTEP_WRITE_EXPECTED").is_some() {
            fs::write(&expected, &lines).unwrap();
        }
        assert_eq!(lines, fs::read_to_string(expected).unwrap(), "{tool}");
    }
    assert_eq!((good, refused), (42, 8));
}

/// The blocks of a language in a page.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let opening = format!("```{language}\n");
    let parts = page.split(opening.as_str()).skip(1);
    parts
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect()
}

#[test]
fn every_definition_of_the_page_about_translating_applies() {
    let page = fs::read_to_string(repository().join("docs/TRANSLATING.md")).unwrap();
    let definitions = blocks(&page, "yaml");
    assert!(definitions.len() >= 6, "{}", definitions.len());
    for text in definitions {
        let definition = read("yaml", text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        check(text, &definition);
    }
}

#[test]
fn what_the_page_translates_is_recognized_when_it_is_given_untranslated() {
    let page = fs::read_to_string(repository().join("docs/TRANSLATING.md")).unwrap();
    for (language, tool, count) in [
        ("js", "XState machine", 1),
        ("json", "Amazon States Language", 1),
        ("xml", "SCXML", 1),
        ("python", "pytransitions", 1),
        ("ruby", "statesman|AASM", 2),
    ] {
        let examples = blocks(&page, language);
        assert_eq!(examples.len(), count, "{language}");
        for text in examples {
            for name in ["a.json", "a.yaml"] {
                let message = read(name, text).unwrap_err().to_string();
                let named = tool.split('|').any(|tool| message.contains(tool));
                assert!(named, "{message}\n{text}");
                assert!(message.contains("docs/TRANSLATING.md"), "{message}");
            }
        }
    }
}
