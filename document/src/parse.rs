//! Parses a document into a [`Definition`], or reports all of its errors at once.

use lockstep_machine::{
    Definition, DefinitionInvalid, DocumentError, EventName, FaultCode, Faults, Limits,
    MachineName, Metadata, Move, MoveFrom, StateDefinition, StateName, Timeout, parse_duration,
};

use crate::fields::{Fields, Reader, join};
use crate::foreign::Foreign;
use crate::tree::{self, Node};

/// Reads a definition from JSON and validates it.
///
/// # Errors
///
/// A document that is too long or not JSON, or every fault of the definition.
pub fn parse_json(text: &str, limits: &Limits) -> Result<Definition, DocumentError> {
    parse(text, limits, tree::json)
}

/// Reads a definition from YAML and validates it. Anchors, aliases and merge keys are expanded, within the
/// bound on the number of values. The text may hold one document, with or without its markers.
///
/// # Errors
///
/// A text that is too long, not YAML or several documents, or every fault of the definition.
pub fn parse_yaml(text: &str, limits: &Limits) -> Result<Definition, DocumentError> {
    parse(text, limits, tree::yaml)
}

fn parse(
    text: &str,
    limits: &Limits,
    read: fn(&str) -> Result<Node, DocumentError>,
) -> Result<Definition, DocumentError> {
    let (bytes, max) = (text.len() as u64, limits.document_bytes_max);
    if bytes > max {
        return Err(DocumentError::TooLarge { bytes, max });
    }
    // A byte order mark is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let node = read(text).map_err(|error| advised(error, text))?;
    let mut faults = Faults::default();
    if let Some(foreign) = Foreign::of(&node, text) {
        faults.add("", FaultCode::WrongType, foreign.advice());
    }
    let definition = Reader {
        faults: &mut faults,
        limits,
    }
    .definition(&node);
    match definition {
        Some(definition) if faults.is_empty() => Ok(definition),
        _ => Err(DefinitionInvalid(faults.into_list()).into()),
    }
}

/// Adds to a fault in the syntax what the text seems to be instead. An object as JavaScript or Python writes it is no
/// JSON, but mostly YAML.
fn advised(mut error: DocumentError, text: &str) -> DocumentError {
    if let DocumentError::Syntax { message, .. } = &mut error
        && let Some(foreign) =
            Foreign::of_text(text).or_else(|| Foreign::of(&tree::yaml(text).ok()?, text))
    {
        *message = format!("{message}; {}", foreign.advice());
    }
    error
}

const TOP: &[&str] = &[
    "name",
    "description",
    "labels",
    "initial",
    "states",
    "transitions",
];
const STATE: &[&str] = &["description", "final", "timeout"];
const TIMEOUT: &[&str] = &["after", "to"];
const TRANSITION: &[&str] = &["from", "to", "event", "description"];

