//! A document as a tree of values, whichever language it is written in.
//!
//! Both readers bound the depth and the number of values, and keep repeated keys, so that the fault
//! can name its path.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use lockstep_machine::DocumentError;

/// The deepest document accepted; a definition is five deep.
const DEPTH_MAX: usize = 16;
/// The most values in a document.
const NODES_MAX: usize = 100_000;

/// One value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Whole(u64),
    /// Any other number.
    Number,
    Text(String),
    List(Vec<Node>),
    /// In order; a key may be repeated.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What it is, with its article.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Bool(_) => "true or false",
            Node::Whole(_) | Node::Number => "a number",
            Node::Text(_) => "text",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }
}

/// Reads JSON.
pub(crate) fn json(text: &str) -> Result<Node, DocumentError> {
    let nodes = Cell::new(0);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Value::top(&nodes).deserialize(&mut reader);
    read.and_then(|node| reader.end().map(|()| node))
        .map_err(|error| DocumentError::Syntax {
            format: "JSON",
            line: error.line() as u64,
            column: error.column() as u64,
            message: plain(&error.to_string()),
        })
}

/// Reads YAML 1.2, one document.
pub(crate) fn yaml(text: &str) -> Result<Node, DocumentError> {
    use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_anchors: 0,
            max_aliases: 0,
            max_documents: 1,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 0,
            max_replay_stack_depth: 0,
            max_alias_expansions_per_anchor: 0,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    let nodes = Cell::new(0);
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Value::top(&nodes).deserialize(reader)
    });
    read.map_err(|error| {
        let place = error
            .location()
            .map_or((0, 0), |at| (at.line(), at.column()));
        DocumentError::Syntax {
            format: "YAML",
            line: place.0,
            column: place.1,
            message: plain(&error.to_string()),
        }
    })
}

/// The first line of a library's message, bounded, without the position, which is reported apart.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Value<'a> {
    depth: usize,
    nodes: &'a Cell<usize>,
}

impl<'a> Value<'a> {
    fn top(nodes: &'a Cell<usize>) -> Self {
        Self { depth: 0, nodes }
    }

    fn inner<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom("the document is nested too deeply"));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn count<E: de::Error>(self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > NODES_MAX {
            return Err(E::custom("the document has too many values"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
        self.count()?;
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_bool<E>(self, it: bool) -> Result<Node, E> {
        Ok(Node::Bool(it))
    }
    fn visit_u64<E>(self, it: u64) -> Result<Node, E> {
        Ok(Node::Whole(it))
    }
    fn visit_i64<E>(self, it: i64) -> Result<Node, E> {
        Ok(u64::try_from(it).map_or(Node::Number, Node::Whole))
    }
    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }
    fn visit_str<E>(self, it: &str) -> Result<Node, E> {
        Ok(Node::Text(it.to_owned()))
    }
    fn visit_string<E>(self, it: String) -> Result<Node, E> {
        Ok(Node::Text(it))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let inner = self.inner()?;
        let mut nodes = vec![];
        while let Some(node) = list.next_element_seed(inner)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let inner = self.inner()?;
        let mut entries = vec![];
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value_seed(inner)?));
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: DocumentError) -> String {
        error.to_string()
    }

    #[test]
    fn both_languages_give_the_same_tree() {
        let from_json = json(r#"{"a": [1, "x", true, null, -1, {"b": 2.5}], "a": {}}"#).unwrap();
        let from_yaml = yaml("a: [1, x, true, null, -1, {b: 2.5}]\na: {}\n").unwrap();
        assert_eq!(from_json, from_yaml);
        let Node::Map(entries) = from_json else {
            panic!()
        };
        assert_eq!(entries.len(), 2, "a key that is there twice is kept twice");
    }

    #[test]
    fn words_that_old_yaml_took_for_booleans_are_text_and_keys_are_always_text() {
        let expected = Node::Map(vec![
            ("on".to_owned(), Node::Text("off".to_owned())),
            ("1".to_owned(), Node::Text("no".to_owned())),
            ("x".to_owned(), Node::Bool(true)),
        ]);
        assert_eq!(yaml("on: off\n1: no\nx: true\n").unwrap(), expected);
    }

    #[test]
    fn a_syntax_error_names_line_and_column() {
        let fault = message(json("{\"a\": 1,\n  \"b\": }").unwrap_err());
        assert!(fault.contains("line 2, column 8"), "{fault}");
        let fault = message(yaml("a: 1\nb: [1, 2\nc: 3\n").unwrap_err());
        assert!(fault.contains("line "), "{fault}");
    }

    #[test]
    fn depth_and_number_are_bounded() {
        for deep in [17, 200, 100_000] {
            let text = "[".repeat(deep) + &"]".repeat(deep);
            assert!(json(&text).is_err(), "JSON, {deep} deep");
            assert!(yaml(&text).is_err(), "YAML, {deep} deep");
        }
        let wide = format!("[{}0]", "0,".repeat(NODES_MAX));
        assert!(message(json(&wide).unwrap_err()).contains("too many values"));
        assert!(yaml(&wide).is_err());
    }

    #[test]
    fn aliases_anchors_merges_and_further_documents_are_refused() {
        for text in [
            "a: &x 1\nb: *x\n",
            "a: &x [1]\nb: [*x, *x]\n",
            "a: &x {b: 1}\nc: {<<: *x}\n",
            "a: &x 1\n",
            "<<: {a: 1}\n",
            "a: 1\n---\nb: 2\n",
            "a: *nowhere\n",
        ] {
            assert!(yaml(text).is_err(), "{text:?} gave {:?}", yaml(text));
        }
    }
}
