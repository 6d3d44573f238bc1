use std::sync::Arc;

use crate::testing::*;
use crate::*;

/// A state with three events about `order/1`, of the revisions 2 to 4.
fn moved(limits: Limits) -> (Driver, Vec<Arc<Event>>) {
    let mut driver = Driver::with_order(limits);
    driver.run(Command::Create(create("order/1")));
    driver.run(Command::Transition(to("order/1", "paid")));
    driver.run(Command::Transition(to("order/1", "sent")));
    let events = driver.events_after(1);
    assert_eq!(events.len(), 3);
    (driver, events)
}

impl Driver {
    fn sink(&mut self, change: SinkChange) -> u64 {
        let before = (self.state.revision(), self.events_after(0));
        let outcome = self.run(sink("audit", change));
        assert_eq!((self.state.revision(), self.events_after(0)), before);
        match outcome {
            Outcome::SinkChanged { affected } => affected,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, change: SinkChange) -> &'static str {
        let before = self.state.sink("audit").cloned();
        let rejection = self.rejected(sink("audit", change));
        assert_eq!(self.state.sink("audit").cloned(), before);
        rejection.code()
    }

    fn record(&self) -> &SinkRecord {
        self.state.sink("audit").unwrap()
    }

    /// Of each dead letter: revision, attempts, whether its replay is wanted.
    fn letters(&self) -> Vec<(u64, u32, bool)> {
        let letters = self.record().letters();
        letters
            .map(|it| (it.event.revision.0, it.attempts, it.replay_wanted))
            .collect()
    }
}

fn checkpoint(revision: u64, seeded: u64) -> SinkCheckpoint {
    SinkCheckpoint {
        cursor: EventCursor::after(GlobalRevision(revision)),
        seeded: GlobalRevision(seeded),
    }
}

fn settle(term: u64, event: &Event, refused: Option<&str>) -> SinkChange {
    SinkChange::Settle {
        term,
        cursor: event.cursor(),
        refused: refused.map(str::to_owned),
    }
}

#[test]
fn the_name_of_a_sink_is_small_letters_and_digits() {
    let longest = "a".repeat(SINK_NAME_LEN_MAX);
    for good in ["a", "audit2", &longest] {
        assert_eq!(SinkName::new(good).unwrap().as_str(), good);
    }
    let too_long = "a".repeat(SINK_NAME_LEN_MAX + 1);
    for bad in ["", "2audit", "Audit", "a-b", "a_b", "a.b", "é", &too_long] {
        assert!(SinkName::new(bad).is_err(), "{bad:?}");
        let bytes = codec::encode(bad);
        assert!(
            codec::decode::<SinkName>("name", &bytes).is_err(),
            "{bad:?}"
        );
    }
}

#[test]
fn a_claim_of_a_later_term_ends_those_of_earlier_ones() {
    let (mut driver, events) = moved(Limits::default());
    assert_eq!(driver.sink(SinkChange::Claim { term: 5 }), 1);
    assert_eq!(driver.sink(SinkChange::Claim { term: 5 }), 0);
    let fenced = Rejection::SinkFenced {
        sink: SinkName::new("audit").unwrap(),
        term: 5,
    };
    let text = "sink \"audit\" is claimed by the leader of term 5";
    assert_eq!(fenced.to_string(), text);
    let earlier = [
        SinkChange::Claim { term: 4 },
        SinkChange::Advance {
            term: 4,
            checkpoint: checkpoint(1, 1),
        },
        bury(4, &events[0], "no"),
        settle(4, &events[0], None),
        SinkChange::Seeding { term: 4 },
        SinkChange::Seeded { term: 4, asked: 1 },
    ];
    for change in earlier {
        assert_eq!(driver.rejected(sink("audit", change)), fenced);
    }
    // The first change by a runner of a later term also claims the sink.
    assert_eq!(driver.sink(bury(7, &events[0], "no")), 1);
    assert_eq!(driver.record().term, 7);
    assert_eq!(driver.refused(SinkChange::Claim { term: 6 }), "sink_fenced");
    // Other sinks are not affected.
    assert_eq!(
        driver.kind(sink("hook", SinkChange::Claim { term: 1 })),
        "sink_changed"
    );
}

#[test]
fn a_place_is_kept_and_never_ahead_of_the_revision() {
    let (mut driver, _) = moved(Limits::default());
    let advance = |cursor, seeded| SinkChange::Advance {
        term: 1,
        checkpoint: checkpoint(cursor, seeded),
    };
    assert_eq!(driver.sink(advance(4, 2)), 1);
    assert_eq!(driver.sink(advance(4, 2)), 0);
    for ahead in [advance(5, 2), advance(4, 5)] {
        assert_eq!(driver.sink(ahead), 0);
        assert_eq!(driver.record().checkpoint, Some(checkpoint(4, 2)));
    }
    // The checkpoint may go back, because the destination may have lost data.
    assert_eq!(driver.sink(advance(2, 2)), 1);
    assert_eq!(driver.record().checkpoint, Some(checkpoint(2, 2)));
}

