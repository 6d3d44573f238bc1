//! From a [`Definition`] to a document that parses to an equal definition.

use lockstep_machine::Definition;

/// Writes a definition as an indented JSON document.
pub fn to_json(definition: &Definition) -> String {
    serde_json::to_string_pretty(definition).expect("every definition has a JSON form")
}

/// Writes a definition as a YAML document.
pub fn to_yaml(definition: &Definition) -> String {
    serde_saphyr::to_string(definition).expect("every definition has a YAML form")
}
