//! What reading any part of a document takes: its fields, names and texts, with a fault for each
//! that is missing, unknown, there twice, or of another type.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::fault::{FaultCode, Faults};
use super::tree::Node;
use super::validate::check_text;
use crate::ids::InvalidName;
use crate::limits::Limits;

/// Reads on after a fault, with what is sound, so that one fault does not hide another.
pub(super) struct Reader<'a> {
    pub(super) faults: &'a mut Faults,
    pub(super) limits: &'a Limits,
}

pub(super) type Entries<'n> = &'n [(String, Node)];

impl Reader<'_> {
    pub(super) fn text(&mut self, path: &str, node: Option<&Node>) -> String {
        match node {
            None | Some(Node::Null) => String::new(),
            Some(Node::Text(text)) => {
                // Told here, with the rest of the document's form, and not a second time.
                let before = self.faults.count();
                check_text(path, text, self.faults);
                if self.faults.count() == before {
                    text.clone()
                } else {
                    String::new()
                }
            }
            Some(node) => {
                self.wrong(path, "text", node);
                String::new()
            }
        }
    }

    pub(super) fn flag(&mut self, path: &str, node: Option<&Node>) -> bool {
        match node {
            None => false,
            Some(Node::Bool(it)) => *it,
            Some(node) => {
                self.wrong(path, "true or false", node);
                false
            }
        }
    }

    pub(super) fn name<T: FromStr<Err = InvalidName>>(
        &mut self,
        path: &str,
        node: &Node,
    ) -> Option<T> {
        match node {
            Node::Text(text) => self.valid(path, text.parse()),
            node => {
                self.wrong(
                    path,
                    "a name; one that looks like a number needs quotes",
                    node,
                );
                None
            }
        }
    }

    pub(super) fn valid<T>(&mut self, path: &str, name: Result<T, InvalidName>) -> Option<T> {
        name.map_err(|fault| {
            self.faults
                .add(path, FaultCode::InvalidName, fault.to_string())
        })
        .ok()
    }

    /// The entries of a map with known fields.
    pub(super) fn fields<'n>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: &[&str],
    ) -> Option<Entries<'n>> {
        let Node::Map(entries) = node else {
            self.wrong(path, &format!("a map with {}", known.join(", ")), node);
            return None;
        };
        self.duplicates(path, entries);
        for (key, _) in entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            let nearest = known
                .iter()
                .max_by(|a, b| near(key, a).total_cmp(&near(key, b)));
            let message = match nearest.filter(|it| near(key, it) > 0.6) {
                Some(it) => format!("there is no such field; did you mean {it:?}?"),
                None => format!("there is no such field; there are {}", known.join(", ")),
            };
            self.faults
                .add(join(path, key), FaultCode::UnknownField, message);
        }
        Some(entries)
    }

    pub(super) fn duplicates(&mut self, path: &str, entries: Entries<'_>) {
        let mut seen = BTreeSet::new();
        for (key, _) in entries.iter().filter(|(key, _)| !seen.insert(key)) {
            self.faults.add(
                join(path, key),
                FaultCode::DuplicateKey,
                "the key is there twice",
            );
        }
    }

    pub(super) fn required<'n>(
        &mut self,
        path: &str,
        fields: Entries<'n>,
        name: &str,
    ) -> Option<&'n Node> {
        let node = field(fields, name);
        if node.is_none() {
            self.faults
                .add(join(path, name), FaultCode::Missing, "it is required");
        }
        node
    }

    pub(super) fn wrong(&mut self, path: &str, wanted: &str, found: &Node) {
        let message = format!("it must be {wanted}, and is {}", found.noun());
        self.faults.add(path, FaultCode::WrongType, message);
    }
}

fn near(a: &str, b: &str) -> f64 {
    // Beyond a name's length nothing is near, and the comparison takes quadratic time.
    if a.len() > 64 {
        0.0
    } else {
        strsim::jaro_winkler(a, b)
    }
}

pub(super) fn field<'n>(fields: Entries<'n>, name: &str) -> Option<&'n Node> {
    fields
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, node)| node)
}

/// A path one step on; what a key holds beyond 80 characters or below a space is left out.
pub(super) fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().filter(|c| !c.is_control()).take(80).collect();
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
