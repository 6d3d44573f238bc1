//! Reads the parts of a document: fields, names and texts. Each one that is missing, unknown, repeated
//! or of the wrong type becomes a fault.

use std::collections::BTreeSet;
use std::str::FromStr;

use lockstep_machine::{FaultCode, Faults, InvalidName, Limits, check_text, nearest};

use crate::tree::Node;

/// Continues after a fault, so that one fault does not hide another.
pub(crate) struct Reader<'a> {
    pub(crate) faults: &'a mut Faults,
    pub(crate) limits: &'a Limits,
}

/// The entries of a map, and where it is.
pub(crate) struct Fields<'n> {
    pub(crate) path: String,
    pub(crate) entries: &'n [(String, Node)],
}

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        let found = self.entries.iter().find(|(key, _)| key == name);
        found.map(|(_, node)| node)
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }
}

impl Reader<'_> {
    pub(crate) fn text(&mut self, fields: &Fields<'_>, name: &str) -> String {
        let path = fields.path_of(name);
        match fields.get(name) {
            None | Some(Node::Null) => String::new(),
            Some(Node::Text(text)) => {
                // Validation would report a bad text a second time.
                let before = self.faults.count();
                check_text(path, text, self.faults);
                if self.faults.count() == before {
                    text.clone()
                } else {
                    String::new()
                }
            }
            Some(node) => {
                self.wrong(&path, "text", node);
                String::new()
            }
        }
    }

    pub(crate) fn flag(&mut self, fields: &Fields<'_>, name: &str) -> bool {
        match fields.get(name) {
            None => false,
            Some(Node::Bool(it)) => *it,
            Some(node) => {
                self.wrong(&fields.path_of(name), "true or false", node);
                false
            }
        }
    }

    pub(crate) fn name<T: FromStr<Err = InvalidName>>(
        &mut self,
        path: &str,
        node: &Node,
    ) -> Option<T> {
        match node {
            Node::Text(text) => self.valid(path, text.parse()),
            node => {
                let wanted = "a name; one that looks like a number needs quotes";
                self.wrong(path, wanted, node);
                None
            }
        }
    }

    pub(crate) fn valid<T>(&mut self, path: &str, name: Result<T, InvalidName>) -> Option<T> {
        name.map_err(|fault| {
            self.faults
                .add(path, FaultCode::InvalidName, fault.to_string())
        })
        .ok()
    }

    /// The entries of a map with known fields.
    pub(crate) fn fields<'n>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        let Node::Map(entries) = node else {
            self.wrong(path, &format!("a map with {}", known.join(", ")), node);
            return None;
        };
        self.unique(path, entries);
        for (key, _) in entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            let message = match nearest(key, known.iter().copied()) {
                Some(it) => format!("there is no such field; did you mean {it:?}?"),
                None => format!(
                    "there is no such field; the fields are {}",
                    known.join(", ")
                ),
            };
            self.faults
                .add(join(path, key), FaultCode::UnknownField, message);
        }
        let path = path.to_owned();
        Some(Fields { path, entries })
    }

    /// The first entry of each key; a key that is repeated is a fault.
    pub(crate) fn unique<'n>(
        &mut self,
        path: &str,
        entries: &'n [(String, Node)],
    ) -> Vec<&'n (String, Node)> {
        let mut seen = BTreeSet::new();
        let (first, repeated): (Vec<_>, Vec<_>) =
            entries.iter().partition(|(key, _)| seen.insert(key));
        for (key, _) in repeated {
            let message = "the key appears twice; give it once";
            self.faults
                .add(join(path, key), FaultCode::DuplicateKey, message);
        }
        first
    }

    pub(crate) fn required<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Option<&'n Node> {
        let node = fields.get(name);
        if node.is_none() {
            let path = fields.path_of(name);
            self.faults.add(path, FaultCode::Missing, "it is required");
        }
        node
    }

    /// A field that must be there and hold a name.
    pub(crate) fn required_name<T: FromStr<Err = InvalidName>>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
    ) -> Option<T> {
        let node = self.required(fields, name)?;
        self.name(&fields.path_of(name), node)
    }

    pub(crate) fn wrong(&mut self, path: &str, wanted: &str, found: &Node) {
        let message = format!("found {}, expected {wanted}", found.noun());
        self.faults.add(path, FaultCode::WrongType, message);
    }
}

/// Appends a key to a path: at most 80 characters of it, without control characters.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().filter(|c| !c.is_control()).take(80).collect();
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
