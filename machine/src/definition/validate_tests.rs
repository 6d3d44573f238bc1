use super::*;
use crate::definition::{Compiled, StateDefinition, Timeout, triad};
use crate::ids::{EventName, MachineName};
use crate::metadata::Metadata;

fn state(name: &str) -> StateName {
    StateName::new(name).unwrap()
}

fn step(from: &str, to: &str, event: Option<&str>) -> Move {
    let event = event.map(|event| EventName::new(event).unwrap());
    Move::new(state(from), state(to), event)
}

fn any(to: &str, event: &str) -> Move {
    Move {
        from: MoveFrom::Any,
        ..step("x", to, Some(event))
    }
}

/// States ending in `!` are final.
fn definition(initial: &str, states: &[&str], transitions: Vec<Move>) -> Definition {
    let named = |name: &&str| StateDefinition {
        is_final: name.ends_with('!'),
        ..StateDefinition::new(state(name.trim_end_matches('!')))
    };
    Definition {
        name: MachineName::new("m").unwrap(),
        description: String::new(),
        labels: Metadata::default(),
        initial: state(initial),
        states: states.iter().map(named).collect(),
        transitions,
    }
}

fn faults(definition: &Definition) -> Vec<(String, &'static str)> {
    let DefinitionInvalid(faults) = definition.validate(&Limits::default()).unwrap_err();
    let pair = |fault: DefinitionFault| (fault.path, fault.code.name());
    faults.into_iter().map(pair).collect()
}

fn warnings(definition: &Definition) -> Vec<(String, &'static str)> {
    definition.validate(&Limits::default()).unwrap();
    let pair = |fault: DefinitionFault| (fault.path, fault.code.name());
    definition.warnings().into_iter().map(pair).collect()
}

fn owned(pairs: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    pairs
        .iter()
        .map(|(path, code)| ((*path).to_owned(), *code))
        .collect()
}

#[test]
fn the_built_in_machine_is_valid_and_not_odd() {
    triad().validate(&Limits::default()).unwrap();
    assert_eq!(warnings(&triad()), []);
}

#[test]
fn every_fault_is_listed_at_once() {
    let mut faulty = definition(
        "nowhere",
        &["a", "b", "a", "end!"],
        vec![
            step("a", "b", Some("go")),
            step("a", "b", Some("go")),
            step("a", "a", Some("go")),
            step("x", "y", None),
            step("end", "a", None),
            Move {
                from: MoveFrom::States(vec![]),
                ..step("a", "b", None)
            },
            Move {
                from: MoveFrom::States(vec![state("b"), state("z")]),
                ..step("a", "b", None)
            },
        ],
    );
    faulty.description = "a\u{0}".to_owned();
    faulty.transitions[0].description = "x".repeat(DESCRIPTION_LEN_MAX + 1);
    faulty.states[1].timeout = Some(Timeout {
        after_ms: 9,
        to: state("gone"),
    });
    faulty.states[3].timeout = Some(Timeout {
        after_ms: TIMEOUT_MS_MAX + 1,
        to: state("a"),
    });
    let expected = [
        ("description", "invalid_text"),
        ("states.a", "duplicate_state"),
        ("states.b.timeout.after", "invalid_duration"),
        ("states.b.timeout.to", "unknown_state"),
        ("states.end.timeout", "final_has_timeout"),
        ("states.end.timeout.after", "invalid_duration"),
        ("initial", "unknown_state"),
        ("transitions[0].description", "invalid_text"),
        ("transitions[1]", "duplicate_transition"),
        ("transitions[2].event", "conflicting_event"),
        ("transitions[3].from", "unknown_state"),
        ("transitions[3].to", "unknown_state"),
        ("transitions[4].from", "final_has_exit"),
        ("transitions[5].from", "empty_from"),
        ("transitions[6].from[1]", "unknown_state"),
    ];
    assert_eq!(faults(&faulty), owned(&expected));
    let text = faulty.validate(&Limits::default()).unwrap_err().to_string();
    assert!(
        text.starts_with("the definition has 15 error(s): description: "),
        "{text}"
    );
}

#[test]
fn a_definition_without_states_has_one_fault() {
    assert_eq!(
        faults(&definition("a", &[], vec![])),
        owned(&[("states", "no_states")])
    );
}

#[test]
fn a_star_stands_for_every_state_that_is_not_final() {
    let it = definition(
        "a",
        &["a", "b", "end!"],
        vec![any("end", "stop"), step("a", "b", None)],
    );
    it.validate(&Limits::default()).unwrap();
    let steps: Vec<_> = it
        .steps()
        .map(|(from, it)| (from.to_string(), it.to.to_string()))
        .collect();
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(steps, [pair("a", "end"), pair("b", "end"), pair("a", "b")]);
    let compiled = Compiled::new(it, &Limits::default()).unwrap();
    assert!(compiled.exits(&state("end")).unwrap().allowed.is_empty());
}

