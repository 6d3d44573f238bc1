mod geometry;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::layout::Layout;
use super::*;
use lockstep_machine::{
    GlobalRevision, Limits, Metadata, Move, Revision, Timeout, Timestamp, Version, triad,
};

const SAGA: &str = r#"{
  "name": "saga", "initial": "booked",
  "states": {"booked": {"timeout": {"after": "1h", "to": "failed"}}, "failed": {"final": true}, "v1.2-x_y": {}},
  "transitions": [
    {"from": "booked", "to": "v1.2-x_y", "event": "pay"},
    {"from": "booked", "to": "v1.2-x_y", "event": "gift"},
    {"from": "booked", "to": "failed", "event": "refuse"},
    {"from": "*", "to": "booked"},
    {"from": "*", "to": "failed", "event": "gift"}
  ]}"#;

fn parsed(text: &str) -> Definition {
    crate::parse_json(text, &Limits::default()).unwrap()
}

fn state(name: impl AsRef<str>) -> StateName {
    StateName::new(name).unwrap()
}

fn svg(definition: &Definition) -> String {
    Diagram::of(definition, None).svg().unwrap()
}

/// A machine of this many states `s0`, `s1`, ..., with transitions between them.
fn machine(states: usize, transitions: impl IntoIterator<Item = (usize, usize)>) -> Definition {
    let mut definition = triad();
    let names: Vec<_> = (0..states).map(|i| state(format!("s{i}"))).collect();
    let step = |(from, to): (usize, usize)| Move::new(names[from].clone(), names[to].clone(), None);
    definition.transitions = transitions.into_iter().map(step).collect();
    definition.initial = names[0].clone();
    definition.states = names.into_iter().map(StateDefinition::new).collect();
    definition
}

#[test]
fn mermaid_shows_timeouts_wildcards_and_the_current_state() {
    let expected = r#"stateDiagram-v2
    state "booked" as s0
    state "failed" as s1
    state "v1.2-x_y" as s2
    [*] --> s0
    s0 --> s0
    s0 --> s1: refuse
    s0 --> s1: after 1h
    s0 --> s2: pay, gift
    s2 --> s0
    s2 --> s1: gift
    s1 --> [*]
    classDef current fill:#ffd54f,stroke:#333,stroke-width:3px
    class s2 current
"#;
    let saga = parsed(SAGA);
    let mermaid = |current: Option<&str>| {
        let current = current.map(state);
        Diagram::of(&saga, current.as_ref()).mermaid()
    };
    assert_eq!(mermaid(Some("v1.2-x_y")), expected);
    assert!(!mermaid(None).contains("classDef"));
    assert!(!mermaid(Some("nowhere")).contains("classDef"));
}

#[test]
fn dot_shows_timeouts_wildcards_and_the_current_state() {
    let expected = r##"digraph "saga" {
    node [shape=box, style=rounded];
    start [shape=point];
    s0 [label="booked", style="rounded,filled", fillcolor="#ffd54f"];
    s1 [label="failed", peripheries=2];
    s2 [label="v1.2-x_y"];
    start -> s0;
    s0 -> s0;
    s0 -> s1 [label="refuse"];
    s0 -> s1 [label="after 1h", style=dashed];
    s0 -> s2 [label="pay\ngift"];
    s2 -> s0;
    s2 -> s1 [label="gift"];
}
"##;
    let dot = Diagram::of(&parsed(SAGA), Some(&state("booked"))).dot();
    assert_eq!(dot, expected);
}

