//! What a machine is: its states and the moves between them. A definition is data, not code.

use serde::{Deserialize, Serialize};

use crate::ids::{EventName, MachineName, StateName};

/// A machine as its author wrote it. Immutable once stored; a change makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The machine's name.
    pub name: MachineName,
    /// The state a new instance starts in.
    pub initial: StateName,
    /// Every state.
    pub states: Vec<StateName>,
    /// Every transition.
    pub moves: Vec<Move>,
}

/// One transition of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The state it leaves.
    pub from: StateName,
    /// The state it leads to.
    pub to: StateName,
    /// The event that names it, if any.
    pub event: Option<EventName>,
}

/// One thing wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DefinitionFault {
    /// Where in the document, for example `transitions[3].to`.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Every fault of a definition, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the definition has {} fault(s): {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct DefinitionInvalid(pub Vec<DefinitionFault>);
