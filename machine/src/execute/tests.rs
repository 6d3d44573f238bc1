use crate::testing::*;
use crate::*;

fn order() -> Driver {
    Driver::with_order(Limits::default())
}

fn define(text: &str) -> Command {
    Command::Define(definition(text))
}

fn forget(name: &str, version: Option<u32>) -> Command {
    let machine = machine(name);
    Command::DeleteDefinition(DeleteDefinition {
        machine,
        version: version.map(Version),
    })
}

/// Another version of the machine: the event `pay` has another name.
fn next_order(event: &str) -> String {
    ORDER.replace("\"pay\"", &format!("{event:?}"))
}

#[test]
fn an_equal_definition_changes_nothing_and_a_different_one_is_the_next_version() {
    let mut driver = Driver::new(Limits::default());
    let expect = |version, created| {
        let warnings = vec![];
        Outcome::Defined(Defined {
            machine: machine("order"),
            version: Version(version),
            created,
            warnings,
        })
    };
    assert_eq!(driver.run(define(ORDER)), expect(1, true));
    assert_eq!(driver.state.revision(), GlobalRevision(1));
    assert_eq!(driver.run(define(ORDER)), expect(1, false));
    assert_eq!(driver.state.revision(), GlobalRevision(1));
    assert_eq!(driver.run(define(&next_order("settle"))), expect(2, true));
    // Only the newest version is compared: applying an older definition again creates a new version.
    assert_eq!(driver.run(define(ORDER)), expect(3, true));
    assert_eq!(
        driver.state.newest(&machine("order")).unwrap().0,
        Version(3)
    );
}

