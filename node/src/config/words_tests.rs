//! No fault of a configuration has a word of a library.

use lockstep_machine::library_words;

use super::keys::{KEYS, SINK_KEYS};
use super::tests::{env, in_file};
use super::*;

const VALUES: [&str; 14] = [
    "x y",
    "-1",
    "1.5",
    "99999999999999999999",
    "\u{7}",
    "[",
    "ä",
    "http://",
    "http://a:b/c?d",
    "a:b",
    "a=b,a=b,=",
    "a/b/c",
    "=,=",
    "%",
];

const TOML: [&str; 22] = [
    "",
    "name",
    "name =",
    "name = x",
    "name = \"x",
    "name = \"a\"\nname = \"b\"",
    "[http",
    "[http]]",
    "[[http]]",
    "[http]\n[http]",
    "[sink]\nkind = \"webhook\"",
    "[sink.A]\nkind = \"webhook\"",
    "[sink.a]\nkind = \"x\"",
    "[sink.a]\nkind = 7\naddress = []",
    "name = 1979-05-27",
    "name = 0x",
    "name = 99999999999999999999999999999999999999999",
    "name = {}",
    "name = {a = 1",
    "name = [1, \"a\"]",
    "name = \"\\q\"",
    "a.b.c = 1\n\u{7}",
];

fn check(sources: &Sources, what: &str) -> usize {
    let faults = load(sources).err().map(|it| it.faults).unwrap_or_default();
    for fault in &faults {
        assert_eq!(library_words(fault), None, "{what}: {fault}");
    }
    faults.len()
}

#[test]
fn no_fault_of_a_variable_has_a_word_of_a_library() {
    let sinks = SINK_KEYS.iter().map(|key| key.env_in(Some("a")));
    let mut faults = 0;
    for name in KEYS.iter().map(|key| key.env()).chain(sinks) {
        for value in VALUES {
            let sources = Sources {
                env: env(&[(name.as_str(), value)]),
                ..Sources::default()
            };
            faults += check(&sources, &format!("{name}={value}"));
        }
    }
    assert!(faults > 500, "{faults}");
}

#[test]
fn no_fault_of_a_file_has_a_word_of_a_library() {
    for text in TOML {
        check(&in_file(text).1, text);
    }
    let sinks = SINK_KEYS.iter().map(|key| key.path_in(Some("a")));
    for path in KEYS.iter().map(|key| key.path.to_owned()).chain(sinks) {
        for value in [
            "1.5",
            "-1",
            "true",
            "[]",
            "[1]",
            "{}",
            "1979-05-27",
            "\"x y\"",
        ] {
            let text = format!("{path} = {value}");
            let (_folder, sources) = in_file(&text);
            check(&sources, &text);
        }
    }
}
