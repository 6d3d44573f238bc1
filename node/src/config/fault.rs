//! Faults of a configuration, and the sources of its values.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No source set it.
    Default,
    /// No source set it; it follows from other settings.
    Derived,
    /// A line of the TOML file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A flag, without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Derived => f.write_str("derived"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// One fault: where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {reason}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said.
        reason: String,
    },
    /// There is no such setting.
    #[error("{origin}: unknown key {key}; {}", hint(nearest))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The unknown key.
        key: String,
        /// The known key that looks most like it, in the same notation.
        nearest: Option<String>,
    },
    /// The setting does not allow the value.
    #[error("{origin}: {key} = {value}: {reason}")]
    BadValue {
        /// Where.
        origin: Origin,
        /// The setting's path.
        key: String,
        /// The value; hidden if the setting is a secret.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting without a default was not set.
    #[error("{key} is not set; {what}")]
    Missing {
        /// The setting's path.
        key: String,
        /// How to set it.
        what: String,
    },
    /// Settings that are valid alone contradict each other.
    #[error("{what}")]
    Conflict {
        /// Which, with their values and origins, and what to do.
        what: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "`lockstepd check-config --markdown` lists all keys".into(),
    }
}

/// Every fault of a configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// In the order of the sources: file, environment, flags; contradictions last.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [only] => write!(f, "configuration: {only}"),
            many => {
                write!(f, "configuration: {} faults", many.len())?;
                many.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Something that is allowed but probably not intended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What, and why it matters.
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
