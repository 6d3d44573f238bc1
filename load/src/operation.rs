//! What a client asks of a service.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A change of one object, or of each object of a batch.
    Transition,
    /// A change of one object under a condition on another, atomically.
    Transaction,
    /// A linearizable read.
    Read,
    /// A read that may be stale.
    StaleRead,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [
        Self::Transition,
        Self::Transaction,
        Self::Read,
        Self::StaleRead,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Transaction => "transaction",
            Self::Read => "read",
            Self::StaleRead => "stale-read",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no operation {text:?}; there are {names}")
        })
    }
}