#[test]
fn a_transition_that_names_a_state_wins_over_a_star_with_the_same_event() {
    let mut it = definition(
        "a",
        &["a", "b", "c", "end!"],
        vec![
            any("end", "stop"),
            step("a", "end", Some("stop")),
            step("b", "a", Some("stop")),
        ],
    );
    it.validate(&Limits::default()).unwrap();
    let steps = it.steps().map(|(from, it)| format!("{from}>{}", it.to));
    assert_eq!(steps.collect::<Vec<_>>(), ["c>end", "a>end", "b>a"]);

    it.transitions.push(any("a", "stop"));
    let expected = [("transitions[3].event", "conflicting_event")];
    assert_eq!(faults(&it), owned(&expected));
}

#[test]
fn timeouts_that_lead_in_a_short_circle_are_warned_of() {
    let mut it = definition("a", &["a", "b"], vec![step("a", "b", None)]);
    let timeout = |after_ms, to| {
        Some(Timeout {
            after_ms,
            to: state(to),
        })
    };
    for (a, b, expected) in [
        (
            timeout(10, "a"),
            None,
            vec![
                ("states.a.timeout", "short_cycle"),
                ("states.b", "no_way_out"),
            ],
        ),
        (
            timeout(50, "b"),
            timeout(49, "a"),
            vec![
                ("states.a.timeout", "short_cycle"),
                ("states.b.timeout", "short_cycle"),
            ],
        ),
        (timeout(50, "b"), timeout(50, "a"), vec![]),
        (
            timeout(10, "b"),
            timeout(10, "b"),
            vec![("states.b.timeout", "short_cycle")],
        ),
    ] {
        (it.states[0].timeout, it.states[1].timeout) = (a, b);
        assert_eq!(warnings(&it), owned(&expected));
    }
}

#[test]
fn odd_states_are_warned_of_and_a_timeout_is_a_way() {
    let mut it = definition(
        "a",
        &["a", "lost", "stuck", "late!"],
        vec![step("lost", "late", None)],
    );
    it.states[0].timeout = Some(Timeout {
        after_ms: 1000,
        to: state("stuck"),
    });
    let expected = [
        ("states.lost", "unreachable"),
        ("states.stuck", "no_way_out"),
        ("states.late", "unreachable"),
    ];
    assert_eq!(warnings(&it), owned(&expected));
}

#[test]
fn one_more_state_or_transition_than_allowed_is_a_fault() {
    let limits = Limits {
        states_max: 2,
        transitions_max: 3,
        ..Limits::default()
    };
    let moves = |count: usize| {
        (0..count)
            .map(|i| step("a", "a", Some(&format!("e{i}"))))
            .collect()
    };
    definition("a", &["a", "b"], moves(3))
        .validate(&limits)
        .unwrap();
    let codes = |it: &Definition| {
        let DefinitionInvalid(faults) = it.validate(&limits).unwrap_err();
        faults
            .into_iter()
            .map(|fault| fault.code.name())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        codes(&definition("a", &["a", "b", "c"], moves(3))),
        ["too_many_states"]
    );
    assert_eq!(
        codes(&definition("a", &["a", "b"], moves(4))),
        ["too_many_transitions"]
    );
    let stars = vec![any("a", "x"), any("b", "y")];
    assert_eq!(
        codes(&definition("a", &["a", "b"], stars)),
        ["too_many_transitions"]
    );
}

#[test]
fn a_thousand_faults_are_counted_and_a_hundred_listed() {
    let moves = (0..1000)
        .map(|i| step("a", "nowhere", Some(&format!("e{i}"))))
        .collect();
    let DefinitionInvalid(faults) = definition("a", &["a"], moves)
        .validate(&Limits::default())
        .unwrap_err();
    assert_eq!(faults.len(), 101);
    assert_eq!(faults[100].code, FaultCode::MoreFaults);
    assert_eq!(faults[100].message, "there are 900 more");
}

#[test]
fn two_events_may_lead_to_the_same_state_which_is_then_listed_once() {
    let moves = vec![
        step("a", "b", Some("pay")),
        step("a", "a", None),
        step("a", "b", Some("gift")),
    ];
    let compiled = Compiled::new(definition("a", &["a", "b"], moves), &Limits::default()).unwrap();
    let exits = compiled.exits(&state("a")).unwrap();
    assert_eq!(exits.allowed, [state("b"), state("a")]);
    let gift = EventName::new("gift").unwrap();
    assert_eq!(exits.by_event(&gift), Some((&gift, &state("b"))));
    assert!(compiled.exits(&state("b")).unwrap().allowed.is_empty());
    assert!(compiled.exits(&state("c")).is_none());
}

#[test]
fn the_order_of_states_makes_no_difference_and_everything_else_does() {
    let one = definition("a", &["a", "b"], vec![step("a", "b", None)]);
    assert!(one.is_equal(&definition("a", &["b", "a"], vec![step("a", "b", None)])));
    assert!(!one.is_equal(&definition("b", &["a", "b"], vec![step("a", "b", None)])));
    assert!(!one.is_equal(&definition("a", &["a", "b!"], vec![step("a", "b", None)])));
    assert!(!one.is_equal(&definition("a", &["a", "b"], vec![])));
}

#[test]
fn every_code_is_snake_case_and_there_once() {
    let mut codes: Vec<_> = FaultCode::ALL.iter().map(|it| it.name()).collect();
    assert!(
        codes
            .iter()
            .all(|it| it.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    );
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), FaultCode::ALL.len());
}