#[test]
fn an_event_that_is_buried_again_counts_another_attempt() {
    let (mut driver, events) = moved(Limits::default());
    driver.now = 5000;
    assert_eq!(driver.sink(bury(1, &events[1], "too long")), 1);
    let letter = DeadLetter {
        event: events[1].clone(),
        reason: "too long".to_owned(),
        attempts: 1,
        rejected_at: Timestamp(5000),
        tried_at: Timestamp(5000),
        replay_wanted: false,
    };
    let cursor = events[1].cursor();
    assert_eq!(driver.record().letters.get(&cursor), Some(&letter));

    let which = Some(cursor);
    assert_eq!(driver.sink(SinkChange::Replay { which }), 1);
    driver.now = 6000;
    assert_eq!(driver.sink(bury(1, &events[1], "too odd")), 1);
    let again = DeadLetter {
        reason: "too odd".to_owned(),
        attempts: 2,
        tried_at: Timestamp(6000),
        ..letter
    };
    assert_eq!(driver.record().letters.get(&cursor), Some(&again));
}

#[test]
fn an_event_that_never_was_is_not_buried() {
    let (mut driver, events) = moved(Limits::default());
    let mut future = Event::clone(&events[2]);
    future.revision.0 += 1;
    assert_eq!(driver.sink(bury(0, &Arc::new(future), "no")), 0);
    assert_eq!(driver.state.sinks().count(), 0, "there is nothing to keep");
    // The stored event is the cluster's, not the one that the runner sent.
    let mut forged = Event::clone(&events[2]);
    forged.to = None;
    assert_eq!(driver.sink(bury(0, &Arc::new(forged), "no")), 1);
    let letter = driver.record().letters().next().unwrap();
    assert!(Arc::ptr_eq(&letter.event, &driver.events_after(3)[0]));
}

#[test]
fn an_event_that_is_no_longer_kept_can_still_be_buried() {
    let limits = Limits {
        events_max: 1,
        ..Limits::default()
    };
    let (mut driver, events) = moved(Limits::default());
    driver.run(configure(limits));
    let cursor = EventCursor::default();
    assert!(driver.state.events_after(cursor, 9).is_err());
    let change = bury(1, &events[0], "no");
    assert_eq!(driver.kind(sink("audit", change)), "sink_changed");
    assert_eq!(driver.letters(), [(2, 1, false)]);
}

#[test]
fn a_state_is_put_aside_until_the_states_are_written_again() {
    let (mut driver, events) = moved(Limits::default());
    let state = &driver.state;
    let (revision, at) = (state.revision(), state.now());
    let instance = state.instance(&id("order/1")).unwrap();
    let seeded = |revision, at| {
        let event = Event::seeded((revision, at), 7, &id("order/1"), instance);
        Arc::new(event)
    };
    let told = seeded(revision, at);
    let not_yet = [
        seeded(GlobalRevision(revision.0 + 1), at),
        seeded(revision, Timestamp(at.0 + 1_000_000)),
        Arc::new(Event {
            position: 7,
            ..Event::clone(&told)
        }),
        Arc::new(Event {
            name: None,
            ..Event::clone(&told)
        }),
    ];
    assert_eq!(told.kind.name(), "seeded");
    assert!(told.cursor() > events[2].cursor());
    assert!(told.cursor() < EventCursor::after(revision));
    for event in not_yet {
        assert_eq!(driver.sink(bury(0, &event, "no")), 0, "{event:?}");
    }
    driver.sink(bury(1, &events[1], "no"));
    assert_eq!(driver.sink(bury(1, &told, "no")), 1);
    assert_eq!(driver.sink(bury(1, &told, "no")), 1);
    assert_eq!(driver.letters(), [(3, 1, false), (4, 2, false)]);
    let mut restore = Restore::new();
    for record in driver.state.records() {
        restore.push(&record).unwrap();
    }
    let restored = restore.finish().unwrap();
    assert_eq!(restored.sink("audit"), driver.state.sink("audit"));

    assert_eq!(driver.sink(SinkChange::Seeding { term: 1 }), 1);
    assert_eq!(driver.letters(), [(3, 1, false)]);
    assert_eq!(driver.sink(SinkChange::Seeding { term: 1 }), 0);
}

