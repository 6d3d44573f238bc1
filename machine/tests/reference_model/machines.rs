//! The definitions in the generated traffic: a few names, several versions of each, one of them invalid.

use std::sync::Arc;

use lockstep_machine::{Definition, Limits, StateName};

/// Machine, form, document.
const DOCUMENTS: &[&str] = &[
    r#"{"name": "order", "initial": "open", "states": {
        "open": {"timeout": {"after": 300, "to": "done"}}, "paid": {}, "sent": {}, "done": {"final": true}},
        "transitions": [{"from": "open", "to": "paid", "event": "pay"},
            {"from": "open", "to": "paid", "event": "gift"}, {"from": "paid", "to": "sent"},
            {"from": "paid", "to": "paid", "event": "touch"}, {"from": "*", "to": "done", "event": "cancel"}]}"#,
    r#"{"name": "order", "initial": "open", "states": {
        "open": {"timeout": {"after": 100, "to": "open"}}, "paid": {"timeout": {"after": 50, "to": "open"}}, "done": {}},
        "transitions": [{"from": ["open", "done"], "to": "paid", "event": "pay"},
            {"from": "paid", "to": "done", "event": "pay"}, {"from": "done", "to": "open", "event": "reopen"}]}"#,
    r#"{"name": "device", "initial": "off", "states": {"off": {}, "on": {"timeout": {"after": 200, "to": "off"}}},
        "transitions": [{"from": "off", "to": "on"}, {"from": "on", "to": "off"}]}"#,
    r#"{"name": "device", "initial": "on", "states": {"on": {"timeout": {"after": 200, "to": "off"}}, "off": {}, "open": {}},
        "transitions": [{"from": "*", "to": "on", "event": "touch"}, {"from": "on", "to": "open"}]}"#,
    r#"{"name": "saga", "initial": "open", "states": {"open": {}, "lost": {}}}"#,
    r#"{"name": "door", "initial": "open", "states": {"open": {}}}"#,
    r#"{"name": "triad", "initial": "open", "states": {"open": {}}}"#,
];

/// All of them, and one that is not valid.
pub fn all() -> Vec<Arc<Definition>> {
    let read = |text: &&str| {
        lockstep_document::parse_json(text, &Limits::default()).expect("a good document")
    };
    let mut all: Vec<_> = DOCUMENTS.iter().map(read).collect();
    let mut bad = all[4].clone();
    bad.initial = StateName::new("nowhere").expect("a good name");
    all.push(bad);
    all.into_iter().map(Arc::new).collect()
}
