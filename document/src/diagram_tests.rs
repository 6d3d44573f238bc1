use proptest::prelude::*;

use super::*;
use lockstep_machine::{Limits, triad};

const SAGA: &str = r#"{
  "name": "saga", "initial": "booked",
  "states": {"booked": {"timeout": {"after": "1h", "to": "failed"}}, "failed": {"final": true}, "v1.2-x_y": {}},
  "transitions": [
    {"from": "booked", "to": "v1.2-x_y", "event": "pay"},
    {"from": "booked", "to": "v1.2-x_y", "event": "gift"},
    {"from": "*", "to": "booked"}
  ]}"#;

fn saga() -> Definition {
    crate::parse_json(SAGA, &Limits::default()).unwrap()
}

fn state(name: &str) -> StateName {
    StateName::new(name).unwrap()
}

#[test]
fn mermaid_shows_the_current_state() {
    let expected = r#"stateDiagram-v2
    state "booked" as s0
    state "failed" as s1
    state "v1.2-x_y" as s2
    [*] --> s0
    s0 --> s0
    s0 --> s1: after 1h
    s0 --> s2: pay, gift
    s2 --> s0
    s1 --> [*]
    classDef current fill:#ffd54f,stroke:#333,stroke-width:3px
    class s2 current
"#;
    assert_eq!(mermaid(&saga(), Some(&state("v1.2-x_y"))), expected);
    assert!(!mermaid(&saga(), None).contains("classDef"));
    assert!(!mermaid(&saga(), Some(&state("nowhere"))).contains("classDef"));
}

#[test]
fn dot_shows_the_current_state() {
    let expected = r##"digraph "saga" {
    rankdir=LR;
    node [shape=box, style=rounded];
    start [shape=point];
    s0 [label="booked", style="rounded,filled", fillcolor="#ffd54f"];
    start -> s0;
    s1 [label="failed", peripheries=2];
    s2 [label="v1.2-x_y"];
    s0 -> s0 [label=""];
    s0 -> s1 [label="after 1h", style=dashed];
    s0 -> s2 [label="pay, gift"];
    s2 -> s0 [label=""];
}
"##;
    assert_eq!(dot(&saga(), Some(&state("booked"))), expected);
}

#[test]
fn svg_shows_every_name_and_the_current_state() {
    let drawn = svg(&saga(), Some(&state("booked"))).unwrap();
    for text in [
        "<svg",
        "booked",
        "failed",
        "v1.2-x_y",
        "pay, gift",
        "after 1h",
        "#ffd54f",
        "</svg>",
    ] {
        assert!(drawn.contains(text), "{text} is missing in {drawn}");
    }
    assert!(!svg(&saga(), None).unwrap().contains("#ffd54f"));
    assert!(svg(&triad(), None).unwrap().contains("second"));
}

#[test]
fn what_takes_too_long_to_lay_out_is_refused() {
    let states: Vec<_> = (0..65).map(|i| format!("\"s{i}\": {{}}")).collect();
    let text = format!(
        r#"{{"name": "m", "initial": "s0", "states": {{{}}}}}"#,
        states.join(",")
    );
    let big = crate::parse_json(&text, &Limits::default()).unwrap();
    assert_eq!(
        svg(&big, None),
        Err(DiagramTooLarge {
            states: 65,
            arrows: 0
        })
    );
    assert!(dot(&big, None).contains("s64"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// The layout library has assertions; no valid definition may violate them.
    #[test]
    fn no_graph_makes_the_layout_panic(
        states in 1..SVG_STATES_MAX,
        arrows in prop::collection::vec((0..1000usize, 0..1000usize), 0..SVG_ARROWS_MAX / 2),
    ) {
        let mut definition = triad();
        let names: Vec<_> = (0..states).map(|i| state(&format!("state{i}"))).collect();
        definition.initial = names[0].clone();
        definition.states = names.iter().cloned().map(lockstep_machine::StateDefinition::new).collect();
        definition.transitions = arrows
            .iter()
            .map(|(from, to)| {
                lockstep_machine::Move::new(names[from % states].clone(), names[to % states].clone(), None)
            })
            .collect();
        let svg = svg(&definition, Some(&names[states - 1])).unwrap();
        let last = definition.states[states - 1].name.as_str();
        prop_assert!(svg.contains(last));
    }
}
