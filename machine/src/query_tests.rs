use super::*;
use crate::event::EventFilter;
use crate::testing::*;
use crate::{Command, Create, Limits, Rejection};

/// Orders 000 to 099, each tenth marked and each fourth paid; and one other machine's.
fn state() -> State {
    let mut driver = Driver::with_order(Limits {
        history_entries_max: 3,
        ..Limits::default()
    });
    for i in 0..100 {
        let metadata = if i % 10 == 0 {
            meta(&[("rare", "yes")])
        } else {
            meta(&[])
        };
        driver.run(Command::Create(Create {
            metadata,
            ..create(&format!("order/{i:03}"))
        }));
        if i % 4 == 0 {
            driver.run(Command::Transition(to(&format!("order/{i:03}"), "paid")));
        }
    }
    driver.run(Command::Create(create("triad/050")));
    driver.state
}

fn query(limit: usize, scan_max: usize) -> ListQuery {
    ListQuery {
        limit,
        scan_max,
        ..ListQuery::default()
    }
}

/// All pages of a list, and how many there were.
fn all(state: &State, query: &ListQuery) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut query) = (vec![], 0, query.clone());
    loop {
        let page = state.list(&query);
        assert!(page.instances.len() <= query.limit.max(1));
        pages += 1;
        ids.extend(page.instances.iter().map(|(id, _)| id.to_string()));
        let Some(next) = page.next else {
            return (ids, pages);
        };
        assert!(
            query.after.as_ref().is_none_or(|after| *after < next),
            "it goes on"
        );
        query.after = Some(next);
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let state = state();
    let everything: Vec<_> = state.instances().map(|(id, _)| id.to_string()).collect();
    assert_eq!(everything.len(), 102);
    for limit in [0, 1, 7, 101, 102, 1000] {
        assert_eq!(
            all(&state, &query(limit, 1000)).0,
            everything,
            "pages of {limit}"
        );
    }
    assert_eq!(
        all(&state, &query(102, 1000)).1,
        1,
        "a full last page has no next one"
    );
}

#[test]
fn each_condition_narrows_the_list() {
    let state = state();
    let count = |query: ListQuery| all(&state, &query).0.len();
    let order = Some(machine("order"));
    let paid = Some(name("paid"));
    let rare = Some(("rare".to_owned(), "yes".to_owned()));
    assert_eq!(
        count(ListQuery {
            machine: order.clone(),
            ..query(9, 99)
        }),
        100
    );
    assert_eq!(
        count(ListQuery {
            machine: Some(machine("triad")),
            ..query(9, 99)
        }),
        2
    );
    assert_eq!(
        count(ListQuery {
            machine: Some(machine("none")),
            ..query(9, 99)
        }),
        0
    );
    assert_eq!(
        count(ListQuery {
            state: paid.clone(),
            ..query(9, 99)
        }),
        25
    );
    assert_eq!(
        count(ListQuery {
            state: Some(name("first")),
            ..query(9, 99)
        }),
        2
    );
    assert_eq!(
        count(ListQuery {
            prefix: "05".to_owned(),
            ..query(3, 99)
        }),
        11
    );
    assert_eq!(
        count(ListQuery {
            label: rare.clone(),
            ..query(9, 99)
        }),
        10
    );
    let all = ListQuery {
        machine: order,
        state: paid,
        prefix: "0".to_owned(),
        label: rare,
        ..query(2, 5)
    };
    assert_eq!(count(all), 5);
}

#[test]
fn a_rare_label_is_looked_for_in_bounded_steps() {
    let state = state();
    let label = Some(("rare".to_owned(), "no".to_owned()));
    let (ids, pages) = all(
        &state,
        &ListQuery {
            label,
            ..query(10, 20)
        },
    );
    assert_eq!((ids.len(), pages), (0, 6), "102 instances, 20 at a time");
}

#[test]
fn a_cursor_may_name_what_is_no_longer_there() {
    let state = state();
    let after = Some(id("order/0985"));
    let rest = ["order/099", "triad/050", "triad/default"];
    assert_eq!(
        all(
            &state,
            &ListQuery {
                after,
                ..query(9, 99)
            }
        )
        .0,
        rest
    );
    let after = Some(id("zebra/1"));
    assert_eq!(
        all(
            &state,
            &ListQuery {
                after,
                ..query(9, 99)
            }
        )
        .0
        .len(),
        0
    );
}

