use proptest::prelude::*;

use super::*;
use crate::diagram::Diagram;
use crate::{to_json, to_yaml};

const ORDER: &str = r#"
name: order
description: An order, from the basket to the door
labels: {team: shop}
initial: open
states:
  open:
    timeout: {after: "15m", to: expired}
  paid:
    description: The money is there
    timeout: {after: 90000, to: open}
  "no":
  expired: {final: true}
  done: {final: true}
transitions:
  - {from: open, to: paid, event: pay}
  - {from: [paid, "no"], to: done}
  - from: "*"
    to: expired
    event: cancel
    description: The customer changed their mind
"#;

fn yaml(text: &str) -> Result<Definition, DocumentError> {
    parse_yaml(text, &Limits::default())
}

fn json(text: &str) -> Result<Definition, DocumentError> {
    parse_json(text, &Limits::default())
}

fn faults(result: Result<Definition, DocumentError>) -> Vec<(String, &'static str)> {
    match result {
        Err(DocumentError::Invalid(DefinitionInvalid(faults))) => faults
            .into_iter()
            .map(|it| (it.path, it.code.name()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn owned(pairs: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    pairs
        .iter()
        .map(|(path, code)| ((*path).to_owned(), *code))
        .collect()
}

#[test]
fn a_document_says_everything_a_definition_holds() {
    let order = yaml(ORDER).unwrap();
    assert_eq!(order.name.as_str(), "order");
    assert_eq!(order.labels.get("team"), Some("shop"));
    let names: Vec<_> = order.state_names().map(StateName::as_str).collect();
    assert_eq!(
        names,
        ["open", "paid", "no", "expired", "done"],
        "in the author's order"
    );
    let timeout = |at: usize| order.states[at].timeout.clone().unwrap();
    assert_eq!(
        (timeout(0).after_ms, timeout(0).to.as_str()),
        (15 * 60 * 1000, "expired")
    );
    assert_eq!(
        (timeout(1).after_ms, timeout(1).to.as_str()),
        (90_000, "open")
    );
    assert!(order.states[3].is_final && !order.states[0].is_final);
    assert_eq!(order.transitions[2].from, MoveFrom::Any);
    assert_eq!(
        order.transitions[2].description,
        "The customer changed their mind"
    );
    assert_eq!(order.steps().count(), 6);
}

#[test]
fn what_is_written_out_reads_as_the_same() {
    let mut odd = yaml(ORDER).unwrap();
    odd.description = "tab\t, line\n, \"quotes\", \\, é, \u{2028}, \u{feff}, 😀: # - {".to_owned();
    odd.states[0].description = "true".to_owned();
    odd.labels = Metadata::new([("a: b", "- 1"), ("~", "null"), ("#", " x ")]).unwrap();
    for definition in [yaml(ORDER).unwrap(), lockstep_machine::triad(), odd] {
        assert_eq!(
            yaml(&crate::to_yaml(&definition)).unwrap(),
            definition,
            "{}",
            crate::to_yaml(&definition)
        );
        assert_eq!(
            json(&crate::to_json(&definition)).unwrap(),
            definition,
            "{}",
            crate::to_json(&definition)
        );
        // Good JSON is good YAML.
        assert_eq!(yaml(&crate::to_json(&definition)).unwrap(), definition);
    }
}

#[test]
fn yaml_is_written_as_people_write_it() {
    let text = crate::to_yaml(&yaml(ORDER).unwrap());
    let expected = r#"name: order
description: An order, from the basket to the door
labels:
  team: shop
initial: open
states:
  open:
    timeout:
      after: 15m
      to: expired
  paid:
    description: The money is there
    timeout:
      after: 1m 30s
      to: open
  "no": {}
  expired:
    final: true
  done:
    final: true
transitions:
- from: open
  to: paid
  event: pay
- from:
  - paid
  - "no"
  to: done
- from: "*"
  to: expired
  event: cancel
  description: The customer changed their mind
"#;
    assert_eq!(text, expected);
}

#[test]
fn every_fault_of_a_document_is_reported_with_its_path() {
    let text = r#"
name: or/der
inital: open
description: [1]
labels: {team: 7, team: x}
states:
  open: {timeout: {after: soon, to: expired, too: x}, final: maybe}
  paid: 7
  open: {}
  "bad name": {}
transitions:
  - {to: paid, event: pay}
  - {from: open, to: paid, event: 12}
  - {from: {}, to: open, color: red}
  - {from: open, to: nowhere}
  - 5
  - {from: paid, to: nowhere}
"#;
    let expected = [
        ("inital", "unknown_field"),
        ("name", "invalid_name"),
        ("initial", "missing"),
        ("description", "wrong_type"),
        ("labels.team", "duplicate_key"),
        ("labels.team", "wrong_type"),
        ("states.open", "duplicate_key"),
        ("states.open.final", "wrong_type"),
        ("states.open.timeout.too", "unknown_field"),
        ("states.open.timeout.after", "invalid_duration"),
        ("states.paid", "wrong_type"),
        ("states.bad name", "invalid_name"),
        ("transitions[0].from", "missing"),
        ("transitions[1].event", "wrong_type"),
        ("transitions[2].color", "unknown_field"),
        ("transitions[2].from", "wrong_type"),
        ("transitions[4]", "wrong_type"),
        ("transitions[3].to", "unknown_state"),
        ("transitions[5].to", "unknown_state"),
    ];
    assert_eq!(faults(yaml(text)), owned(&expected));
    let error = yaml(text).unwrap_err();
    assert_eq!(error.code(), "invalid_definition");
    assert!(
        error.to_string().contains("did you mean \"initial\"?"),
        "{error}"
    );
}

#[test]
fn a_document_of_another_shape_is_reported() {
    for text in ["[]", "7", "null", "\"order\""] {
        assert_eq!(faults(json(text)), owned(&[("", "wrong_type")]), "{text}");
    }
    let missing = [
        ("name", "missing"),
        ("initial", "missing"),
        ("states", "missing"),
    ];
    assert_eq!(faults(json("{}")), owned(&missing));
    let list = r#"{"name": "m", "initial": "a", "states": ["a"]}"#;
    assert_eq!(faults(json(list)), owned(&[("states", "wrong_type")]));
}

#[test]
fn control_characters_and_long_names_are_refused() {
    let long = "n".repeat(65);
    let text = format!(
        r#"{{"name": "{long}", "initial": "a", "description": "\u0007", "states": {{"a": {{}}, "b\u0000": {{}}}}, "labels": {{"k": "\u001b"}}}}"#
    );
    let expected = [
        ("name", "invalid_name"),
        ("description", "invalid_text"),
        ("labels", "invalid_text"),
        ("states.b", "invalid_name"),
    ];
    assert_eq!(faults(json(&text)), owned(&expected));
}

#[test]
fn a_document_beyond_the_limit_is_not_looked_into() {
    let limits = Limits {
        document_bytes_max: 10,
        ..Limits::default()
    };
    let error = parse_json("{{{{{{{{{{{", &limits).unwrap_err();
    assert_eq!(error, DocumentError::TooLarge { bytes: 11, max: 10 });
    assert_eq!(error.code(), "definition_too_large");
    let error = parse_json("{", &limits).unwrap_err();
    assert_eq!(error.code(), "malformed_document");
}

#[test]
fn a_timeout_is_read_in_every_unit_and_bounded() {
    let after = |text: &str| {
        let text = format!(
            "{{name: m, initial: a, states: {{a: {{timeout: {{after: {text}, to: a}}}}}}}}"
        );
        yaml(&text).map(|it| it.states[0].timeout.as_ref().unwrap().after_ms)
    };
    assert_eq!(after("\"1h 30m\""), Ok(5_400_000));
    assert_eq!(after("10ms"), Ok(10));
    assert_eq!(after("2days"), Ok(172_800_000));
    assert_eq!(after("100years"), Ok(lockstep_machine::TIMEOUT_MS_MAX));
    for bad in [
        "9",
        "0",
        "-5",
        "1.5",
        "9ms",
        "101years",
        "99999999999999999999",
        "x",
        "\"\"",
        "[]",
        "true",
    ] {
        let path = "states.a.timeout.after";
        assert_eq!(
            faults(yaml(&format!(
                "{{name: m, initial: a, states: {{a: {{timeout: {{after: {bad}, to: a}}}}}}}}"
            )))[0]
                .0,
            path,
            "{bad}"
        );
    }
}

#[test]
fn ninety_days_are_written_as_90d() {
    let text = "{name: m, initial: a, states: {a: {timeout: {after: 90d, to: a}}}}";
    let definition = yaml(text).unwrap();
    let diagram = Diagram::of(&definition, None);
    for written in [
        to_json(&definition),
        to_yaml(&definition),
        diagram.svg().unwrap(),
        diagram.dot(),
        diagram.mermaid(),
    ] {
        assert!(written.contains("90d"), "{written}");
        assert!(!written.contains("month"), "{written}");
    }
}

/// A piece of a document: mostly words that mean something, and some that break it.
fn piece() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "name",
        "initial",
        "states",
        "transitions",
        "from",
        "to",
        "event",
        "timeout",
        "after",
        "final",
        "open",
        "paid",
        "true",
        "15m",
        "*",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "&a",
        "*a",
        "<<",
        "|",
        ">",
        "#",
        "---",
        "...",
        "!!map",
        "?",
        "\t",
        "\u{0}",
        "\u{85}",
        "é",
        "\\u0000",
        "1e999",
        "0x7f",
        ".inf",
        "~",
        "%YAML 1.2\n",
    ]);
    prop_oneof![8 => words.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_document_makes_the_reader_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        for read in [json(&text), yaml(&text)] {
            if let Err(error) = &read {
                prop_assert!(error.to_string().len() < 40_000, "{error}");
            }
            if let Ok(definition) = read {
                prop_assert_eq!(&yaml(&crate::to_yaml(&definition)).unwrap(), &definition);
            }
        }
    }

    #[test]
    fn no_damage_to_a_good_document_makes_the_reader_panic(
        at in 0..ORDER.len(),
        length in 0..20usize,
        with in piece(),
    ) {
        let end = (at + length).min(ORDER.len());
        let bytes = [&ORDER.as_bytes()[..at], with.as_bytes(), &ORDER.as_bytes()[end..]].concat();
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(definition) = yaml(&text) {
            definition.validate(&Limits::default()).unwrap();
            prop_assert_eq!(&json(&crate::to_json(&definition)).unwrap(), &definition);
        }
    }
}
