//! Definitions as people write them: JSON and YAML documents, and diagrams.
//!
//! [`parse_json`] and [`parse_yaml`] turn a document into a valid
//! [`Definition`], or list every fault at once, each with its path in
//! the document. A document is read in two steps: *tree* reads either language into one bounded tree
//! of values, then *parse* (with *fields*) reads the tree as a definition and continues after an error, so
//! that all errors are reported. The state machine then validates the definition; its errors are added, with
//! paths in the document.
//!
//! [`to_json`] and [`to_yaml`] write a definition as a document that parses to an equal definition.
//! A [`diagram::Diagram`] draws it as Mermaid, Graphviz or SVG.
//!
//! What a document may cost is bounded: its length by the cluster's limit, its depth and its number of
//! values by constants, which hold after YAML aliases and merge keys are expanded: a page of them can stand
//! for gigabytes. [`documents`] splits a file of several YAML documents. [`yaml_options`] and [`one_document`] are
//! the rules for YAML, for other documents to be read under the same.
//!
//! A document written for another tool is refused like any other, and the refusal says which tool it seems to
//! be (*foreign*); docs/TRANSLATING.md shows how to translate it.

pub mod diagram;
mod explain;
mod fields;
mod foreign;
mod parse;
mod tree;

pub use explain::explain_yaml;
use lockstep_machine::Definition;
pub use lockstep_machine::DocumentError;
pub use parse::{parse_json, parse_yaml};
pub use tree::{SeveralDocuments, documents, one_document, yaml_options};

/// Writes a definition as an indented JSON document that parses to an equal definition.
pub fn to_json(definition: &Definition) -> String {
    serde_json::to_string_pretty(definition).expect("every definition has a JSON form")
}

/// Writes a definition as a YAML document that parses to an equal definition.
pub fn to_yaml(definition: &Definition) -> String {
    serde_saphyr::to_string(definition).expect("every definition has a YAML form")
}