#[test]
fn totals_count_by_state_and_version() {
    let totals = state().totals(&machine("order")).unwrap();
    assert_eq!(totals.instances, 100);
    let states: Vec<_> = totals
        .states
        .iter()
        .map(|(state, count)| (state.as_str(), *count))
        .collect();
    assert_eq!(states, [("open", 75), ("paid", 25)]);
    assert_eq!(totals.versions[&Version(1)], 100);
    assert_eq!(state().totals(&machine("none")), None);
}

#[test]
fn history_is_bounded_and_says_how_far_back_it_goes() {
    let mut driver = Driver::new(Limits {
        history_entries_max: 3,
        ..Limits::default()
    });
    let revisions = |driver: &Driver| {
        let instance = driver.state.instance(&id("triad/default")).unwrap();
        let revisions = instance.history().map(|it| it.instance_revision.0);
        (
            instance.oldest_kept().map(|it| it.0),
            revisions.collect::<Vec<_>>(),
        )
    };
    assert_eq!(revisions(&driver), (None, vec![]));
    for to_state in ["second", "third", "first", "third"] {
        let metadata = meta(&[("by", "ann")]);
        driver.run(Command::Transition(crate::Transition {
            metadata,
            ..to("triad/default", to_state)
        }));
    }
    assert_eq!(revisions(&driver), (Some(2), vec![2, 3, 4]));
    let instance = driver.state.instance(&id("triad/default")).unwrap();
    assert_eq!(
        instance.history().next().unwrap().metadata.get("by"),
        Some("ann")
    );
    driver.run(configure(Limits {
        history_bytes_max: 200,
        ..Limits::default()
    }));
    driver.run(Command::Transition(to("triad/default", "first")));
    assert_eq!(revisions(&driver).0, Some(4), "bounded in bytes too");
}

#[test]
fn a_reader_resumes_at_its_cursor_or_gets_compacted() {
    let mut driver = Driver::new(Limits {
        events_max: 4,
        ..Limits::default()
    });
    assert_eq!(driver.state.oldest_event(), GlobalRevision(1));
    assert_eq!(
        driver.state.events_after(EventCursor::default(), 9),
        Ok(vec![])
    );
    for to_state in ["second", "third", "first", "third", "first", "third"] {
        driver.run(Command::Transition(to("triad/default", to_state)));
    }
    let revisions = |after: u64, max: usize| {
        let events = driver
            .state
            .events_after(EventCursor::after(GlobalRevision(after)), max);
        events.map(|events| events.iter().map(|it| it.revision.0).collect::<Vec<_>>())
    };
    assert_eq!(driver.state.oldest_event(), GlobalRevision(3));
    assert_eq!(revisions(2, 9), Ok(vec![3, 4, 5, 6]));
    assert_eq!(revisions(3, 2), Ok(vec![4, 5]));
    assert_eq!(revisions(6, 9), Ok(vec![]));
    assert_eq!(revisions(99, 9), Ok(vec![]));
    let compacted = revisions(1, 9).unwrap_err();
    assert_eq!(compacted.oldest, GlobalRevision(3));
    let events = driver
        .state
        .events_after(EventCursor::after(GlobalRevision(2)), 9)
        .unwrap();
    let wants = |filter: EventFilter| events.iter().filter(|it| filter.wants(it)).count();
    assert_eq!(
        wants(EventFilter {
            state: Some(name("third")),
            ..EventFilter::default()
        }),
        2
    );
    assert_eq!(
        wants(EventFilter {
            prefix: Some("def".to_owned()),
            ..EventFilter::default()
        }),
        4
    );
    assert_eq!(
        wants(EventFilter {
            machine: Some(machine("order")),
            ..EventFilter::default()
        }),
        0
    );
}

#[test]
fn the_kept_events_after_a_cursor_are_counted() {
    let mut driver = Driver::with_order(Limits {
        events_max: 3,
        ..Limits::default()
    });
    let operations =
        ["a", "b", "c"].map(|it| crate::Operation::Create(create(&format!("order/{it}"))));
    driver.run(Command::Transaction(crate::Transaction {
        operations: operations.into(),
    }));
    driver.run(Command::Transition(to("order/a", "paid")));
    // Of the events 1-0, 2-0, 2-1, 2-2 and 3-0, the first two are gone.
    let behind = |revision, position| {
        let cursor = EventCursor {
            revision: GlobalRevision(revision),
            position,
        };
        let oldest = driver.state.oldest_behind(cursor);
        let oldest = oldest.map(|it| (it.revision.0, it.position));
        (driver.state.events_behind(cursor), oldest)
    };
    assert_eq!(behind(0, 0), (3, Some((2, 1))));
    assert_eq!(behind(2, 0), (3, Some((2, 1))));
    assert_eq!(behind(2, 1), (2, Some((2, 2))));
    assert_eq!(behind(2, u32::MAX), (1, Some((3, 0))));
    assert_eq!(behind(3, 0), (0, None));
    assert_eq!(behind(99, 0), (0, None));
}

