use super::tests::{Damage, clone, fault, restore, state};
use super::*;
use crate::event::EventKind;
use crate::testing::{id, name};

/// Damages one dead letter.
fn letter(at: usize, damage: impl Fn(&mut DeadLetter)) -> impl Fn(&mut Vec<Record>) {
    move |it| match &mut it[at] {
        Record::DeadLetter(letter) => damage(letter),
        other => panic!("{other:?}"),
    }
}

/// Damages the place of a sink.
fn place(at: usize, damage: impl Fn(&mut SinkCheckpoint)) -> impl Fn(&mut Vec<Record>) {
    move |it| match &mut it[at] {
        Record::Sink {
            checkpoint: Some(checkpoint),
            ..
        } => damage(checkpoint),
        other => panic!("{other:?}"),
    }
}

// The records are those of `tests`: 15 the event of the second dead letter, 20 a sink with dead
// letters 21 and 22, 23 a sink, 24 and 25 keys.
#[test]
fn a_record_of_a_sink_that_contradicts_another_is_refused_by_number() {
    let cases: [(u64, &str, Damage); 17] = [
        (23, "it is out of order", &|it| {
            it.insert(23, clone(&it[20]))
        }),
        (23, "it is out of order", &|it| it[20] = clone(&it[23])),
        (22, "it is out of order", &|it| it.swap(21, 22)),
        (22, "it is out of order", &|it| {
            it.insert(22, clone(&it[21]))
        }),
        (24, "it is out of order", &|it| it.swap(23, 24)),
        (25, "it is out of order", &|it| {
            it.insert(25, clone(&it[21]))
        }),
        (20, "the dead letter has no sink", &|it| drop(it.remove(20))),
        (20, "it is out of order", &|it| it.swap(19, 20)),
        (33, "number of records differs", &|it| drop(it.remove(22))),
        (33, "number of records differs", &|it| drop(it.remove(23))),
        (
            20,
            "ahead of the revision",
            &place(20, |it| it.cursor.revision.0 = 13),
        ),
        (
            20,
            "ahead of the revision",
            &place(20, |it| it.seeded.0 = 13),
        ),
        (22, "has no attempts", &letter(22, |it| it.attempts = 0)),
        (
            22,
            "reason is too long",
            &letter(22, |it| it.reason = "x".repeat(1025)),
        ),
        (
            22,
            "times are not in order",
            &letter(22, |it| it.rejected_at.0 += 1),
        ),
        (
            21,
            "times are not in order",
            &letter(21, |it| it.tried_at.0 += 1_000_000),
        ),
        (
            22,
            "not among the recent ones",
            &letter(22, |it| {
                Arc::make_mut(&mut it.event).to = Some(name("sent"))
            }),
        ),
    ];
    for (record, reason, damage) in cases {
        let (at, why) = fault(damage);
        assert!(
            at == record && why.contains(reason),
            "{record}: {reason} -- got {at}: {why}"
        );
    }
}

#[test]
fn a_dead_letter_of_an_event_that_never_was_is_refused() {
    let (at, why) = fault(letter(22, |it| {
        Arc::make_mut(&mut it.event).revision.0 = 13;
    }));
    assert_eq!(at, 22);
    assert!(why.contains("not among the recent ones"), "{why}");
}

#[test]
fn a_dead_letter_of_a_state_must_stand_for_one() {
    let (at, why) = fault(letter(22, |it| {
        Arc::make_mut(&mut it.event).kind = EventKind::Seeded;
    }));
    assert_eq!(at, 22);
    assert!(why.contains("was not part of a backfill"), "{why}");
}

#[test]
fn a_restored_sink_is_as_it_was_and_shares_its_events() {
    let state = state();
    let restored = restore(&state.records().collect::<Vec<_>>()).unwrap();
    assert!(restored.sinks().eq(state.sinks()));
    assert_eq!(restored.hash(), state.hash());
    let audit = restored.sink("audit").unwrap();
    assert_eq!((audit.term, audit.letters().len()), (3, 2));
    let letter = audit.letters().next_back().unwrap();
    let instance = restored.instance(&id("order/b")).unwrap();
    let kept = instance.history().next_back().unwrap();
    assert!(Arc::ptr_eq(&letter.event, kept));
}
