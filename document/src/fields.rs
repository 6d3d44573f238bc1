//! Reads the parts of a document: fields, names and texts. Each one that is missing, unknown, repeated
//! or of the wrong type becomes a fault.

use std::collections::BTreeSet;
use std::str::FromStr;

use lockstep_machine::{FaultCode, Faults, InvalidName, Limits, check_text};

use crate::tree::Node;

/// Continues after a fault, so that one fault does not hide another.
pub(crate) struct Reader<'a> {
    pub(crate) faults: &'a mut Faults,
    pub(crate) limits: &'a Limits,
}

pub(crate) type Entries<'n> = &'n [(String, Node)];

impl Reader<'_> {
    pub(crate) fn text(&mut self, path: &str, node: Option<&Node>) -> String {
        match node {
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
                self.wrong(path, "text", node);
                String::new()
            }
        }
    }

    pub(crate) fn flag(&mut self, path: &str, node: Option<&Node>) -> bool {
        match node {
            None => false,
            Some(Node::Bool(it)) => *it,
            Some(node) => {
                self.wrong(path, "true or false", node);
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
                self.wrong(
                    path,
                    "a name; one that looks like a number needs quotes",
                    node,
                );
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
                Some(it) => format!("unknown field; did you mean {it:?}?"),
                None => format!("unknown field; the fields are {}", known.join(", ")),
            };
            self.faults
                .add(join(path, key), FaultCode::UnknownField, message);
        }
        Some(entries)
    }

    pub(crate) fn duplicates(&mut self, path: &str, entries: Entries<'_>) {
        let mut seen = BTreeSet::new();
        for (key, _) in entries.iter().filter(|(key, _)| !seen.insert(key)) {
            self.faults.add(
                join(path, key),
                FaultCode::DuplicateKey,
                "the key appears twice",
            );
        }
    }

    pub(crate) fn required<'n>(
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

    pub(crate) fn wrong(&mut self, path: &str, wanted: &str, found: &Node) {
        let message = format!("found {}, expected {wanted}", found.noun());
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

pub(crate) fn field<'n>(fields: Entries<'n>, name: &str) -> Option<&'n Node> {
    fields
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, node)| node)
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
