//! What can be wrong with a definition, and where.

use minicbor::{Decode, Encode};
use serde::Serialize;

/// The most faults that are listed; a document with more is told how many there are.
pub(crate) const FAULTS_MAX: usize = 100;

macro_rules! codes {
    ($($n:literal $(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What kind of fault or warning it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
        #[cbor(index_only)]
        pub enum FaultCode {
            $(#[n($n)] #[serde(rename = $code)] $(#[$doc])* $name,)*
        }

        impl FaultCode {
            /// Every code there is.
            pub const ALL: &[FaultCode] = &[$(FaultCode::$name,)*];

            /// The stable code: snake case, the same everywhere.
            pub fn code(self) -> &'static str {
                match self {
                    $(FaultCode::$name => $code,)*
                }
            }
        }
    };
}

crate::schema::schema!(
    FaultCode,
    text().enum_values(Some(FaultCode::ALL.iter().map(|it| it.code())))
);

codes! {
    0
    /// A required field is missing.
    Missing = "missing",
    1
    /// A field is of another type than it must be.
    WrongType = "wrong_type",
    2
    /// There is no field of that name.
    UnknownField = "unknown_field",
    3
    /// A key is there twice.
    DuplicateKey = "duplicate_key",
    4
    /// A name breaks the rules for names.
    InvalidName = "invalid_name",
    5
    /// A text is too long, or holds control characters.
    InvalidText = "invalid_text",
    6
    /// A duration cannot be read, or is too short or too long.
    InvalidDuration = "invalid_duration",
    7
    /// A state is named that is not listed.
    UnknownState = "unknown_state",
    8
    /// A state is listed twice.
    DuplicateState = "duplicate_state",
    9
    /// There are no states.
    NoStates = "no_states",
    10
    /// There are more states than allowed.
    TooManyStates = "too_many_states",
    11
    /// There are more transitions than allowed.
    TooManyTransitions = "too_many_transitions",
    12
    /// A transition starts nowhere.
    EmptyFrom = "empty_from",
    13
    /// The same transition is there twice.
    DuplicateTransition = "duplicate_transition",
    14
    /// An event leads from one state to two.
    ConflictingEvent = "conflicting_event",
    15
    /// A transition leaves a final state.
    FinalHasExit = "final_has_exit",
    16
    /// A final state has a timeout.
    FinalHasTimeout = "final_has_timeout",
    17
    /// The faults after the first hundred are not listed.
    MoreFaults = "more_faults",
    18
    /// Warning: no way leads to the state.
    Unreachable = "unreachable",
    19
    /// Warning: nothing leads out of a state that is not final.
    NoWayOut = "no_way_out",
    20
    /// Warning: timeouts alone lead back to the state in less than 100 ms.
    ShortCycle = "short_cycle",
}

/// One thing wrong with a definition, or one warning about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{path}: {message}")]
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

/// Collects faults, and counts those it has no room for.
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

    /// How many there are, those without room included.
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
