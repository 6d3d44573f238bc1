//! Errors of serde-saphyr, in the words of this product.

use lockstep_machine::json::explain;
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

const NOT_ALLOWED: &str = "what stands here is not allowed in YAML";

/// What is wrong with a text that is not YAML, or not what is expected. The position is not part of it.
pub fn explain_yaml(error: &Error) -> String {
    use Error as E;
    let message = match error.without_snippet() {
        E::AliasError { error, .. } => return explain_yaml(error),
        E::Budget { breach, .. } => over_budget(breach),
        E::AliasReplayCounterOverflow { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. } => "its aliases expand to too many values",
        E::AliasReplayStackDepthExceeded { .. } => "its aliases are nested too deeply",
        E::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias refers to a value that contains it"
        }
        E::UnknownAnchor { .. } => "an alias names an anchor that is not defined before it",
        E::MergeValueNotMapOrSeqOfMaps { .. } => "the value of << must be a map or a list of maps",
        E::MergeKeyNotAllowed { .. } => "merge keys (<<) are not allowed here",
        E::MultipleDocuments { .. } => "there is more than one document",
        E::NullIntoString { .. } => "expected text, found null: put it in quotes, or name it",
        E::Eof { .. } => "the document is empty or ends too early",
        E::InvalidUtf8Input => "the document is not UTF-8",
        E::InvalidBooleanStrict { .. } => "expected true or false",
        E::QuotingRequired { .. } => "a text that looks like another value needs quotes",
        E::ExternalMessage { msg, .. } => return about_syntax(msg),
        E::Message { msg, .. } | E::SerdeVariantId { msg, .. } => return explain(msg),
        other => return about_fields(other).unwrap_or_else(|| NOT_ALLOWED.to_owned()),
    };
    message.to_owned()
}

/// A message of the parser.
fn about_syntax(message: &str) -> String {
    if let Some(bracket) = message.strip_prefix("unclosed bracket ") {
        return format!("the bracket {bracket} is not closed");
    }
    if let Some(brackets) = message.strip_prefix("mismatched bracket ") {
        return format!("the bracket {brackets}");
    }
    let character = message.strip_prefix("unexpected character: `");
    if let Some(character) = character.and_then(|it| it.strip_suffix('\'')) {
        return format!("a text cannot begin with {character} unless it is in quotes");
    }
    let has = |part: &str| message.contains(part);
    let plain = match message {
        "while parsing a block mapping, did not find expected key" => {
            "a key is expected here; check the indentation"
        }
        "while parsing a block collection, did not find expected '-' indicator" => {
            "an entry that begins with - is expected here; check the indentation"
        }
        "while parsing a flow mapping, did not find expected ',' or '}'" => {
            "a comma or } is expected here"
        }
        "while parsing a flow sequence, expected ',' or ']'" => "a comma or ] is expected here",
        "unclosed quote" => "a quote is not closed",
        "misplaced bracket" => "a bracket is closed that was not opened",
        "simple key expected ':'" | "simple key is no longer valid" => {
            "a key needs a colon on the same line; check the indentation"
        }
        "comment intercepting the multiline text"
        | "comments must be separated from other tokens by whitespace" => {
            "a comment (#) is not allowed here; put a text that contains # in quotes"
        }
        "while scanning a quoted scalar, found unexpected document indicator" => {
            "a text in quotes has a line that begins with --- or ..."
        }
        "a BOM must not appear inside a document" => "a byte order mark is not at the beginning",
        _ if has("tab") => "a tab is not allowed here; indent with spaces",
        _ if has("EOF") || has("eof") => "the document ends too early",
        _ if has("trailing content") => "something follows a text in quotes",
        _ if has("<document start>") || has("document end") => {
            "something follows the end of the document; check the indentation"
        }
        _ if has("escape") || has("surrogate") || has("hexadecimal") => {
            "a text in double quotes contains an escape that YAML does not have"
        }
        _ if has("anchor") => {
            "the name of an anchor (&) or an alias (*) is missing; put a text that begins so in quotes"
        }
        _ if has("directive") || has("version") => "a directive (%) is not valid; leave it out",
        _ if has(" tag") || has("TAG") || has("handle") => {
            "a tag (!) is not valid; put a text that begins so in quotes"
        }
        _ if has("block scalar, ") => "after | or > only a comment may follow on the line",
        _ if has("indent") => "the indentation is wrong",
        _ if has("mapping") || has("':'") => {
            "a colon is not allowed here; check the indentation and the space after it, or put the text in quotes"
        }
        _ if has("block sequence") || has("\"-\"") || has("'-'") => {
            "a - is not allowed here; check the indentation and the space after it, or put the text in quotes"
        }
        _ if has("recursion") => "the document is nested too deeply",
        _ => NOT_ALLOWED,
    };
    plain.to_owned()
}

fn over_budget(breach: &BudgetBreach) -> &'static str {
    match breach {
        BudgetBreach::Depth { .. } => "the document is nested too deeply",
        BudgetBreach::Anchors { .. }
        | BudgetBreach::Aliases { .. }
        | BudgetBreach::AliasAnchorRatio { .. } => "the document has too many aliases",
        BudgetBreach::MergeKeys { .. } => "the document has too many merge keys",
        _ => "the document has too many values",
    }
}

/// An error that serde has in every format: put together as serde writes it.
fn about_fields(error: &Error) -> Option<String> {
    use Error as E;
    let list = |known: &[&str]| {
        let known: Vec<_> = known.iter().map(|it| format!("`{it}`")).collect();
        known.join(", ")
    };
    Some(explain(&match error {
        E::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | E::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => format!("invalid type: {unexpected}, expected {expected}"),
        E::SerdeInvalidLength { len, expected, .. } => {
            format!("invalid length {len}, expected {expected}")
        }
        E::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            format!("unknown variant `{variant}`, expected {}", list(expected))
        }
        E::SerdeUnknownField {
            field, expected, ..
        } => {
            format!("unknown field `{field}`, expected {}", list(expected))
        }
        E::SerdeMissingField { field, .. } => format!("missing field `{field}`"),
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            format!("duplicate field `{key}`")
        }
        E::InvalidScalar { ty, .. } => format!("invalid type: another value, expected {ty}"),
        E::Unexpected { expected, .. } => {
            let expected = match *expected {
                "mapping start" => "a map",
                "mapping end" => "an object with one field",
                "sequence start" => "a sequence",
                "string scalar" => "a string",
                _ => "a single value",
            };
            format!("invalid type: another value, expected {expected}")
        }
        E::ExpectedStringKeyForExternallyTaggedEnum { .. }
        | E::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            "invalid type: another value, expected variant identifier".to_owned()
        }
        _ => return None,
    }))
}
