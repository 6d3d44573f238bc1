//! A JSON or YAML document as a tree of values.
//!
//! Both readers limit the depth and the number of values, and keep duplicate keys, so that the error for a
//! duplicate can give its path.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use lockstep_machine::DocumentError;

use crate::explain::explain_yaml;

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
            message: explain_json(&error),
        })
}

/// Reads YAML 1.2, one document.
pub(crate) fn yaml(text: &str) -> Result<Node, DocumentError> {
    use serde_saphyr::Error;
    let (lines_before, text) =
        one_document(text).map_err(|several| DocumentError::Syntax {
            format: "YAML",
            line: several.line as u64,
            column: 1,
            message: format!(
                "there are {} documents; send one at a time, or apply the file with `lockstep machine apply`",
                several.count
            ),
        })?;
    let options = yaml_options(DuplicateKeyPolicy::PassThrough);
    let nodes = Cell::new(0);
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Value::top(&nodes).deserialize(reader)
    });
    read.map_err(|error| {
        let place = error
            .location()
            .map_or((0, 0), |at| (at.line() + lines_before as u64, at.column()));
        DocumentError::Syntax {
            format: "YAML",
            line: place.0,
            column: place.1,
            message: match error.without_snippet() {
                // Only the type of a key can be wrong: a value may be of any.
                Error::Unexpected { .. } | Error::SerdeInvalidType { .. } => {
                    "a key must be text".to_owned()
                }
                Error::NullIntoString { .. } => {
                    "a key is null: put it in quotes, or name it".to_owned()
                }
                _ => explain_yaml(&error),
            },
        }
    })
}

/// How YAML is read: within limits, with aliases and merge keys, which are expanded within the same limits.
pub fn yaml_options(duplicate_keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
        },
        duplicate_keys: duplicate_keys,
        merge_keys: MergeKeyPolicy::Merge,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}

/// A YAML stream of which one document is expected has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeveralDocuments {
    /// How many have content.
    pub count: usize,
    /// The line of the second one's marker, from 1.
    pub line: usize,
}

/// The only document of a YAML stream that has content, with the number of lines before it. Empty if there is
/// none.
///
/// # Errors
///
/// There are several.
pub fn one_document(text: &str) -> Result<(usize, &str), SeveralDocuments> {
    let documents = documents(text);
    match documents[..] {
        [] => Ok((0, "")),
        [one] => Ok(one),
        [_, (second, _), ..] => Err(SeveralDocuments {
            count: documents.len(),
            line: second + 1,
        }),
    }
}

/// The documents of a YAML stream that have content, each with the number of lines before it.
pub fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = vec![];
    let (mut start, mut lines_before) = (0, 0);
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // At the start of a line, these are markers even in the middle of a scalar.
        let marker = ["---", "..."].into_iter().find(|marker| {
            let rest = line.strip_prefix(marker);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        });
        if let Some(marker) = marker {
            documents.push((lines_before, &text[start..at]));
            (start, lines_before) = (at + marker.len(), number);
        }
        at += line.len();
    }
    documents.push((lines_before, &text[start..]));
    let has_content =
        |line: &str| !matches!(line.trim_start().chars().next(), None | Some('#' | '%'));
    documents.retain(|(_, document)| document.lines().any(has_content));
    documents
}

/// What is wrong with a text that is not JSON.
fn explain_json(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "the document ends too early".to_owned(),
        _ => lockstep_machine::json::explain(&error.to_string()),
    }
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
    use lockstep_machine::library_words;

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
    fn aliases_and_merges_are_expanded_and_markers_ignored() {
        for (text, same) in [
            ("a: &x 1\nb: *x\n", "a: 1\nb: 1\n"),
            ("a: &x [1]\nb: [*x, *x]\n", "a: [1]\nb: [[1], [1]]\n"),
            (
                "a: &x {b: 1}\nc: {<<: *x, d: 2}\n",
                "a: {b: 1}\nc: {d: 2, b: 1}\n",
            ),
            ("---\na: 1\n---\n", "a: 1\n"),
            ("%YAML 1.2\n---\na: 1\n...\n", "a: 1\n"),
            ("# a comment\n--- {a: 1}\n", "a: 1\n"),
        ] {
            assert_eq!(yaml(text).unwrap(), yaml(same).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_document_is_explained_without_a_librarys_words() {
        let levels =
            (1..9).map(|n| format!("l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(10)));
        let bomb = format!("l0: &l0 [x]\n{}", levels.collect::<String>());
        for (text, words) in [
            (bomb.as_str(), "aliases"),
            ("a: 1\n---\nb: 2\n", "line 2, column 1"),
            ("a: 1\n---\nb: 2\n", "2 documents"),
            ("a: *nowhere\n", "anchor that is not defined"),
            ("a: &x [*x]\n", "alias"),
            ("null: 1\n", "a key is null"),
            ("~: 1\n", "a key is null"),
            ("[a]: 1\n", "key"),
            ("---\n# nothing\n---\nb: [1\n", "line "),
            ("a: [1}", "the bracket '[' closed by '}'"),
            ("a: {b: 1", "the bracket '{' is not closed"),
            ("a: 'x", "a quote is not closed"),
            ("a: b: c", "a colon is not allowed here"),
            ("a: x\n b: c", "a colon is not allowed here"),
            ("{a:[1]}", "the space after it"),
            ("a: x\n\tb: c", "indent with spaces"),
            ("- a\nb: c", "begins with -"),
            ("a: 1\n- b", "a key is expected here"),
            ("a: - b", "a - is not allowed here"),
            ("a\nb: 1", "a colon is not allowed here"),
            ("a: @x", "cannot begin with @"),
            ("a: `x`", "cannot begin with `"),
            ("a: %x", "cannot begin with %"),
            ("a: &", "the name of an anchor"),
            ("a: *", "the name of an anchor"),
            ("a: \"\\q\"", "an escape that YAML does not have"),
            ("a: \"\\u12\"", "an escape that YAML does not have"),
            ("a: \"x\" y", "something follows a text in quotes"),
            ("a: |2x\n  b", "after | or >"),
            ("a: [b]]", "a bracket"),
            ("a: !<x", "a tag (!)"),
            ("a: !!binary \"!\"", "not allowed in YAML"),
            ("{a: 1}: 2: 3", ""),
            ("&a &b c", ""),
            ("? a: b\n  c", ""),
            ("a: |\n   b\n  c\n d", ""),
        ] {
            let fault = message(yaml(text).expect_err(text));
            assert!(fault.contains(words), "{text}: {fault}");
            assert_eq!(library_words(&fault), None, "{text}: {fault}");
        }
        for text in ["", "{", "{\"a\": ", "[1,", "{\"a\" 1}", "nul"] {
            let fault = message(json(text).expect_err(text));
            assert_eq!(library_words(&fault), None, "{text}: {fault}");
        }
    }
}
