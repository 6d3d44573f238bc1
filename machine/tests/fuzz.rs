//! Arbitrary input: documents and snapshot records. Nothing panics, and accepted input survives a round
//! trip.
//!
//! Past failures are in `fuzz.proptest-regressions` and run first; PROPTEST_CASES sets the number of cases.

mod fixtures;

use std::sync::Arc;

use lockstep_machine::*;
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

/// The records of a backup that comes in pieces, if it is one.
fn backed_up(bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, BackupError> {
    let (mut decoder, mut records) = (BackupDecoder::new(), vec![]);
    for piece in bytes.chunks(step) {
        decoder.push(piece);
        while let Some(part) = decoder.next_part()? {
            if let BackupPart::Record(record) = part {
                records.push(record);
            }
        }
    }
    decoder.finish().map(|_| records)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_backup_is_refused(damages in damages(), step in 1..5000usize) {
        let state = filled();
        let whole: Vec<u8> = backup_pieces(&BackupHeader::of(&state, 9, 2), &state).flatten().collect();
        prop_assert_eq!(backed_up(&whole, step).map(|it| it.len()), Ok(state.records().count()));
        let bytes = damaged(&whole, &damages);
        prop_assert_eq!(backed_up(&bytes, step).is_ok(), bytes == whole);
    }

    #[test]
    fn any_bytes_are_no_backup(bytes in prop::collection::vec(any::<u8>(), 0..300), begun in any::<bool>()) {
        let bytes = if begun { [&b"LOCKBKUP"[..], &bytes].concat() } else { bytes };
        prop_assert!(backed_up(&bytes, 7).is_err());
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

/// What is done to good bytes.
fn damages() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        // Heads of arrays, maps, texts and numbers that promise as much as they can.
        prop::sample::select(vec![
            vec![0x9b; 9],
            vec![0xbb, 0xff, 0xff, 0xff, 0xff],
            vec![0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0x9f; 11],
            vec![0x1b; 9],
        ]),
    ];
    prop::collection::vec((any::<Index>(), 0..8usize, bytes), 1..5)
}

fn damaged(bytes: &[u8], damages: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, length, with) in damages {
        let at = at.index(bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.iter().copied());
    }
    bytes
}

/// What is read means the same when it is written again, and applying it does not panic.
fn payload_holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(batch) = Batch::decode(bytes) {
        prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
    }
    match DecodedBatch::decode(bytes) {
        Ok(batch) => drop(filled().apply_decoded(&batch)),
        Err(error) => prop_assert!(error.to_string().len() < 1000, "{error}"),
    }
    Ok(())
}

fn outcome_holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(outcome) = OUTCOME_FORMAT.decode::<Outcome>(bytes) {
        let again = OUTCOME_FORMAT.encode(&outcome);
        prop_assert_eq!(OUTCOME_FORMAT.decode(&again), Ok(outcome));
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_a_log_entry_or_an_outcome_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        payload_holds(&bytes)?;
        outcome_holds(&bytes)?;
        let _ = RequestBody::validate(&bytes);
    }

    #[test]
    fn a_damaged_log_entry_is_read_or_refused(damages in damages()) {
        payload_holds(&damaged(&fixtures::batch().encode(), &damages))?;
    }

    #[test]
    fn a_damaged_body_is_read_or_refused(which in any::<Index>(), damages in damages()) {
        let requests = fixtures::batch().requests;
        let EncodedRequest { origin, body } = requests[which.index(requests.len())].encode();
        let body = damaged(&body, &damages);
        let mut batch = EncodedBatch::new(Timestamp(1));
        batch.push(origin, &body);
        let payload = batch.into_bytes();
        // What a leader accepts never stops a node.
        if RequestBody::validate(&body).is_ok() {
            let stopped = DecodedBatch::decode(&payload).err();
            prop_assert_eq!(stopped, None);
        }
        payload_holds(&payload)?;
    }

    #[test]
    fn a_damaged_outcome_is_read_or_refused(which in any::<Index>(), damages in damages()) {
        let outcomes = fixtures::outcomes();
        outcome_holds(&damaged(&OUTCOME_FORMAT.encode(&outcomes[which.index(outcomes.len())]), &damages))?;
    }
}