impl Reader<'_> {
    fn definition(&mut self, node: &Node) -> Option<Definition> {
        let top = self.fields("", node, TOP)?;
        let name = self.required_name(&top, "name");
        let initial = self.required_name(&top, "initial");
        let description = self.text(&top, "description");
        let labels = self.labels(top.get("labels"));
        let states = self
            .required(&top, "states")
            .map(|it| self.states(it))
            .unwrap_or_default();
        let (positions, transitions) = self.transitions(top.get("transitions"));

        // The error for a missing part is already recorded; its placeholder must not cause another.
        let initial = initial.or_else(|| states.first().map(|state| state.name.clone()))?;
        if states.is_empty() && !self.faults.is_empty() {
            return None;
        }
        let stand_in = || MachineName::new("unnamed").ok();
        let definition = Definition {
            name: name.or_else(stand_in)?,
            description,
            labels,
            initial,
            states,
            transitions,
        };
        definition.check(self.limits, &positions, self.faults);
        Some(definition)
    }

    fn states(&mut self, node: &Node) -> Vec<StateDefinition> {
        let Node::Map(entries) = node else {
            let wanted = "a map from each state's name to its details";
            self.wrong("states", wanted, node);
            return vec![];
        };
        let mut states = vec![];
        for (key, node) in self.unique("states", entries) {
            let path = join("states", key);
            let name = self.valid(&path, StateName::new(key));
            let details = match node {
                Node::Null => None,
                node => self.fields(&path, node, STATE),
            };
            let details = details.unwrap_or(Fields { path, entries: &[] });
            let description = self.text(&details, "description");
            let is_final = self.flag(&details, "final");
            let timeout = details.get("timeout");
            let timeout = timeout.and_then(|it| self.timeout(&details.path_of("timeout"), it));
            if let Some(name) = name {
                states.push(StateDefinition {
                    name,
                    description,
                    is_final,
                    timeout,
                });
            }
        }
        states
    }

    fn timeout(&mut self, path: &str, node: &Node) -> Option<Timeout> {
        let fields = self.fields(path, node, TIMEOUT)?;
        let after = self.required(&fields, "after");
        let after_ms = after.and_then(|it| self.duration(&fields.path_of("after"), it));
        let to = self.required_name(&fields, "to");
        Some(Timeout {
            after_ms: after_ms?,
            to: to?,
        })
    }

    fn duration(&mut self, path: &str, node: &Node) -> Option<u64> {
        let read = match node {
            Node::Whole(ms) => Ok(*ms),
            Node::Text(text) => parse_duration(text).map_err(|error| error.to_string()),
            node => Err(format!(
                "found {}, expected a duration such as \"15m\" or \"1h 30m\", or a whole number of milliseconds",
                node.noun()
            )),
        };
        read.map_err(|message| self.faults.add(path, FaultCode::InvalidDuration, message))
            .ok()
    }

    /// The transitions that could be read, and the position of each in the document.
    fn transitions(&mut self, node: Option<&Node>) -> (Vec<usize>, Vec<Move>) {
        let list = match node {
            None | Some(Node::Null) => &[][..],
            Some(Node::List(list)) => list,
            Some(node) => {
                self.wrong("transitions", "a list", node);
                &[]
            }
        };
        let read = |(i, node)| Some((i, self.transition(&format!("transitions[{i}]"), node)?));
        list.iter().enumerate().filter_map(read).unzip()
    }

    fn transition(&mut self, path: &str, node: &Node) -> Option<Move> {
        let fields = self.fields(path, node, TRANSITION)?;
        let from = self.required(&fields, "from");
        let from = from.and_then(|it| self.sources(&fields.path_of("from"), it));
        let to = self.required_name(&fields, "to");
        let event = match fields.get("event") {
            None | Some(Node::Null) => Some(None),
            Some(it) => self
                .name::<EventName>(&fields.path_of("event"), it)
                .map(Some),
        };
        let description = self.text(&fields, "description");
        Some(Move {
            from: from?,
            to: to?,
            event: event?,
            description,
        })
    }

    fn sources(&mut self, path: &str, node: &Node) -> Option<MoveFrom> {
        match node {
            Node::Text(text) if text == "*" => Some(MoveFrom::Any),
            Node::Text(_) => Some(MoveFrom::States(vec![self.name::<StateName>(path, node)?])),
            Node::List(list) => {
                let read = |(i, node)| self.name::<StateName>(&format!("{path}[{i}]"), node);
                let states: Vec<_> = list.iter().enumerate().filter_map(read).collect();
                (states.len() == list.len()).then_some(MoveFrom::States(states))
            }
            _ => {
                let wanted =
                    "a state, a list of states, or \"*\" for every state that is not final";
                self.wrong(path, wanted, node);
                None
            }
        }
    }

    fn labels(&mut self, node: Option<&Node>) -> Metadata {
        let Some(node) = node else {
            return Metadata::default();
        };
        let Node::Map(entries) = node else {
            self.wrong("labels", "a map from names to texts", node);
            return Metadata::default();
        };
        let mut labels = vec![];
        for (key, node) in self.unique("labels", entries) {
            match node {
                Node::Text(text) => labels.push((key.as_str(), text.as_str())),
                node => {
                    let wanted = "text; numbers and dates need quotes";
                    self.wrong(&join("labels", key), wanted, node);
                }
            }
        }
        Metadata::new(labels).unwrap_or_else(|fault| {
            self.faults
                .add("labels", FaultCode::InvalidText, fault.to_string());
            Metadata::default()
        })
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
