//! Errors of serde-saphyr, in the words of this product.

use lockstep_machine::json::explain;
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

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
        E::Message { msg, .. } | E::ExternalMessage { msg, .. } | E::SerdeVariantId { msg, .. } => {
            return explain(msg);
        }
        other => return about_fields(other).unwrap_or_else(|| "it is not valid YAML".to_owned()),
    };
    message.to_owned()
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
            format!("invalid type: another value, expected {expected}")
        }
        E::ExpectedStringKeyForExternallyTaggedEnum { .. }
        | E::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            "invalid type: another value, expected variant identifier".to_owned()
        }
        _ => return None,
    }))
}