#[test]
fn a_reader_may_stop_in_the_middle_of_a_revision() {
    let mut driver = Driver::with_order(Limits {
        events_max: 3,
        ..Limits::default()
    });
    let operations =
        ["a", "b", "c", "d"].map(|it| crate::Operation::Create(create(&format!("order/{it}"))));
    driver.run(Command::Transaction(crate::Transaction {
        operations: operations.into(),
    }));
    let at = |position| EventCursor {
        revision: GlobalRevision(2),
        position,
    };
    let positions = |cursor| {
        let events = driver.state.events_after(cursor, 9);
        events.map(|events| events.iter().map(|it| it.position).collect::<Vec<_>>())
    };
    assert_eq!(positions(at(0)), Ok(vec![1, 2, 3]));
    assert_eq!(positions(at(2)), Ok(vec![3]));
    assert!(
        positions(EventCursor::after(GlobalRevision(1))).is_err(),
        "one of the four is gone"
    );
    assert_eq!(driver.state.oldest_event(), GlobalRevision(3));
}

#[test]
fn an_instance_is_shown_with_the_events_and_the_timeout_of_its_state() {
    const DOOR: &str = r#"{
        "name": "door", "initial": "shut",
        "states": {
            "shut": {}, "open": {"timeout": {"after": "1s", "to": "shut"}}, "gone": {"final": true}
        },
        "transitions": [
            {"from": "*", "to": "gone", "event": "remove"},
            {"from": "shut", "to": "open", "event": "open"},
            {"from": "open", "to": "shut", "event": "close"},
            {"from": "open", "to": "open", "event": "remove"},
            {"from": "open", "to": "gone"}
        ]}"#;
    let mut driver = Driver::new(Limits::default());
    driver.run(Command::Define(definition(DOOR)));
    driver.run(Command::Create(create("door/1")));
    let shown = |driver: &Driver| {
        let id = id("door/1");
        let shown = driver.state.view(&id, driver.state.instance(&id).unwrap());
        let events: Vec<_> = shown.events.iter().map(ToString::to_string).collect();
        let to = shown.timeout_to.map(|it| it.to_string());
        (events.join(" "), shown.deadline.is_some(), to)
    };
    assert_eq!(shown(&driver), ("open remove".to_owned(), false, None));
    driver.run(Command::Transition(to("door/1", "open")));
    let pending = Some("shut".to_owned());
    assert_eq!(shown(&driver), ("close remove".to_owned(), true, pending));
    driver.run(Command::Transition(to("door/1", "gone")));
    assert_eq!(shown(&driver), (String::new(), false, None));
}

#[test]
fn a_rejected_transition_names_the_allowed_events_where_the_instance_is_known() {
    let mut driver = Driver::with_order(Limits::default());
    let before = driver.state.clone();
    driver.run(Command::Create(create("order/1")));
    let mut rejection = driver.rejected(Command::Transition(to("order/1", "sent")));
    assert_eq!(rejection.events(), None, "it is not replicated");
    assert!(!before.name_events(&mut rejection), "it lags");
    assert_eq!(rejection.events(), None);

    assert!(driver.state.name_events(&mut rejection));
    let words = "; allowed events: cancel, pay";
    assert!(rejection.to_string().ends_with(words), "{rejection}");
    let failed = || Rejection::OperationFailed {
        position: 0,
        reason: Box::new(rejection.clone()),
    };
    assert_eq!(failed().events(), rejection.events());

    let mut other = Rejection::KeyReused;
    assert!(before.name_events(&mut other), "it has none");
}

#[test]
fn a_message_names_sixteen_events_and_counts_the_others() {
    let named = |count: u32| {
        let events = (0..count).map(|it| EventName::new(format!("e{it:02}")).unwrap());
        let unknown = Rejection::UnknownEvent {
            instance: id("order/1"),
            event: EventName::new("x").unwrap(),
            current: name("open"),
            revision: Revision(0),
            events: Some(events.collect()),
        };
        unknown.to_string()
    };
    assert!(named(0).ends_with("not allowed; no event is allowed in this state"));
    assert!(named(16).ends_with(", e14, e15"), "{}", named(16));
    assert!(named(4096).ends_with(", e15 and 4080 more"));
}
