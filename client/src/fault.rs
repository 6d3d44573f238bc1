//! What is wrong with a definition, or odd about it.

use std::fmt;

use lockstep_proto::v1;

/// A fault of a definition, or a warning about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Where in the document, for example `transitions[3].to`; empty for the whole of it.
    pub path: String,
    /// What kind of fault it is: stable, snake case.
    pub code: String,
    /// For people: what is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl From<v1::Fault> for Fault {
    fn from(wire: v1::Fault) -> Self {
        let v1::Fault {
            path,
            code,
            message,
        } = wire;
        Self {
            path,
            code,
            message,
        }
    }
}
