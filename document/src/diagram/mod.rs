//! A definition as a diagram: text for Mermaid and Graphviz, and SVG. Each can highlight one state, and the path
//! that led there.
//!
//! [`Diagram`] is what all three show: the states, and the arrows that a definition comes to once `*`, lists
//! and timeouts are written out. *text* writes Mermaid and Graphviz, which lay it out themselves. For SVG,
//! *sizes* measures states and labels, *ranks* finds places for them, *layout* turns these into boxes and
//! lines, and *svg* writes the document.

mod layout;
mod ranks;
mod sizes;
mod svg;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_machine::{Cause, Definition, Event, EventKind, StateDefinition, StateName};

/// The most states an SVG shows, and the most arrows. The layout's time grows with the ranks that arrows pass:
/// it is below a second for the usual machine of this size, and about three when most arrows pass all ranks.
const SVG_STATES_MAX: usize = 64;
const SVG_ARROWS_MAX: usize = 128;

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

/// All transitions from one state to another, or the timeout that leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrow {
    /// The position of the state it leaves.
    from: usize,
    /// The position of the state it leads to.
    to: usize,
    is_timeout: bool,
    /// The events that it stands for, or the length of the timeout.
    labels: Vec<String>,
    /// Whether the highlighted path has it.
    is_taken: bool,
}

/// What a diagram shows of a definition.
#[derive(Debug, Clone)]
pub struct Diagram<'a> {
    definition: &'a Definition,
    /// In the order of the states they connect.
    arrows: Vec<Arrow>,
    /// The position of the initial state.
    initial: usize,
    /// The position of the highlighted state.
    current: Option<usize>,
}

impl<'a> Diagram<'a> {
    /// The diagram of a definition, with one state highlighted.
    pub fn of(definition: &'a Definition, current: Option<&StateName>) -> Self {
        let positions: BTreeMap<_, _> = definition.state_names().zip(0..).collect();
        let position = |name| positions.get(name).copied();
        let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (from, it) in definition.steps() {
            let (Some(from), Some(to)) = (position(from), position(&it.to)) else {
                continue;
            };
            let labels = found.entry((from, to, false)).or_default();
            labels.extend(it.event.iter().map(ToString::to_string));
        }
        for (from, state) in definition.states.iter().enumerate() {
            let Some(timeout) = &state.timeout else {
                continue;
            };
            let Some(to) = position(&timeout.to) else {
                continue;
            };
            let label = format!("after {}", timeout.after());
            found.insert((from, to, true), vec![label]);
        }
        let arrow = |((from, to, is_timeout), labels)| Arrow {
            from,
            to,
            is_timeout,
            labels,
            is_taken: false,
        };
        Self {
            definition,
            arrows: found.into_iter().map(arrow).collect(),
            initial: position(&definition.initial).unwrap_or_default(),
            current: current.and_then(position),
        }
    }

    /// Highlights the transitions among these events of an instance, as far as the definition has them.
    pub fn with_path<'e>(mut self, events: impl IntoIterator<Item = &'e Event>) -> Self {
        let is_move = |it: &&Event| it.kind == EventKind::Transitioned;
        let taken: BTreeSet<_> = (events.into_iter().filter(is_move))
            .filter_map(|it| {
                let is_timeout = matches!(it.cause, Cause::Timeout { .. });
                Some((
                    it.from.as_ref()?.as_str(),
                    it.to.as_ref()?.as_str(),
                    is_timeout,
                ))
            })
            .collect();
        let states = self.states();
        for arrow in &mut self.arrows {
            let [from, to] = [arrow.from, arrow.to].map(|at| states[at].name.as_str());
            arrow.is_taken = taken.contains(&(from, to, arrow.is_timeout));
        }
        self
    }

    fn states(&self) -> &'a [StateDefinition] {
        &self.definition.states
    }

    fn name(&self, state: usize) -> &'a str {
        self.definition.states[state].name.as_str()
    }
}

#[cfg(test)]
mod tests;