#[test]
fn svg_shows_every_name_timeouts_final_states_and_the_current_state() {
    let saga = parsed(SAGA);
    let drawn = Diagram::of(&saga, Some(&state("booked"))).svg().unwrap();
    for text in [
        "<svg",
        "<title>saga</title>",
        "Starts in booked.\nEnds in failed.\n",
        "From booked to v1.2-x_y: pay, gift.",
        ">booked<",
        ">failed<",
        ">v1.2-x_y<",
        ">pay<",
        ">after 1h<",
        "#ffd54f",
        "</svg>",
    ] {
        assert!(drawn.contains(text), "{text} is missing in {drawn}");
    }
    let count = |text: &str| drawn.matches(text).count();
    assert_eq!(count(r#"<rect class="inner""#), 1, "one final state");
    assert_eq!(count(r#"<g class="arrow timeout">"#), 1);
    assert_eq!(
        count(">gift<"),
        2,
        "from booked to v1.2-x_y only: the specific transition wins"
    );
    assert!(!svg(&saga).contains("#ffd54f"));
}

#[test]
fn the_path_taken_is_highlighted() {
    let saga = parsed(SAGA);
    let event = |kind, from: &str, to: &str, cause| Event {
        revision: GlobalRevision(1),
        position: 0,
        kind,
        machine: saga.name.clone(),
        name: None,
        version: Version(1),
        from_version: None,
        from: Some(state(from)),
        to: Some(state(to)),
        event: None,
        instance_revision: Revision(1),
        at: Timestamp(0),
        cause,
        metadata: Metadata::default(),
    };
    let moved = |from, to, cause| event(EventKind::Transitioned, from, to, cause);
    let timeout = Cause::Timeout { late_ms: 0 };
    let history = [
        moved("booked", "v1.2-x_y", Cause::Request),
        moved("v1.2-x_y", "booked", Cause::Request),
        moved("booked", "failed", timeout),
        // From another version, or no transition.
        moved("booked", "gone", Cause::Request),
        event(EventKind::Migrated, "v1.2-x_y", "failed", Cause::Request),
    ];
    let failed = state("failed");
    let drawn = Diagram::of(&saga, Some(&failed)).with_path(&history);

    let mermaid = drawn.mermaid();
    for line in [
        "    s0 --> s0\n",
        "    s0 --> s1: refuse\n",
        "    s0 --> s1: after 1h (taken)\n",
        "    s0 --> s2: pay, gift (taken)\n",
        "    s2 --> s0: (taken)\n",
        "    s2 --> s1: gift\n",
    ] {
        assert!(mermaid.contains(line), "{line} is not in {mermaid}");
    }
    let dot = drawn.dot();
    let taken: Vec<_> = (dot.lines().filter(|line| line.contains("penwidth")))
        .filter_map(|line| line.trim().split(' ').nth(2))
        .collect();
    assert_eq!(taken, ["s1", "s2", "s0"], "{dot}");
    let svg = drawn.svg().unwrap();
    for (text, count) in [
        (r#"<g class="arrow taken">"#, 2),
        (r#"<g class="arrow timeout taken">"#, 1),
        ("From booked to v1.2-x_y (taken): pay, gift.", 1),
        ("From booked to failed: refuse.", 1),
    ] {
        assert_eq!(svg.matches(text).count(), count, "{text} in {svg}");
    }
    // Without a path, nothing is.
    let plain = Diagram::of(&saga, Some(&failed)).with_path([]);
    assert!(!plain.svg().unwrap().contains("taken"));
    assert!(!plain.mermaid().contains("taken"));
}

#[test]
fn text_is_escaped() {
    let mut definition = triad();
    definition.description = "a < b & \"c\" > d\u{1}".to_owned();
    definition.states[0].description = "</title>".to_owned();
    let drawn = svg(&definition);
    assert!(
        drawn.contains("<desc>a &lt; b &amp; &quot;c&quot; &gt; d\u{fffd}"),
        "{drawn}"
    );
    assert!(drawn.contains("<title>&lt;/title&gt;</title>"), "{drawn}");
}

#[test]
fn a_long_list_of_events_is_cut_and_shown_whole_as_a_tooltip() {
    let events: Vec<_> = (0..30).map(|i| format!("e{i}")).collect();
    let list = |event: &String| format!(r#"{{"from": "a", "to": "b", "event": "{event}"}}"#);
    let transitions: Vec<_> = events.iter().map(list).collect();
    let drawn = svg(&parsed(&format!(
        r#"{{"name": "m", "initial": "a", "states": {{"a": {{}}, "b": {{}}}}, "transitions": [{}]}}"#,
        transitions.join(",")
    )));
    assert!(drawn.contains(">e6<") && !drawn.contains(">e7<"), "{drawn}");
    assert!(drawn.contains(">and 23 more<"), "{drawn}");
    assert!(
        drawn.contains(&format!("<title>{}</title>", events.join(", "))),
        "{drawn}"
    );
}

#[test]
fn what_takes_too_long_to_lay_out_is_refused() {
    let big = machine(65, []);
    let refused = DiagramTooLarge {
        states: 65,
        arrows: 0,
    };
    assert_eq!(Diagram::of(&big, None).svg(), Err(refused));
    assert!(Diagram::of(&big, None).dot().contains("s64"));

    let pairs = (0..64).flat_map(|from| (0..64).map(move |to| (from, to)));
    let dense = machine(64, pairs.take(129));
    let refused = DiagramTooLarge {
        states: 64,
        arrows: 129,
    };
    assert_eq!(Diagram::of(&dense, None).svg(), Err(refused));
}

#[test]
fn the_largest_diagram_has_no_fault() {
    let arrows = (0..128).map(|i| (i * 7 % 64, (i * i + 5 * i) % 64));
    assert_sound(&machine(64, arrows));
}

#[test]
fn the_same_definition_makes_the_same_svg() {
    let definition = machine(12, (0..40).map(|i| (i * 5 % 12, i * i % 12)));
    let first = svg(&definition);
    for _ in 0..5 {
        assert_eq!(svg(&definition), first);
    }
}

#[track_caller]
fn assert_sound(definition: &Definition) {
    let diagram = Diagram::of(definition, None);
    let faults = geometry::faults(&diagram, &Layout::of(&diagram));
    assert!(
        faults.is_empty(),
        "{}: {faults:#?}",
        crate::to_json(definition)
    );
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> Option<Definition> {
    let text = fs::read_to_string(path).ok()?;
    let limits = Limits::default();
    match path.extension()?.to_str()? {
        "json" => crate::parse_json(&text, &limits).ok(),
        "yaml" => crate::parse_yaml(&text, &limits).ok(),
        _ => None,
    }
}

#[test]
fn no_known_definition_makes_a_layout_with_a_fault() {
    let corpus = repository().join("document/tests/corpus");
    let mut folders = vec![corpus.clone()];
    for folder in [corpus, repository().join("examples")] {
        let entries = fs::read_dir(folder).unwrap();
        let inner = entries.map(|entry| entry.unwrap().path());
        folders.extend(inner.filter(|path| path.is_dir()));
    }
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let definitions: Vec<_> = files
        .filter_map(|file| read(&file.unwrap().path()))
        .collect();
    assert!(definitions.len() > 12, "{}", definitions.len());
    definitions.iter().for_each(assert_sound);
}

fn text(pattern: &str) -> impl Strategy<Value = String> + use<> {
    proptest::string::string_regex(pattern).unwrap()
}

prop_compose! {
    fn definitions()(
        names in prop::collection::vec(text("[a-z]{1,8}|[a-zA-Z0-9][a-zA-Z_.-]{20,60}"), 1..20),
    )(
        arrows in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::option::of(text("[a-z]{1,9}|[a-z_]{30,60}"))),
            0..3 * names.len(),
        ),
        timeouts in prop::collection::vec(prop::option::weighted(0.3, any::<prop::sample::Index>()), names.len()),
        initial in any::<prop::sample::Index>(),
        names in Just(names),
    ) -> Definition {
        let mut definition = triad();
        let numbered = names.iter().enumerate().map(|(i, name)| state(format!("{i}{name}")));
        let names: Vec<_> = numbered.collect();
        definition.initial = initial.get(&names).clone();
        definition.states = names.iter().zip(timeouts).map(|(name, to)| StateDefinition {
            timeout: to.map(|to| Timeout { after_ms: 90_000, to: to.get(&names).clone() }),
            ..StateDefinition::new(name.clone())
        }).collect();
        definition.transitions = arrows.into_iter().map(|(from, to, event)| {
            let event = event.map(|event| format!("e{event}").parse().unwrap());
            Move::new(from.get(&names).clone(), to.get(&names).clone(), event)
        }).collect();
        definition
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nor does the library for the ranks panic: in a node this would end the process.
    #[test]
    fn no_definition_makes_a_layout_with_a_fault(definition in definitions()) {
        assert_sound(&definition);
    }
}

/// The definition that a page has its reader write to a file.
fn shown_in(page: &str, file: &str) -> Definition {
    let page = fs::read_to_string(repository().join(page)).unwrap();
    let lines = page
        .lines()
        .skip_while(|line| !line.contains(&format!("cat > {file}")));
    let lines = lines.skip(1).map_while(|line| line.strip_prefix("> "));
    let text: Vec<_> = lines.take_while(|line| *line != "END").collect();
    crate::parse_yaml(&text.join("\n"), &Limits::default()).unwrap()
}

#[test]
fn the_pages_show_the_diagrams_as_they_are_drawn() {
    let order = read(&repository().join("examples/order/order.yaml")).unwrap();
    for definition in [order, shown_in("docs/GUIDE.md", "host.yaml")] {
        let path = repository().join(format!("docs/images/{}.svg", definition.name));
        let drawn = svg(&definition);
        if std::env::var_os("LOCKSTEP_UPDATE_DOCS").is_some() {
            fs::write(&path, &drawn).unwrap();
        }
        let shown = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            shown == drawn,
            "{} is not what is drawn now: run this test with LOCKSTEP_UPDATE_DOCS=1",
            path.display()
        );
    }
}
