//! Whatever comes in from outside as text or bytes: documents and snapshot records. Nothing panics,
//! and what is accepted can be written and read again.
//!
//! What was found once is in `fuzz.proptest-regressions` and is tried first; PROPTEST_CASES makes it
//! try more.

use std::sync::Arc;

use lockstep_machine::{
    Batch, Command, Create, EventCursor, EventName, GlobalRevision, IdempotencyKey, InstanceId,
    Limits, Metadata, Operation, Origin, Request, Restore, SessionId, SinkChange, SinkCheckpoint,
    SinkCommand, SinkName, State, Timestamp, Transaction, Transition, Trigger,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

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

/// A state with some of everything that a snapshot holds.
fn filled() -> State {
    let mut state = State::default();
    let order = r#"{"name":"order","initial":"open","states":{"open":{"timeout":{"after":"1h","to":"paid"}},"paid":{}},"transitions":[{"from":"open","to":"paid","event":"pay"}]}"#;
    let order = lockstep_document::parse_json(order, &limits()).unwrap();
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
            let again: Vec<_> = state.records().collect();
            prop_assert_eq!(restored(&again).map(|it| it.hash()), Some(state.hash()));
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