#[test]
fn a_full_list_refuses_new_letters_but_not_those_that_are_there() {
    let limits = Limits {
        dead_letters_max: 2,
        ..Limits::default()
    };
    let (mut driver, events) = moved(limits);
    driver.sink(bury(1, &events[0], "no"));
    driver.sink(bury(1, &events[1], "no"));
    // A rejected change does not raise the term.
    let full = bury(2, &events[2], "no");
    assert_eq!(driver.refused(full.clone()), "too_many_dead_letters");
    assert_eq!(driver.sink(bury(1, &events[1], "still no")), 1);
    assert_eq!(driver.letters(), [(2, 1, false), (3, 2, false)]);
    let which = Some(events[0].cursor());
    assert_eq!(driver.sink(SinkChange::Discard { which }), 1);
    assert_eq!(driver.sink(full), 1);
}

#[test]
fn there_are_no_more_sinks_than_allowed() {
    let limits = Limits {
        sinks_max: 2,
        ..Limits::default()
    };
    let (mut driver, events) = moved(limits);
    let mut kind = |name, change| driver.kind(sink(name, change));
    assert_eq!(kind("a", SinkChange::Seed), "sink_changed");
    assert_eq!(kind("b", SinkChange::Claim { term: 1 }), "sink_changed");
    for change in [
        SinkChange::Seed,
        SinkChange::Claim { term: 1 },
        bury(1, &events[0], "no"),
    ] {
        assert_eq!(kind("c", change), "too_many_sinks");
    }
    assert_eq!(kind("a", SinkChange::Claim { term: 1 }), "sink_changed");
    assert_eq!(kind("b", SinkChange::Forget), "sink_changed");
    assert_eq!(kind("c", SinkChange::Seed), "sink_changed");
}

#[test]
fn one_letter_or_all_are_marked_and_settled() {
    let (mut driver, events) = moved(Limits::default());
    for event in &events {
        driver.sink(bury(1, event, "no"));
    }
    let which = Some(events[1].cursor());
    assert_eq!(driver.sink(SinkChange::Replay { which }), 1);
    let marked = [(2, 1, false), (3, 1, true), (4, 1, false)];
    assert_eq!(driver.letters(), marked);
    assert_eq!(driver.sink(SinkChange::Replay { which: None }), 3);
    let marked = [(2, 1, true), (3, 1, true), (4, 1, true)];
    assert_eq!(driver.letters(), marked);

    driver.now = 9000;
    assert_eq!(driver.sink(settle(1, &events[0], None)), 1);
    assert_eq!(driver.sink(settle(1, &events[1], Some("still no"))), 1);
    assert_eq!(driver.letters(), [(3, 2, false), (4, 1, true)]);
    let letter = driver.record().letters().next().unwrap();
    assert_eq!(
        (
            letter.reason.as_str(),
            letter.tried_at.0,
            letter.rejected_at.0
        ),
        ("still no", 9000, 1000)
    );
    // One that is gone needs no settling.
    assert_eq!(driver.sink(settle(1, &events[0], None)), 0);
    assert_eq!(driver.sink(settle(1, &events[0], Some("no"))), 0);
    assert_eq!(
        driver.refused(SinkChange::Replay {
            which: Some(events[0].cursor())
        }),
        "unknown_dead_letter"
    );
}

#[test]
fn one_letter_or_all_are_discarded() {
    let (mut driver, events) = moved(Limits::default());
    let which = Some(events[1].cursor());
    assert_eq!(driver.sink(SinkChange::Discard { which: None }), 0);
    assert_eq!(driver.sink(SinkChange::Replay { which: None }), 0);
    assert_eq!(driver.state.sinks().count(), 0, "there is nothing to keep");
    let unknown = driver.rejected(sink("audit", SinkChange::Discard { which }));
    assert_eq!(unknown.to_string(), "sink audit has no dead letter 3-0");
    for event in &events {
        driver.sink(bury(1, event, "no"));
    }
    assert_eq!(driver.sink(SinkChange::Discard { which }), 1);
    assert_eq!(
        driver.refused(SinkChange::Discard { which }),
        "unknown_dead_letter"
    );
    assert_eq!(driver.letters(), [(2, 1, false), (4, 1, false)]);
    assert_eq!(driver.sink(SinkChange::Discard { which: None }), 2);
    assert!(driver.letters().is_empty());
    assert_eq!(driver.record().term, 1);
}

