//! A definition as a diagram: text for Mermaid and Graphviz, SVG laid out here. Each can highlight one
//! state.

use std::collections::BTreeMap;

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::Point;
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;

use lockstep_machine::{Definition, StateName};

/// The most states an SVG shows, and the most arrows: the layout's time grows faster than both.
const SVG_STATES_MAX: usize = 64;
const SVG_ARROWS_MAX: usize = 256;

/// The definition is too large for an SVG layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an SVG diagram shows at most {SVG_STATES_MAX} states and {SVG_ARROWS_MAX} arrows; this definition has {states} and {arrows}: use the dot or mermaid format"
)]
pub struct DiagramTooLarge {
    /// How many states there are.
    pub states: usize,
    /// How many arrows there are.
    pub arrows: usize,
}

/// All transitions from one state to another, drawn as one arrow.
#[derive(Default)]
struct Way {
    events: Vec<String>,
    /// Whether only a timeout leads here.
    only_timeout: bool,
}

impl Way {
    fn label(&self) -> String {
        self.events.join(", ")
    }
}

/// The arrows, by the positions of their states.
fn ways(definition: &Definition) -> BTreeMap<(usize, usize), Way> {
    let places: BTreeMap<_, _> = definition
        .state_names()
        .enumerate()
        .map(|(i, it)| (it, i))
        .collect();
    let place = |name| places.get(name).copied();
    let mut ways: BTreeMap<_, Way> = BTreeMap::new();
    for (from, it) in definition.steps() {
        let (Some(from), Some(to)) = (place(from), place(&it.to)) else {
            continue;
        };
        let way = ways.entry((from, to)).or_default();
        way.events.extend(it.event.iter().map(ToString::to_string));
    }
    for (from, state) in definition.states.iter().enumerate() {
        let Some(timeout) = &state.timeout else {
            continue;
        };
        let Some(to) = place(&timeout.to) else {
            continue;
        };
        let only_timeout = !ways.contains_key(&(from, to));
        let way = ways.entry((from, to)).or_default();
        way.only_timeout = only_timeout;
        way.events.push(format!("after {}", timeout.after()));
    }
    ways
}

/// Draws a Mermaid state diagram.
pub fn mermaid(definition: &Definition, current: Option<&StateName>) -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for (i, state) in definition.states.iter().enumerate() {
        text.push_str(&format!("    state \"{}\" as s{i}\n", state.name));
    }
    let position = |name| definition.state_names().position(|it| it == name);
    if let Some(i) = position(&definition.initial) {
        text.push_str(&format!("    [*] --> s{i}\n"));
    }
    for ((from, to), way) in ways(definition) {
        let label = match way.label() {
            label if label.is_empty() => label,
            label => format!(": {label}"),
        };
        text.push_str(&format!("    s{from} --> s{to}{label}\n"));
    }
    for (i, state) in definition.states.iter().enumerate() {
        if state.is_final {
            text.push_str(&format!("    s{i} --> [*]\n"));
        }
    }
    if let Some(i) = current.and_then(position) {
        text.push_str("    classDef current fill:#ffd54f,stroke:#333,stroke-width:3px\n");
        text.push_str(&format!("    class s{i} current\n"));
    }
    text
}

/// Draws a graph in Graphviz's language.
pub fn dot(definition: &Definition, current: Option<&StateName>) -> String {
    let mut text = format!("digraph {} {{\n", quoted(definition.name.as_str()));
    text.push_str("    rankdir=LR;\n    node [shape=box, style=rounded];\n");
    text.push_str("    start [shape=point];\n");
    for (i, state) in definition.states.iter().enumerate() {
        let mut marks = vec![format!("label={}", quoted(state.name.as_str()))];
        if state.is_final {
            marks.push("peripheries=2".to_owned());
        }
        if Some(&state.name) == current {
            marks.push("style=\"rounded,filled\", fillcolor=\"#ffd54f\"".to_owned());
        }
        text.push_str(&format!("    s{i} [{}];\n", marks.join(", ")));
        if state.name == definition.initial {
            text.push_str(&format!("    start -> s{i};\n"));
        }
    }
    for ((from, to), way) in ways(definition) {
        let style = if way.only_timeout {
            ", style=dashed"
        } else {
            ""
        };
        let label = quoted(&way.label());
        text.push_str(&format!("    s{from} -> s{to} [label={label}{style}];\n"));
    }
    text.push_str("}\n");
    text
}

/// Draws an SVG document.
///
/// # Errors
///
/// [`DiagramTooLarge`]: the layout would take too long.
pub fn svg(
    definition: &Definition,
    current: Option<&StateName>,
) -> Result<String, DiagramTooLarge> {
    let ways = ways(definition);
    let (states, arrows) = (definition.states.len(), ways.len());
    if states > SVG_STATES_MAX || arrows > SVG_ARROWS_MAX {
        return Err(DiagramTooLarge { states, arrows });
    }
    let mut graph = VisualGraph::new(Orientation::TopToBottom);
    let mut handles = vec![];
    for state in &definition.states {
        let fill = if Some(&state.name) == current {
            0xffd5_4fff
        } else {
            0xffff_ffff
        };
        let mut style = StyleAttr::simple();
        style.fill_color = Some(Color::new(fill));
        style.line_width = if state.is_final { 3 } else { 1 };
        style.rounded = 10;
        let name = state.name.as_str();
        let size = Point::new(9. * name.len() as f64 + 24., 36.);
        let shape = ShapeKind::new_box(name);
        handles.push(graph.add_node(Element::create(
            shape,
            style,
            Orientation::TopToBottom,
            size,
        )));
    }
    for ((from, to), way) in &ways {
        let line = if way.only_timeout {
            LineStyleKind::Dashed
        } else {
            LineStyleKind::Normal
        };
        let arrow = Arrow::new(
            LineEndKind::None,
            LineEndKind::Arrow,
            line,
            &way.label(),
            &StyleAttr::simple(),
            &None,
            &None,
        );
        graph.add_edge(arrow, handles[*from], handles[*to]);
    }
    let mut svg = SVGWriter::new();
    graph.do_it(false, false, false, &mut svg);
    Ok(svg.finalize())
}

/// A text in Graphviz's quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
#[path = "diagram_tests.rs"]
mod tests;
