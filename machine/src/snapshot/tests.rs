use super::restore::RestoreError;
use super::*;
use crate::testing::*;
use crate::{Batch, CodecError, Command, Migrate, SinkChange, State};

/// A state with something in every table.
pub(super) fn state() -> State {
    let mut driver = Driver::with_order(Limits {
        keys_max: 2,
        key_retention_ms: 1000,
        sessions_max: 2,
        events_max: 9,
        ..Limits::default()
    });
    let temporary = ORDER.replace("order", "temporary");
    driver.run(Command::Define(definition(&temporary)));
    let machine = machine("temporary");
    driver.run(Command::DeleteDefinition(crate::DeleteDefinition {
        machine,
        version: None,
    }));
    for name in ["order/a", "order/b"] {
        let metadata = meta(&[("for", name)]);
        driver.run(Command::Create(crate::Create {
            metadata,
            ..create(name)
        }));
    }
    driver.run(Command::Transition(to("order/b", "paid")));
    let second = ORDER.replace("\"pay\"", "\"settle\"");
    driver.run(Command::Define(definition(&second)));
    let metadata = meta(&[("by", "ann")]);
    driver.run(Command::Migrate(Migrate {
        metadata,
        ..migrate("order/b", &[])
    }));
    driver.now += 1000;
    assert_eq!(driver.expire().fired, 1);
    driver.run(Command::Create(create("order/c")));
    keep_account_of_sinks(&mut driver);
    for (sequence, (to_state, key)) in [
        ("second", Some("k1")),
        ("first", Some("k2")),
        ("third", None),
    ]
    .into_iter()
    .enumerate()
    {
        let request = |session| crate::Request {
            origin: crate::Origin {
                session: SessionId(session),
                sequence: sequence as u64 + 1,
                answered_below: 1,
            },
            key: key.map(|key| IdempotencyKey::new(key).unwrap()),
            command: Command::Transition(to("triad/default", to_state)),
        };
        let stamp = Timestamp(2000 + sequence as u64);
        driver.state.apply(&Batch {
            stamp,
            requests: vec![request(7), request(8)],
        });
    }
    driver.state
}

/// A sink with two dead letters, of an event that is let go soon and of one that is kept, and one
/// with none.
fn keep_account_of_sinks(driver: &mut Driver) {
    let events = driver.events_after(2);
    let cursor = EventCursor::after(GlobalRevision(4));
    let seeded = GlobalRevision(2);
    let checkpoint = SinkCheckpoint { cursor, seeded };
    driver.run(sink(
        "audit",
        SinkChange::Advance {
            term: 3,
            checkpoint,
        },
    ));
    for revision in [3, 8] {
        let event = events.iter().find(|it| it.revision.0 == revision).unwrap();
        driver.run(sink("audit", bury(3, event, "it is too odd")));
    }
    driver.run(sink("hook", SinkChange::Seed));
}

pub(super) fn restore(records: &[Vec<u8>]) -> Result<State, RestoreError> {
    let mut restore = Restore::new();
    for record in records {
        restore.push(record)?;
    }
    restore.finish()
}