#[test]
fn a_version_number_is_never_reused() {
    let mut driver = order();
    driver.run(define(&next_order("settle")));
    assert_eq!(driver.kind(forget("order", Some(2))), "definition_deleted");
    let version = |outcome| match outcome {
        Outcome::Defined(it) => it.version.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(version(driver.run(define(&next_order("settle")))), 3);
    assert_eq!(driver.kind(forget("order", None)), "definition_deleted");
    assert_eq!(driver.state.newest(&machine("order")), None);
    assert_eq!(driver.kind(forget("order", None)), "unknown_machine");
    assert_eq!(version(driver.run(define(ORDER))), 4);
}

#[test]
fn version_numbers_are_not_given_twice_even_when_thousands_are_deleted() {
    let mut driver = Driver::new(Limits::default());
    let named = |i: usize| ORDER.replace("\"order\"", &format!("\"m{i}\""));
    for i in 0..1100 {
        driver.run(define(&named(i)));
        driver.run(forget(&format!("m{i}"), None));
    }
    let Outcome::Defined(first) = driver.run(define(&named(0))) else {
        panic!()
    };
    assert_eq!(first.version, Version(2));
    let Outcome::Defined(last) = driver.run(define(&named(1099))) else {
        panic!()
    };
    assert_eq!(
        last.version,
        Version(3),
        "it started behind those forgotten"
    );
}

#[test]
fn a_definition_in_use_is_not_deleted() {
    let mut driver = order();
    driver.run(define(&next_order("settle")));
    driver.run(Command::Create(create("order/1")));
    let rejection = driver.rejected(forget("order", None));
    let (version, instances) = (Version(2), 1);
    assert_eq!(
        rejection,
        Rejection::DefinitionInUse {
            machine: machine("order"),
            version,
            instances
        }
    );
    assert_eq!(
        driver.rejected(forget("order", Some(7))).code(),
        "unknown_version"
    );
    assert_eq!(driver.kind(forget("order", Some(1))), "definition_deleted");
    driver.run(Command::Delete(delete("order/1")));
    assert_eq!(driver.kind(forget("order", None)), "definition_deleted");
}

#[test]
fn what_is_built_in_stays() {
    let mut driver = order();
    assert_eq!(
        driver.kind(define(&ORDER.replace("\"order\"", "\"triad\""))),
        "built_in"
    );
    assert_eq!(driver.kind(forget("triad", None)), "built_in");
    assert_eq!(
        driver.kind(Command::Delete(delete("triad/default"))),
        "built_in"
    );
    assert_eq!(
        driver.kind(Command::Create(create("triad/default"))),
        "instance_exists"
    );
    assert_eq!(
        driver.kind(Command::Create(create("triad/other"))),
        "created"
    );
    assert_eq!(
        driver.kind(Command::Transition(to("triad/other", "third"))),
        "transitioned"
    );
    assert_eq!(
        driver.kind(Command::Delete(delete("triad/other"))),
        "deleted"
    );
    assert_eq!(driver.at("triad/default"), ("first".to_owned(), 0));
}

#[test]
fn an_instance_stays_at_the_version_it_was_created_at() {
    let mut driver = order();
    driver.run(define(&next_order("settle")));
    let old = Create {
        version: Some(Version(1)),
        ..create("order/old")
    };
    assert_eq!(driver.kind(Command::Create(old)), "created");
    assert_eq!(driver.kind(Command::Create(create("order/new"))), "created");
    let event = |id: &str, event: &str| {
        let trigger = Trigger::Event(EventName::new(event).unwrap());
        Command::Transition(Transition {
            trigger,
            ..to(id, "x")
        })
    };
    assert_eq!(driver.kind(event("order/old", "settle")), "unknown_event");
    assert_eq!(driver.kind(event("order/old", "pay")), "transitioned");
    assert_eq!(driver.kind(event("order/new", "pay")), "unknown_event");
    assert_eq!(driver.kind(event("order/new", "settle")), "transitioned");
    let missing = Create {
        version: Some(Version(3)),
        ..create("order/x")
    };
    assert_eq!(driver.kind(Command::Create(missing)), "unknown_version");
    assert_eq!(
        driver.kind(Command::Create(create("nothing/x"))),
        "unknown_machine"
    );
}

#[test]
fn deleting_and_migrating_heed_expectations() {
    let mut driver = order();
    driver.run(define(&next_order("settle")));
    driver.run(Command::Create(Create {
        version: Some(Version(1)),
        ..create("order/1")
    }));
    let state = Some(name("paid"));
    let revision = Some(Revision(7));
    let wrong = Delete {
        expect_state: state.clone(),
        ..delete("order/1")
    };
    assert_eq!(
        driver.rejected(Command::Delete(wrong)).current(),
        Some((&name("open"), Revision(0)))
    );
    let wrong = Delete {
        expect_revision: revision,
        ..delete("order/1")
    };
    assert_eq!(driver.kind(Command::Delete(wrong)), "revision_mismatch");
    let wrong = Migrate {
        expect_state: state,
        ..migrate("order/1", &[])
    };
    assert_eq!(driver.kind(Command::Migrate(wrong)), "state_mismatch");
    let wrong = Migrate {
        expect_revision: revision,
        ..migrate("order/1", &[])
    };
    assert_eq!(driver.kind(Command::Migrate(wrong)), "revision_mismatch");
}

#[test]
fn migrating_maps_states_and_refuses_those_that_are_not_there() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    driver.run(Command::Transition(to("order/1", "paid")));
    let renamed = ORDER.replace("\"paid\"", "\"settled\"");
    driver.run(define(&renamed));
    let rejection = driver.rejected(Command::Migrate(migrate("order/1", &[])));
    assert_eq!(rejection.code(), "unmapped_state");
    assert_eq!(
        driver.kind(Command::Migrate(migrate("order/1", &[("paid", "lost")]))),
        "unmapped_state"
    );
    let outcome = driver.run(Command::Migrate(migrate("order/1", &[("paid", "settled")])));
    let Outcome::Migrated(made) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((made.from_version, made.version), (Version(1), Version(2)));
    assert_eq!(driver.at("order/1"), ("settled".to_owned(), 2));
    assert_eq!(
        driver.kind(Command::Migrate(migrate("order/1", &[]))),
        "already_at_version"
    );
    let totals = driver.state.totals(&machine("order")).unwrap();
    assert_eq!(totals.versions[&Version(1)], 0);
    assert_eq!(totals.versions[&Version(2)], 1);
    assert_eq!(
        totals.states.into_iter().collect::<Vec<_>>(),
        [(name("settled"), 1)]
    );
}

#[test]
fn a_timeout_fires_once_when_it_is_due_and_not_before() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    assert_eq!(driver.state.next_deadline(), Some(Timestamp(2000)));
    let due = |driver: &Driver, at| driver.state.due(Timestamp(at), 10);
    assert_eq!(due(&driver, 1999), []);
    let early = due(&driver, 2000);
    assert_eq!(early.len(), 1);
    driver.now = 1999;
    let fired = |outcome| match outcome {
        Outcome::Expired(it) => (it.fired, it.late_ms_max),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        fired(driver.run(Command::Expire(early.clone()))),
        (0, 0),
        "the leader's clock ran ahead"
    );
    driver.now = 2035;
    let before = driver.state.revision().0;
    let twice = [early.clone(), early.clone()].concat();
    assert_eq!(fired(driver.run(Command::Expire(twice))), (1, 35));
    assert_eq!(driver.at("order/1"), ("expired".to_owned(), 1));
    assert_eq!(fired(driver.run(Command::Expire(early))), (0, 0));
    let events = driver.events_after(before);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].cause, Cause::Timeout { late_ms: 35 });
    assert_eq!(driver.state.next_deadline(), None);
}

