//! From a [`Definition`] to a document that parses to an equal definition.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use lockstep_machine::{Definition, Move, MoveFrom, StateDefinition};

use crate::tree::Node;

/// Writes a definition as an indented JSON document.
pub fn to_json(definition: &Definition) -> String {
    serde_json::to_string_pretty(&document(definition))
        .expect("a tree with text keys always has a JSON form")
}

/// Writes a definition as a YAML document.
pub fn to_yaml(definition: &Definition) -> String {
    serde_saphyr::to_string(&document(definition))
        .expect("a tree with text keys always has a YAML form")
}

/// A duration as people write it: `15m`, `1h 30m`.
pub(crate) fn duration(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}

fn text(it: impl ToString) -> Node {
    Node::Text(it.to_string())
}

/// The entries that have a value.
fn map(entries: impl IntoIterator<Item = (&'static str, Option<Node>)>) -> Node {
    let said = |(key, node): (&str, Option<Node>)| Some((key.to_owned(), node?));
    Node::Map(entries.into_iter().filter_map(said).collect())
}

fn description(it: &str) -> Option<Node> {
    (!it.is_empty()).then(|| text(it))
}

fn document(definition: &Definition) -> Node {
    let labels = definition.labels.iter();
    let labels = Node::Map(
        labels
            .map(|(key, value)| (key.to_owned(), text(value)))
            .collect(),
    );
    let states = definition.states.iter();
    map([
        ("name", Some(text(&definition.name))),
        ("description", description(&definition.description)),
        ("labels", (!definition.labels.is_empty()).then_some(labels)),
        ("initial", Some(text(&definition.initial))),
        (
            "states",
            Some(Node::Map(
                states.map(|it| (it.name.to_string(), state(it))).collect(),
            )),
        ),
        (
            "transitions",
            Some(Node::List(
                definition.transitions.iter().map(transition).collect(),
            )),
        ),
    ])
}

fn state(state: &StateDefinition) -> Node {
    let timeout = state.timeout.as_ref().map(|timeout| {
        map([
            ("after", Some(text(duration(timeout.after_ms)))),
            ("to", Some(text(&timeout.to))),
        ])
    });
    map([
        ("description", description(&state.description)),
        ("final", state.is_final.then_some(Node::Bool(true))),
        ("timeout", timeout),
    ])
}

fn transition(it: &Move) -> Node {
    let from = match &it.from {
        MoveFrom::Any => text("*"),
        MoveFrom::States(states) => match states.as_slice() {
            [state] => text(state),
            states => Node::List(states.iter().map(text).collect()),
        },
    };
    map([
        ("from", Some(from)),
        ("to", Some(text(&it.to))),
        ("event", it.event.as_ref().map(text)),
        ("description", description(&it.description)),
    ])
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Null | Node::Number => s.serialize_unit(),
            Node::Bool(it) => s.serialize_bool(*it),
            Node::Whole(it) => s.serialize_u64(*it),
            Node::Text(it) => s.serialize_str(it),
            Node::List(list) => {
                let mut seq = s.serialize_seq(Some(list.len()))?;
                list.iter().try_for_each(|it| seq.serialize_element(it))?;
                seq.end()
            }
            Node::Map(entries) => {
                let mut map = s.serialize_map(Some(entries.len()))?;
                entries
                    .iter()
                    .try_for_each(|(key, it)| map.serialize_entry(key, it))?;
                map.end()
            }
        }
    }
}