/// Why a snapshot is rejected after `damage`: the record's number and the reason.
pub(super) fn fault(damage: impl Fn(&mut Vec<Record>)) -> (u64, String) {
    let mut records = state().records().map(|it| decode(&it)).collect();
    damage(&mut records);
    let records: Vec<_> = records.iter().map(encode).collect();
    match restore(&records) {
        Err(RestoreError::Record { record, reason }) => (record, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restored_state_writes_the_records_it_was_read_from() {
    for state in [State::default(), state()] {
        let records: Vec<_> = state.records().collect();
        let restored = restore(&records).unwrap();
        assert_eq!(restored.records().collect::<Vec<_>>(), records);
        assert_eq!(restored.hash(), state.hash());
        assert_eq!(restored.limits(), state.limits());
    }
}

#[test]
fn the_first_state_has_the_hash_it_always_had() {
    // Changes only together with SNAPSHOT_FORMAT: nodes of two builds compare these.
    assert_eq!(
        State::default().hash().to_string(),
        "4:2a7c94e3547f9a71c01356e2cad8cb75"
    );
}

#[test]
fn a_snapshot_cut_short_is_truncated_wherever_it_ends() {
    let records: Vec<_> = state().records().collect();
    for end in 0..records.len() {
        match restore(&records[..end]) {
            Err(RestoreError::Truncated { records }) => assert_eq!(records, end as u64),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_record_cut_short_or_lengthened_is_refused() {
    let records: Vec<_> = state().records().collect();
    for (at, record) in records.iter().enumerate() {
        for end in 0..record.len() {
            let mut records = records.clone();
            records[at].truncate(end);
            assert!(restore(&records).is_err(), "record {at} cut at {end}");
        }
        let mut records = records.clone();
        records[at].push(0);
        assert!(restore(&records).is_err(), "record {at} lengthened");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_gives_the_state_it_spells() {
    let records: Vec<_> = state().records().collect();
    for at in 0..records.len() {
        for bit in 0..records[at].len() * 8 {
            let mut records = records.clone();
            records[at][bit / 8] ^= 1 << (bit % 8);
            if let Ok(mut state) = restore(&records) {
                let again: Vec<_> = state.records().collect();
                assert_eq!(restore(&again).unwrap().hash(), state.hash());
                state.apply(&Batch {
                    stamp: Timestamp(u64::MAX),
                    requests: vec![],
                });
            }
        }
    }
}

#[test]
fn another_builds_format_is_not_damage_whatever_follows_it() {
    match restore(&[vec![7, 255, 255]]) {
        Err(RestoreError::Newer(CodecError::UnknownFormat { found: 7, .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_accepted_after_a_fault_or_after_the_end() {
    let records: Vec<_> = state().records().collect();
    let mut restore = Restore::new();
    assert!(restore.push(&[]).is_err());
    assert!(restore.push(&records[0]).is_err());
    assert!(matches!(
        restore.finish(),
        Err(RestoreError::Truncated { records: 0 })
    ));

    let mut restore = Restore::new();
    records
        .iter()
        .for_each(|record| restore.push(record).unwrap());
    assert!(restore.push(records.last().unwrap()).is_err());
    assert!(restore.finish().is_err());
}

pub(super) type Damage<'a> = &'a dyn Fn(&mut Vec<Record>);

/// Damages one instance.
fn instance(at: usize, damage: impl Fn(&mut Instance)) -> impl Fn(&mut Vec<Record>) {
    move |it| match &mut it[at] {
        Record::Instance(_, instance) => damage(instance),
        other => panic!("{other:?}"),
    }
}

/// Damages one recent event.
fn event(at: usize, damage: impl Fn(&mut Event)) -> impl Fn(&mut Vec<Record>) {
    move |it| match &mut it[at] {
        Record::Event(event) => damage(Arc::make_mut(event)),
        other => panic!("{other:?}"),
    }
}

// The records: 0 header, 1 machine, 2 and 3 definitions, 4 to 6 instances (the first expired, the
// second migrated, the third waiting for its timeout), 7 machine, 8 definition, 9 instance,
// 10 retired machine, 11 to 19 events, 20 sink with 2 dead letters, 23 sink, 24 and 25 keys,
// 26 session with 3 replies, 30 session with 3 replies, 34 end.
#[test]
fn a_record_that_contradicts_another_is_refused_by_number() {
    let revision = crate::ids::Revision;
    let cases: [(u64, &str, Damage); 37] = [
        (1, "another type", &|it| {
            it.insert(1, Record::Header(Header::of(&state())))
        }),
        (1, "the definition has no machine", &|it| drop(it.remove(1))),
        (3, "is of version 2, which is not defined", &|it| {
            drop(it.drain(3..5))
        }),
        (2, "the machine before it has no definition", &|it| {
            drop(it.drain(2..7))
        }),
        (3, "it is out of order", &|it| it.swap(2, 3)),
        (4, "it is out of order", &|it| it.swap(3, 4)),
        (4, "it is out of order", &|it| it.insert(4, clone(&it[3]))),
        (5, "it is out of order", &|it| it.insert(5, clone(&it[4]))),
        (8, "the definition is of another machine", &|it| {
            it[8] = clone(&it[2])
        }),
        (3, "the version was never assigned", &|it| {
            it[1] = Record::Machine(machine("order"), Version(1));
        }),
        (
            6,
            "is in state \"fourth\", which is not",
            &instance(6, |it| it.state = name("fourth")),
        ),
        (
            6,
            "times are not in order",
            &instance(6, |it| it.created_at.0 += 1),
        ),
        (
            6,
            "times are not in order",
            &instance(6, |it| it.changed_at.0 += 1_000_000),
        ),
        (
            6,
            "deadline does not match",
            &instance(6, |it| it.deadline = None),
        ),
        (
            6,
            "deadline does not match",
            &instance(6, |it| it.deadline = Some(Timestamp(u64::MAX))),
        ),
        (
            5,
            "deadline does not match",
            &instance(5, |it| it.deadline = Some(Timestamp(2000))),
        ),
        (
            5,
            "history is not in order",
            &instance(5, |it| it.revision.0 += 1),
        ),
        (
            5,
            "history is not in order",
            &instance(5, move |it| it.revision = revision(0)),
        ),
        (
            5,
            "history does not end at",
            &instance(5, |it| it.state = name("done")),
        ),
        (10, "a retired machine is defined", &|it| {
            it[10] = Record::Retired(machine("order"), GlobalRevision(1), Version(1));
        }),
        (10, "retired at a later revision", &|it| {
            it[10] = Record::Retired(machine("x"), GlobalRevision(99), Version(1));
        }),
        (11, "it is out of order", &|it| it.swap(10, 11)),
        (12, "events are missing", &|it| drop(it.remove(12))),
        (13, "events are missing", &event(13, |it| it.position = 1)),
        (
            13,
            "later than cluster time",
            &event(13, |it| it.at.0 += 1_000_000),
        ),
        (18, "number of records differs", &|it| {
            drop(it.drain(18..34))
        }),
        (20, "more events than the limits", &|it| {
            let mut more = clone(&it[19]);
            if let Record::Event(event) = &mut more {
                Arc::make_mut(event).revision.0 += 1;
            }
            it.insert(20, more);
        }),
        (25, "the key is stored twice", &|it| it[25] = clone(&it[24])),
        (25, "it is out of order", &|it| it.swap(24, 25)),
        (20, "it is out of order", &|it| it.swap(19, 24)),
        (27, "the reply does not belong", &|it| it.swap(27, 31)),
        (28, "it is out of order", &|it| it.swap(27, 28)),
        (29, "replies of the session before it are missing", &|it| {
            drop(it.remove(29))
        }),
        (33, "replies of the last session are missing", &|it| {
            drop(it.remove(33))
        }),
        (24, "number of records differs", &|it| {
            drop(it.drain(24..34))
        }),
        (34, "there are more sessions", &|it| {
            let (answered_below, last_used, replies) = (1, 1, 0);
            it.insert(
                34,
                Record::Session {
                    id: SessionId(9),
                    answered_below,
                    last_used,
                    replies,
                },
            );
        }),
        (2, "initial: \"fourth\" is not one of", &|it| {
            if let Record::Definition(_, definition) = &mut it[2] {
                definition.initial = name("fourth");
            }
        }),
    ];
    for (record, reason, damage) in cases {
        let (at, why) = fault(damage);
        assert!(
            at == record && why.contains(reason),
            "{record}: {reason} -- got {at}: {why}"
        );
    }
}

/// Reads what [`encode`] wrote.
fn decode(record: &[u8]) -> Record {
    let record = FORMAT.open(record).unwrap_or(record);
    codec::decode("record", record).unwrap()
}

pub(super) fn clone(record: &Record) -> Record {
    decode(&encode(record))
}

#[test]
fn a_restored_state_continues_like_the_original() {
    let state = state();
    let restored = restore(&state.records().collect::<Vec<_>>()).unwrap();
    let at = Timestamp(10_000);
    assert_eq!(restored.due(at, 10), state.due(at, 10));
    assert_eq!(restored.due(at, 10).len(), 1, "the timer is rebuilt");
    assert_eq!(restored.next_deadline(), Some(Timestamp(3000)));
    assert_eq!(restored.usage(), state.usage());
    for name in ["order", "triad"] {
        assert_eq!(
            restored.totals(&machine(name)),
            state.totals(&machine(name))
        );
    }
    let from = EventCursor::after(GlobalRevision(4));
    assert_eq!(
        restored.events_after(from, 100),
        state.events_after(from, 100)
    );
    // Names and events are shared as before, which keeps the memory of a million instances small.
    let b = restored.instance(&id("order/b")).unwrap();
    let kept = b.history().next_back().unwrap();
    let recent = restored
        .events_after(EventCursor::after(GlobalRevision(7)), 1)
        .unwrap();
    assert!(Arc::ptr_eq(kept, &recent[0]));
}