#[test]
fn a_seed_is_wanted_until_it_is_done() {
    let (mut driver, _) = moved(Limits::default());
    let seeded = |asked| SinkChange::Seeded { term: 2, asked };
    assert_eq!(driver.sink(SinkChange::Seed), 1);
    assert!(driver.record().seed_wanted());
    assert_eq!(driver.sink(SinkChange::Claim { term: 2 }), 1);
    // A change by an operator has no term.
    assert_eq!(driver.sink(SinkChange::Seed), 1);
    // The backfill that began before the second request.
    assert_eq!(driver.sink(seeded(1)), 1);
    assert_eq!(driver.sink(seeded(1)), 0);
    assert!(driver.record().seed_wanted());
    assert_eq!(driver.sink(seeded(2)), 1);
    assert!(!driver.record().seed_wanted());
    // No more backfills were requested, and completed ones stay completed.
    assert_eq!(driver.sink(seeded(9)), 0);
    assert_eq!(driver.sink(seeded(1)), 0);
    assert_eq!(driver.sink(SinkChange::Seed), 1);
    assert!(driver.record().seed_wanted());
}

#[test]
fn a_sink_that_is_forgotten_leaves_nothing() {
    let (mut driver, events) = moved(Limits::default());
    let before = driver.state.records().count();
    assert_eq!(driver.sink(SinkChange::Forget), 0);
    driver.sink(bury(9, &events[0], "no"));
    assert_eq!(driver.sink(SinkChange::Forget), 1);
    assert_eq!(driver.state.sink("audit"), None);
    // But for the replies, of which there is one.
    assert_eq!(driver.state.records().count(), before);
    assert_eq!(driver.sink(SinkChange::Claim { term: 1 }), 1);
}

#[test]
fn smaller_limits_leave_what_is_stored() {
    let (mut driver, events) = moved(Limits::default());
    driver.sink(bury(1, &events[0], "no"));
    driver.sink(bury(1, &events[1], "no"));
    driver.run(sink("hook", SinkChange::Seed));
    let limits = Limits {
        sinks_max: 1,
        dead_letters_max: 1,
        ..Limits::default()
    };
    driver.run(configure(limits));
    assert_eq!(driver.state.sinks().count(), 2);
    assert_eq!(driver.letters(), [(2, 1, false), (3, 1, false)]);
    let full = bury(1, &events[2], "no");
    assert_eq!(driver.refused(full), "too_many_dead_letters");
    assert_eq!(driver.sink(settle(1, &events[0], Some("no"))), 1);
    let used = |setting| used(&driver.state, setting);
    assert_eq!(
        (used(Setting::SinksMax), used(Setting::DeadLettersMax)),
        (2, 2)
    );
}

#[test]
fn a_reason_is_cut_between_characters() {
    let (mut driver, events) = moved(Limits::default());
    let reason = |driver: &Driver| driver.record().letters().next().unwrap().reason.clone();
    let even = "é".repeat(1000);
    driver.sink(bury(1, &events[0], &even));
    assert_eq!(reason(&driver), "é".repeat(512));
    let odd = format!("x{even}");
    driver.sink(settle(1, &events[0], Some(&odd)));
    assert_eq!(reason(&driver), format!("x{}", "é".repeat(511)));
    driver.sink(bury(1, &events[0], "short"));
    assert_eq!(reason(&driver), "short");
}

#[test]
fn letters_are_paged_in_order_of_their_events() {
    let (mut driver, events) = moved(Limits::default());
    for event in events.iter().rev() {
        driver.sink(bury(1, event, "no"));
    }
    let revisions = |after: Option<EventCursor>| -> Vec<u64> {
        let letters = driver.record().letters_after(after);
        letters.map(|it| it.event.revision.0).collect()
    };
    assert_eq!(revisions(None), [2, 3, 4]);
    assert_eq!(revisions(Some(events[0].cursor())), [3, 4]);
    assert_eq!(revisions(Some(EventCursor::after(GlobalRevision(3)))), [4]);
    assert_eq!(revisions(Some(events[2].cursor())), [0; 0]);
}

#[test]
fn a_transaction_that_fails_leaves_the_sinks_alone() {
    let (mut driver, events) = moved(Limits::default());
    driver.sink(bury(1, &events[0], "no"));
    let operations = vec![
        Operation::Create(create("order/2")),
        Operation::Create(create("order/1")),
    ];
    let transaction = Command::Transaction(Transaction { operations });
    assert_eq!(driver.kind(transaction), "operation_failed");
    assert_eq!(driver.letters(), [(2, 1, false)]);
}

#[test]
fn the_same_key_gets_the_first_answer_of_a_sink_again() {
    let (mut driver, events) = moved(Limits::default());
    driver.sink(bury(1, &events[0], "no"));
    let all = || sink("audit", SinkChange::Discard { which: None });
    let first = driver.keyed(Some("once"), all());
    assert_eq!(first.outcome, Outcome::SinkChanged { affected: 1 });
    let again = driver.keyed(Some("once"), all());
    assert_eq!((again.outcome, again.replayed), (first.outcome, true));
}