#[test]
fn a_timeout_does_not_fire_for_an_instance_that_changed_or_was_created_again() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    driver.run(Command::Create(create("order/2")));
    let due = driver.state.due(Timestamp(2000), 10);
    driver.run(Command::Transition(to("order/1", "paid")));
    driver.run(Command::Delete(delete("order/2")));
    driver.now = 1500;
    driver.run(Command::Create(create("order/2")));
    driver.now = 2000;
    assert_eq!(driver.kind(Command::Expire(due)), "expired");
    assert_eq!(driver.at("order/1").0, "paid");
    assert_eq!(driver.at("order/2"), ("open".to_owned(), 0));
    assert_eq!(driver.state.next_deadline(), Some(Timestamp(2500)));
}

#[test]
fn a_timeout_that_leads_back_to_its_state_restarts() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    driver.run(Command::Transition(to("order/1", "paid")));
    driver.run(Command::Transition(to("order/1", "sent")));
    driver.now = 1700;
    assert_eq!(driver.expire().late_ms_max, 200);
    assert_eq!(driver.at("order/1"), ("sent".to_owned(), 3));
    assert_eq!(driver.state.next_deadline(), Some(Timestamp(2200)));
}

#[test]
fn migrating_keeps_the_deadline_of_an_equal_timeout_and_restarts_a_different_one() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    driver.now = 1400;
    driver.run(define(&next_order("settle")));
    driver.run(Command::Migrate(migrate("order/1", &[])));
    assert_eq!(driver.state.next_deadline(), Some(Timestamp(2000)));
    driver.run(define(&ORDER.replace("1s", "300ms")));
    driver.run(Command::Migrate(migrate("order/1", &[])));
    assert_eq!(driver.state.next_deadline(), Some(Timestamp(1700)));
    driver.run(define(&ORDER.replace(
        "\"timeout\": {\"after\": \"1s\", \"to\": \"expired\"}",
        "",
    )));
    driver.run(Command::Migrate(migrate("order/1", &[])));
    assert_eq!(driver.state.next_deadline(), None);
}

