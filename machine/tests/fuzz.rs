//! Whatever comes in from outside as text or bytes: documents and snapshot records. Nothing panics,
//! and what is accepted can be written and read again.
//!
//! What was found once is in `fuzz.proptest-regressions` and is tried first; PROPTEST_CASES makes it
//! try more.

use std::sync::Arc;

use lockstep_machine::{
    Batch, Command, Create, Definition, DefinitionInvalid, DocumentError, EventCursor, EventName,
    GlobalRevision, IdempotencyKey, InstanceId, Limits, MachineName, Metadata, Move, MoveFrom,
    Operation, Origin, Request, Restore, SessionId, SinkChange, SinkCheckpoint, SinkCommand,
    SinkName, State, StateDefinition, StateName, Timeout, Timestamp, Transaction, Transition,
    Trigger,
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
    [
        Definition::parse_json(text, &limits()),
        Definition::parse_yaml(text, &limits()),
    ]
}

/// What is accepted reads as the same when written out, in either language; what is not says why.
fn holds(read: &Result<Definition, DocumentError>) -> Result<(), TestCaseError> {
    match read {
        Ok(definition) => {
            for again in [
                Definition::parse_json(&definition.to_json(), &limits()),
                Definition::parse_yaml(&definition.to_yaml(), &limits()),
                Definition::parse_yaml(&definition.to_json(), &limits()),
            ] {
                prop_assert_eq!(again.as_ref(), Ok(definition), "{}", definition.to_yaml());
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
                if definition.validate().is_err() {
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

/// A state with some of everything that a snapshot holds.
fn filled() -> State {
    let mut state = State::default();
    let order = r#"{"name":"order","initial":"open","states":{"open":{"timeout":{"after":"1h","to":"paid"}},"paid":{}},"transitions":[{"from":"open","to":"paid","event":"pay"}]}"#;
    let order = Definition::parse_json(order, &limits()).unwrap();
    let id = |name: &str| InstanceId::new("order", name).unwrap();
    let create = |name: &str| Create {
        instance: id(name),
        version: None,
        metadata: Metadata::new([("by", "ann")]).unwrap(),
    };
    let pay = |name: &str| Transition {
        instance: id(name),
        trigger: Trigger::Event(EventName::new("pay").unwrap()),
        expect_state: None,
        expect_revision: None,
        metadata: Metadata::default(),
    };
    let failing = vec![
        Operation::Create(create("3")),
        Operation::Create(create("1")),
    ];
    let commands = [
        Command::Define(Arc::new(order)),
        Command::Create(create("1")),
        Command::Create(create("2")),
        Command::Transition(pay("1")),
        Command::Transaction(Transaction {
            operations: failing,
        }),
        Command::Transition(pay("1")),
    ];
    let mut apply = |(n, command): (u64, Command)| {
        let origin = Origin {
            session: SessionId(n % 2 + 1),
            sequence: n,
            answered_below: 1,
        };
        let key = Some(IdempotencyKey::new(format!("key-{n}")).unwrap());
        let request = Request {
            origin,
            key,
            command,
        };
        state.apply(&Batch {
            stamp: Timestamp(1000 + n),
            requests: vec![request],
        });
        state.clone()
    };
    let moved = (1..).zip(commands).map(&mut apply).last().unwrap();
    (100..)
        .zip(sink_commands(&moved))
        .for_each(|it| drop(apply(it)));
    state
}

/// What puts something of everything into the record of a sink.
fn sink_commands(state: &State) -> Vec<Command> {
    let events = state.events_after(EventCursor::default(), 9).unwrap();
    let (term, seeded) = (7, GlobalRevision(1));
    let cursor = events[1].cursor();
    let checkpoint = SinkCheckpoint { cursor, seeded };
    let bury = |event: &Arc<_>| SinkChange::Bury {
        term,
        event: Arc::clone(event),
        reason: "too odd".to_owned(),
    };
    let mut changes = vec![SinkChange::Advance { term, checkpoint }, SinkChange::Seed];
    changes.extend(events.iter().map(bury));
    changes.push(SinkChange::Replay {
        which: Some(cursor),
    });
    let sink = SinkName::new("audit").unwrap();
    let command = |change| SinkCommand {
        sink: sink.clone(),
        change,
    };
    let commands = changes.into_iter().map(command);
    commands.map(|it| Command::Sink(Box::new(it))).collect()
}

fn restored(records: &[Vec<u8>]) -> Option<State> {
    let mut restore = Restore::new();
    for record in records {
        restore.push(record).ok()?;
    }
    restore.finish().ok()
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
        prop_assert_eq!(definition.validate(), Ok(()));
        holds(&Ok(definition))?;
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(
        definition in definition(),
        damages in prop::collection::vec((prop::collection::vec(any::<Index>(), 0..5), damage()), 1..4),
    ) {
        let mut document: Value = serde_json::from_str(&definition.to_json()).unwrap();
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
        for text in [definition.to_json(), definition.to_yaml()] {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, with.iter().copied());
            for read in &both(&String::from_utf8_lossy(&bytes)) {
                holds(read)?;
            }
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_means_what_it_says(
        damages in prop::collection::vec(
            (any::<Index>(), any::<Index>(), 0..4u8, prop::collection::vec(any::<u8>(), 0..6)),
            1..3,
        ),
    ) {
        let mut records: Vec<_> = filled().records().collect();
        for (which, at, kind, bytes) in damages {
            let which = which.index(records.len());
            match kind {
                0 => drop(records.remove(which)),
                1 => records.insert(which, bytes),
                2 => {
                    let end = records.len() - 1;
                    records.swap(which, at.index(end));
                }
                _ => {
                    let record = &mut records[which];
                    let at = at.index(record.len() + 1);
                    let end = (at + bytes.len()).min(record.len());
                    record.splice(at..end, bytes);
                }
            }
            if records.len() < 2 {
                break;
            }
        }
        if let Some(state) = restored(&records) {
            prop_assert_eq!(state.records().collect::<Vec<_>>(), records);
        }
    }

    #[test]
    fn any_bytes_are_no_snapshot(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
        prop_assert!(restored(&records).is_none());
    }
}

#[test]
fn what_is_damaged_was_whole_before() {
    let records: Vec<_> = filled().records().collect();
    assert!(records.len() > 15, "{}", records.len());
    assert_eq!(
        restored(&records).map(|it| it.hash()),
        Some(filled().hash())
    );
}
