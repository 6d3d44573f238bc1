//! Recognizes a document that was written for another state machine tool, so that its refusal can say so.

use crate::tree::Node;

/// A tool that definitions are often brought from. docs/TRANSLATING.md has a section for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    XState,
    StatesLanguage,
    Scxml,
    Pytransitions,
    Statesman,
    Aasm,
}

/// Words by which the source text of a tool is recognized where it is no map.
const MARKS: [(&str, Foreign); 6] = [
    ("<scxml", Foreign::Scxml),
    ("createMachine(", Foreign::XState),
    ("Statesman::Machine", Foreign::Statesman),
    ("include AASM", Foreign::Aasm),
    ("aasm do", Foreign::Aasm),
    ("from transitions import", Foreign::Pytransitions),
];

/// Fields that a state of XState has, and one of a definition has not.
const XSTATE: [&str; 6] = ["on", "always", "entry", "exit", "invoke", "onDone"];

impl Foreign {
    /// What a text is that is no map of JSON or YAML.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let found = MARKS.iter().find(|(mark, _)| text.contains(mark));
        found.map(|(_, foreign)| *foreign)
    }

    /// What a document is. None for every valid definition.
    pub(crate) fn of(node: &Node, text: &str) -> Option<Self> {
        let Node::Map(top) = node else {
            return Self::of_text(text);
        };
        if has(top, "StartAt") || has(top, "States") {
            return Some(Self::StatesLanguage);
        }
        if let Some(Node::Map(states)) = get(top, "states") {
            let is_root = has(top, "context") || has_any(top, &XSTATE);
            if is_root || states.iter().any(|(_, state)| is_xstate(state)) {
                return Some(Self::XState);
            }
        }
        let listed = matches!(get(top, "states"), Some(Node::List(_)));
        let Some(Node::List(transitions)) = get(top, "transitions") else {
            return None;
        };
        let is_foreign = |it: &Node| match it {
            Node::Map(fields) => has_any(fields, &["trigger", "source", "dest"]),
            // Trigger, source and destination in order.
            Node::List(parts) => listed && parts.len() >= 3,
            _ => false,
        };
        transitions
            .iter()
            .any(is_foreign)
            .then_some(Self::Pytransitions)
    }

    /// For the author of the document.
    pub(crate) fn advice(self) -> String {
        let what = match self {
            Self::XState => "an XState machine",
            Self::StatesLanguage => "a state machine in the Amazon States Language",
            Self::Scxml => "SCXML",
            Self::Pytransitions => "a machine of pytransitions",
            Self::Statesman => "a machine of statesman",
            Self::Aasm => "a machine of AASM",
        };
        format!(
            "this looks like {what}; docs/TRANSLATING.md shows how to write it as a Lockstep definition"
        )
    }
}

fn is_xstate(state: &Node) -> bool {
    match state {
        Node::Map(fields) => {
            // A timeout whose `after` is a level too high is no map.
            let delays = matches!(get(fields, "after"), Some(Node::Map(_)));
            delays || has(fields, "states") || has_any(fields, &XSTATE)
        }
        _ => false,
    }
}

fn get<'n>(fields: &'n [(String, Node)], name: &str) -> Option<&'n Node> {
    let found = fields.iter().find(|(key, _)| key == name);
    found.map(|(_, node)| node)
}

fn has(fields: &[(String, Node)], name: &str) -> bool {
    get(fields, name).is_some()
}

fn has_any(fields: &[(String, Node)], names: &[&str]) -> bool {
    names.iter().any(|name| has(fields, name))
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{Definition, DefinitionInvalid, DocumentError, Limits};

    fn json(text: &str) -> Result<Definition, DocumentError> {
        crate::parse_json(text, &Limits::default())
    }

    fn yaml(text: &str) -> Result<Definition, DocumentError> {
        crate::parse_yaml(text, &Limits::default())
    }

    #[test]
    fn a_document_of_another_tool_is_reported_with_the_tool_and_its_faults() {
        for (text, tool) in [
            (
                r#"{"initial": "a", "states": {"a": {"on": {"GO": "b"}}, "b": {}}}"#,
                "an XState machine",
            ),
            (
                r#"{"initial": "a", "states": {"a": {"after": {"10": "a"}}}}"#,
                "an XState machine",
            ),
            (
                r#"{"initial": "a", "context": {}, "on": {"X": "a"}, "states": {"a": {}}}"#,
                "an XState machine",
            ),
            (
                r#"{"initial": "a", "states": {"a": {"states": {"b": {}}}}}"#,
                "an XState machine",
            ),
            (
                r#"{"StartAt": "A", "States": {"A": {"Type": "Task", "End": true}}}"#,
                "a state machine in the Amazon States Language",
            ),
            (
                r#"{"states": ["a"], "transitions": [{"trigger": "t", "source": "a", "dest": "a"}]}"#,
                "a machine of pytransitions",
            ),
            (
                r#"{"states": ["a"], "transitions": [["t", "a", "a"]]}"#,
                "a machine of pytransitions",
            ),
        ] {
            for read in [json(text), yaml(text)] {
                let Err(DocumentError::Invalid(DefinitionInvalid(faults))) = read else {
                    panic!("{text}: {read:?}");
                };
                let advice = format!("this looks like {tool}; docs/TRANSLATING.md shows how");
                assert!(faults[0].message.starts_with(&advice), "{:?}", faults[0]);
                assert!(
                    faults[1..].iter().all(|it| !it.path.is_empty()),
                    "{faults:?}"
                );
                assert!(faults.len() > 1, "{faults:?}");
            }
        }
        for (text, tool) in [
            (
                "{'states': ['a'], 'transitions': [{'trigger': 't', 'source': 'a', 'dest': 'a'}]}",
                "a machine of pytransitions",
            ),
            (
                "{initial: 'a', states: {a: {on: {GO: 'a'}}}}",
                "an XState machine",
            ),
            (
                "aasm do\n  state :a, initial: true\nend\n",
                "a machine of AASM",
            ),
        ] {
            let message = json(text).unwrap_err().to_string();
            let advice = format!("this looks like {tool}; docs/TRANSLATING.md shows how");
            assert!(message.contains(&advice), "{text}: {message}");
        }
        let scxml = "<?xml version=\"1.0\"?>\n<scxml initial=\"a\"><state id=\"a\"/></scxml>";
        for read in [json(scxml), yaml(scxml)] {
            let message = read.unwrap_err().to_string();
            assert!(message.contains("this looks like SCXML"), "{message}");
        }
    }

    #[test]
    fn a_definition_with_a_slip_is_not_taken_for_another_tools() {
        for text in [
            r#"{"name": "m", "initial": "a", "states": {"a": {"after": "15m", "type": "final"}}}"#,
            r#"{"name": "m", "initial": "a", "states": ["a"], "transitions": [{"from": "a", "to": "a"}]}"#,
            r#"{"name": "m", "description": "<scxml createMachine(", "initial": "a", "states": {"a": 7}}"#,
            "{name: m, initial: a, states: {a: {}}}",
            r#"{"name": "m", "on": {"push": {}}, "jobs": {}}"#,
            "{",
            "[]",
        ] {
            let message = json(text).unwrap_err().to_string();
            assert!(!message.contains("this looks like"), "{message}");
        }
        let quoted = "{name: m, description: include AASM, initial: a, states: {a: {}}}";
        assert!(yaml(quoted).is_ok());
    }
}