#[test]
fn a_transaction_happens_as_a_whole_in_one_revision() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    let before = driver.state.revision().0;
    let operations = vec![
        Operation::Check(Precondition {
            instance: id("order/1"),
            expect: Expectation::InState(name("open")),
        }),
        Operation::Check(Precondition {
            instance: id("order/2"),
            expect: Expectation::Missing,
        }),
        Operation::Transition(to("order/1", "paid")),
        Operation::Create(create("order/2")),
        Operation::Transition(to("triad/default", "third")),
    ];
    let outcome = driver.run(Command::Transaction(Transaction { operations }));
    let Outcome::Committed(results) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(results.len(), 5);
    assert_eq!(results[0], OperationResult::Checked);
    assert!(matches!(&results[3], OperationResult::Created(it) if it.instance == id("order/2")));
    let events = driver.events_after(before);
    let places: Vec<_> = events
        .iter()
        .map(|it| (it.revision.0 - before, it.position))
        .collect();
    assert_eq!(places, [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(driver.state.revision().0, before + 1);
}

#[test]
fn a_transaction_that_fails_changes_nothing_and_says_where() {
    let mut driver = order();
    driver.run(Command::Create(create("order/1")));
    let before = driver.state.clone();
    let fails = |driver: &mut Driver, operations| {
        let rejection = driver.rejected(Command::Transaction(Transaction { operations }));
        match rejection {
            Rejection::OperationFailed { position, reason } => (position, reason.code()),
            other => panic!("{other:?}"),
        }
    };
    let check = |text: &str, expect| {
        Operation::Check(Precondition {
            instance: id(text),
            expect,
        })
    };
    let change = || Operation::Transition(to("order/1", "paid"));
    let cases = [
        (check("order/1", Expectation::Missing), "instance_exists"),
        (check("order/9", Expectation::Exists), "unknown_instance"),
        (
            check("order/9", Expectation::InState(name("open"))),
            "unknown_instance",
        ),
        // Preconditions see the state before the transaction.
        (
            check("order/1", Expectation::InState(name("paid"))),
            "state_mismatch",
        ),
        (
            check("order/1", Expectation::AtRevision(Revision(1))),
            "revision_mismatch",
        ),
        (
            Operation::Transition(to("triad/default", "first")),
            "illegal_transition",
        ),
        (Operation::Create(create("nothing/1")), "unknown_machine"),
        (Operation::Delete(delete("order/9")), "unknown_instance"),
    ];
    for (operation, code) in cases {
        assert_eq!(fails(&mut driver, vec![change(), operation]), (1, code));
        assert_eq!(driver.at("order/1"), ("open".to_owned(), 0));
    }
    assert_eq!(
        driver.state.events_after(EventCursor::default(), 99),
        before.events_after(EventCursor::default(), 99)
    );
    assert_eq!(
        driver.state.due(Timestamp(9999), 9),
        before.due(Timestamp(9999), 9)
    );
}

#[test]
fn an_empty_or_too_long_transaction_or_one_that_names_an_instance_twice_is_rejected() {
    let mut driver = Driver::with_order(Limits {
        operations_max: 2,
        ..Limits::default()
    });
    let run = |driver: &mut Driver, operations| {
        driver.rejected(Command::Transaction(Transaction { operations }))
    };
    assert_eq!(run(&mut driver, vec![]).code(), "empty_transaction");
    let one = || Operation::Create(create("order/1"));
    let rejection = run(
        &mut driver,
        vec![one(), Operation::Delete(delete("order/1"))],
    );
    assert_eq!(
        rejection,
        Rejection::InstanceTwice {
            instance: id("order/1"),
            first: 0,
            second: 1
        }
    );
    let rejection = run(&mut driver, vec![one(), one(), one()]);
    assert_eq!(rejection.code(), "too_many_operations");
    let check = Operation::Check(Precondition {
        instance: id("order/1"),
        expect: Expectation::Missing,
    });
    let before = driver.state.revision();
    let operations = vec![check.clone(), check.clone()];
    assert_eq!(
        driver.kind(Command::Transaction(Transaction { operations })),
        "committed"
    );
    assert_eq!(driver.state.revision(), before, "looking changes nothing");
    let operations = vec![one(), check];
    assert_eq!(
        driver.kind(Command::Transaction(Transaction { operations })),
        "committed"
    );
}

#[test]
fn every_quota_has_its_code() {
    let mut driver = order();
    let with = |limits: Limits, command: Command| {
        let mut driver = driver.clone();
        driver.state.world.limits = limits;
        driver.kind(command)
    };
    let default = Limits::default();
    let other = || define(&ORDER.replace("\"order\"", "\"other\""));
    let metadata = meta(&[("who", "ann"), ("why", "late")]);
    let marked = || {
        Command::Create(Create {
            metadata: metadata.clone(),
            ..create("order/1")
        })
    };
    let cases = [
        (
            Limits {
                definitions_max: 2,
                ..default
            },
            other(),
            "too_many_definitions",
        ),
        (
            Limits {
                versions_max: 1,
                ..default
            },
            define(&next_order("x")),
            "too_many_versions",
        ),
        (
            Limits {
                states_max: 4,
                ..default
            },
            other(),
            "too_many_states",
        ),
        (
            Limits {
                transitions_max: 5,
                ..default
            },
            other(),
            "too_many_transitions",
        ),
        (
            Limits {
                document_bytes_max: 50,
                ..default
            },
            other(),
            "definition_too_large",
        ),
        (
            Limits {
                instances_max: 1,
                ..default
            },
            marked(),
            "too_many_instances",
        ),
        (
            Limits {
                metadata_entries_max: 1,
                ..default
            },
            marked(),
            "too_many_metadata_entries",
        ),
        (
            Limits {
                metadata_bytes_max: 12,
                ..default
            },
            marked(),
            "metadata_too_large",
        ),
    ];
    for (limits, command, code) in cases {
        assert_eq!(with(limits, command.clone()), code);
        let kind = with(default, command).to_owned();
        assert!(
            ["defined", "created"].contains(&kind.as_str()),
            "{code}: {kind}"
        );
    }
    let mut invalid = Definition::clone(&definition(ORDER));
    invalid.initial = name("nowhere");
    invalid.name = machine("other");
    assert_eq!(
        driver.kind(Command::Define(invalid.into())),
        "invalid_definition"
    );
}

#[test]
fn lower_limits_make_the_tables_smaller_at_once() {
    let mut driver = order();
    for i in 0..10 {
        driver.keyed(
            Some(&format!("k{i}")),
            Command::Create(create(&format!("order/{i}"))),
        );
    }
    assert_eq!(driver.state.remembered().0, 10);
    let limits = Limits {
        events_max: 3,
        keys_max: 4,
        ..Limits::default()
    };
    let before = driver.state.revision();
    assert_eq!(
        driver.run(configure(limits)),
        Outcome::SettingsUpdated(Box::new(limits))
    );
    assert_eq!(driver.state.revision(), before);
    assert_eq!(driver.state.limits(), limits);
    assert_eq!(driver.state.remembered().0, 4);
    assert_eq!(driver.state.oldest_event(), GlobalRevision(before.0 - 2));
    let limits = Limits {
        key_bytes_max: 250,
        ..limits
    };
    driver.run(configure(limits));
    let of = |setting| used(&driver.state, setting);
    assert!(of(Setting::KeyBytesMax) <= 250);
    assert!((1..4).contains(&of(Setting::KeysMax)));
    assert_eq!(
        (
            of(Setting::EventsMax),
            of(Setting::InstancesMax),
            of(Setting::DefinitionsMax)
        ),
        (3, 11, 2)
    );
}
