//! Arbitrary and damaged documents: the parser never panics, and an accepted definition survives being
//! written and parsed again.
//!
//! `fuzz.proptest-regressions` keeps what failed once; `PROPTEST_CASES` sets how many cases run.

use lockstep_document::{parse_json, parse_yaml, to_json, to_yaml};
use lockstep_machine::{
    Definition, DefinitionInvalid, DocumentError, EventName, Limits, MachineName, Metadata, Move,
    MoveFrom, StateDefinition, StateName, Timeout,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

fn config() -> ProptestConfig {
    let found = FileFailurePersistence::Direct("tests/fuzz.proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(found)),
        ..ProptestConfig::default()
    }
}

fn limits() -> Limits {
    Limits::default()
}

fn both(text: &str) -> [Result<Definition, DocumentError>; 2] {
    [parse_json(text, &limits()), parse_yaml(text, &limits())]
}

/// What is accepted reads as the same when written out, in either language; what is not says why.
fn holds(read: &Result<Definition, DocumentError>) -> Result<(), TestCaseError> {
    match read {
        Ok(definition) => {
            for again in [
                parse_json(&to_json(definition), &limits()),
                parse_yaml(&to_yaml(definition), &limits()),
                parse_yaml(&to_json(definition), &limits()),
            ] {
                prop_assert_eq!(again.as_ref(), Ok(definition), "{}", to_yaml(definition));
            }
        }
        Err(DocumentError::Invalid(DefinitionInvalid(faults))) => {
            prop_assert!(!faults.is_empty() && faults.len() <= 101);
            prop_assert!(faults.iter().all(|it| !it.message.is_empty()));
        }
        Err(error) => prop_assert!(error.to_string().len() < 1000, "{error}"),
    }
    Ok(())
}

/// A good name that a reader of YAML could take for something else.
fn name() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "true",
        "null",
        "no",
        "0",
        "007",
        "1e3",
        "0x7f",
        "0o7",
        "1_000",
        "2026-01-01",
        "1.5",
        "y",
        "a..b",
        "z-",
        "NaN",
    ]);
    prop_oneof![3 => "[A-Za-z0-9][A-Za-z0-9._-]{0,63}", 1 => odd.prop_map(str::to_owned)]
}

/// Text without control characters, but with everything else.
fn text() -> impl Strategy<Value = String> {
    let any_text = any::<String>().prop_map(|it| {
        let plain = |c: &char| !c.is_control();
        it.chars().filter(plain).take(60).collect()
    });
    let odd = select(vec![
        "", " ", "# a", "- b", "a: b", "'", "\"", "\\", "|", "~", "\u{feff}", "\u{2028}",
    ]);
    prop_oneof![2 => any_text, 1 => odd.prop_map(str::to_owned)]
}

/// A good definition.
fn definition() -> impl Strategy<Value = Definition> {
    let states = prop::collection::btree_map(
        name(),
        (
            text(),
            prop::option::of((10..u64::from(u32::MAX), any::<Index>())),
        ),
        1..8,
    );
    let moves = prop::collection::vec(
        (
            any::<Index>(),
            any::<Index>(),
            any::<bool>(),
            prop::option::of(name()),
            text(),
        ),
        0..12,
    );
    let labels = prop::collection::btree_map(text(), text(), 0..3);
    (name(), text(), labels, states, any::<Index>(), moves).prop_map(
        |(name, description, labels, states, initial, moves)| {
            let names: Vec<_> = states
                .keys()
                .map(|it| StateName::new(it).unwrap())
                .collect();
            let at = |index: Index| names[index.index(names.len())].clone();
            let states = states
                .iter()
                .map(|(name, (description, timeout))| StateDefinition {
                    name: StateName::new(name).unwrap(),
                    description: description.clone(),
                    is_final: false,
                    timeout: timeout.map(|(after_ms, to)| Timeout {
                        after_ms,
                        to: at(to),
                    }),
                });
            let labels: Vec<_> = labels
                .into_iter()
                .filter(|(key, _)| !key.is_empty() && key.len() <= 64)
                .collect();
            let mut definition = Definition {
                name: MachineName::new(name).unwrap(),
                description,
                labels: Metadata::new(labels).unwrap_or_default(),
                initial: at(initial),
                states: states.collect(),
                transitions: vec![],
            };
            for (from, to, any, event, description) in moves {
                let from = if any {
                    MoveFrom::Any
                } else {
                    MoveFrom::States(vec![at(from)])
                };
                let event = event.map(|it| EventName::new(it).unwrap());
                definition.transitions.push(Move {
                    from,
                    to: at(to),
                    event,
                    description,
                });
                // One that contradicts another is left out.
                if definition.validate(&Limits::default()).is_err() {
                    definition.transitions.pop();
                }
            }
            definition
        },
    )
}

/// Any JSON.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        name().prop_map(Value::from),
        text().prop_map(Value::from),
        Just(json!("*")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

#[derive(Debug, Clone)]
enum Damage {
    Replace(Value),
    Remove,
    Rename(String),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        value().prop_map(Damage::Replace),
        Just(Damage::Remove),
        name().prop_map(Damage::Rename),
    ]
}

/// Damages the value that the walk comes to; each step of it picks a child.
fn apply(document: &mut Value, steps: &[Index], damage: &Damage) {
    let [step, rest @ ..] = steps else {
        if let Damage::Replace(with) = damage {
            *document = with.clone();
        }
        return;
    };
    match document {
        Value::Array(list) if !list.is_empty() => {
            let at = step.index(list.len());
            if rest.is_empty() && matches!(damage, Damage::Remove) {
                list.remove(at);
            } else {
                apply(&mut list[at], rest, damage);
            }
        }
        Value::Object(map) if !map.is_empty() => {
            let Some(key) = map.keys().nth(step.index(map.len())).cloned() else {
                return;
            };
            match damage {
                Damage::Remove if rest.is_empty() => drop(map.remove(&key)),
                Damage::Rename(to) if rest.is_empty() => {
                    let value = map.remove(&key).unwrap_or_default();
                    map.insert(to.clone(), value);
                }
                _ => apply(map.entry(key).or_insert(Value::Null), rest, damage),
            }
        }
        _ => apply(document, &[], damage),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), printable in "[ -~\n\t]{0,400}") {
        for read in [both(&text), both(&printable)].iter().flatten() {
            holds(read)?;
        }
    }

    #[test]
    fn a_good_definition_reads_as_the_same_when_written_out(definition in definition()) {
        prop_assert_eq!(definition.validate(&Limits::default()), Ok(()));
        holds(&Ok(definition))?;
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(
        definition in definition(),
        damages in prop::collection::vec((prop::collection::vec(any::<Index>(), 0..5), damage()), 1..4),
    ) {
        let mut document: Value = serde_json::from_str(&to_json(&definition)).unwrap();
        for (steps, damage) in &damages {
            apply(&mut document, steps, damage);
        }
        for read in &both(&document.to_string()) {
            holds(read)?;
        }
    }

    #[test]
    fn damaged_bytes_of_a_good_document_are_read_or_refused(
        definition in definition(),
        at in any::<Index>(),
        length in 0..9usize,
        with in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        for text in [to_json(&definition), to_yaml(&definition)] {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, with.iter().copied());
            for read in &both(&String::from_utf8_lossy(&bytes)) {
                holds(read)?;
            }
        }
    }
}
