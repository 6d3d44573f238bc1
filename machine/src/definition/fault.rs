//! Errors in a definition, with their path.

use minicbor::{Decode, Encode};
use serde::Serialize;

/// Maximum number of faults that are listed; further ones are only counted.
pub(crate) const FAULTS_MAX: usize = 100;

crate::codec::named! {
    FaultCode, "What kind of fault or warning it is.";
    0 Missing = "missing", "A required field is missing.";
    1 WrongType = "wrong_type", "A field is of another type than it must be.";
    2 UnknownField = "unknown_field", "There is no field of that name.";
    3 DuplicateKey = "duplicate_key", "A key is there twice.";
    4 InvalidName = "invalid_name", "A name breaks the rules for names.";
    5 InvalidText = "invalid_text", "A text is too long, or holds control characters.";
    6 InvalidDuration = "invalid_duration", "A duration cannot be read, or is too short or too long.";
    7 UnknownState = "unknown_state", "A state is named that is not listed.";
    8 DuplicateState = "duplicate_state", "A state is listed twice.";
    9 NoStates = "no_states", "There are no states.";
    10 TooManyStates = "too_many_states", "There are more states than allowed.";
    11 TooManyTransitions = "too_many_transitions", "There are more transitions than allowed.";
    12 EmptyFrom = "empty_from", "A transition starts nowhere.";
    13 DuplicateTransition = "duplicate_transition", "The same transition is there twice.";
    14 ConflictingEvent = "conflicting_event", "An event leads from one state to two.";
    15 FinalHasExit = "final_has_exit", "A transition leaves a final state.";
    16 FinalHasTimeout = "final_has_timeout", "A final state has a timeout.";
    17 MoreFaults = "more_faults", "The faults after the first hundred are not listed.";
    18 Unreachable = "unreachable", "Warning: no way leads to the state.";
    19 NoWayOut = "no_way_out", "Warning: nothing leads out of a state that is not final.";
    20 ShortCycle = "short_cycle", "Warning: timeouts alone lead back to the state in less than 100 ms.";
}

/// One thing wrong with a definition, or one warning about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{}{message}", match .path.as_str() { "" => String::new(), path => format!("{path}: ") })]
pub struct DefinitionFault {
    /// Where in the document, for example `transitions[3].to` or `states.paid.timeout.to`.
    #[n(0)]
    pub path: String,
    /// What kind of fault it is.
    #[n(1)]
    pub code: FaultCode,
    /// What is wrong and what is allowed.
    #[n(2)]
    pub message: String,
}

/// Every fault of a definition, at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, thiserror::Error)]
#[error("the definition has {} error(s): {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[cbor(transparent)]
pub struct DefinitionInvalid(#[n(0)] pub Vec<DefinitionFault>);

/// A document that is not a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is longer than allowed; it was not read.
    #[error("the document has {bytes} bytes; the maximum is {max}")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// It cannot be read at all.
    #[error("the document is not valid {format}: {message} (line {line}, column {column})")]
    Syntax {
        /// `JSON` or `YAML`.
        format: &'static str,
        /// The line, from 1; 0 if it is not known.
        line: u64,
        /// The column, from 1; 0 if it is not known.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// It can be read, but does not define a machine.
    #[error(transparent)]
    Invalid(#[from] DefinitionInvalid),
}

impl DocumentError {
    /// The stable code: snake case, the same everywhere.
    pub fn code(&self) -> &'static str {
        match self {
            DocumentError::TooLarge { .. } => "definition_too_large",
            DocumentError::Syntax { .. } => "malformed_document",
            DocumentError::Invalid(_) => "invalid_definition",
        }
    }
}

/// Collects faults up to the maximum, and counts the rest.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<DefinitionFault>,
    more: usize,
}

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, path: impl Into<String>, code: FaultCode, message: impl Into<String>) {
        if self.list.len() == FAULTS_MAX {
            self.more += 1;
            return;
        }
        let (path, message) = (path.into(), message.into());
        self.list.push(DefinitionFault {
            path,
            code,
            message,
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The number of faults, including those that were not listed.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }

    /// The faults; the last one says how many were left out.
    pub fn into_list(mut self) -> Vec<DefinitionFault> {
        if self.more > 0 {
            self.list.push(DefinitionFault {
                path: String::new(),
                code: FaultCode::MoreFaults,
                message: format!("there are {} more", self.more),
            });
        }
        self.list
    }

    pub(crate) fn into_result(self) -> Result<(), DefinitionInvalid> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DefinitionInvalid(self.into_list()))
        }
    }
}
