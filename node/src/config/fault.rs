//! Faults of a configuration, and the sources of its values.

use std::fmt;
use std::path::PathBuf;

use lockstep_machine::{Rejection, Setting};

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
    /// The key is a cluster setting.
    #[error(
        "{origin}: {key} is a cluster setting; set it once for all nodes: \
         `lockstep cluster settings set {setting}=...`"
    )]
    ClusterSetting {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// The setting.
        setting: Setting,
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

impl Fault {
    /// A key, or an environment variable, that no setting of a node has.
    pub(super) fn unknown(origin: Origin, key: String, nearest: Option<String>) -> Self {
        let lower = key.to_lowercase();
        let limit = lower
            .strip_prefix("limits.")
            .or_else(|| lower.strip_prefix("lockstep_limits_"));
        match limit.map(str::parse) {
            Some(
                Ok(setting)
                | Err(Rejection::UnknownSetting {
                    nearest: setting, ..
                }),
            ) => Fault::ClusterSetting {
                origin,
                key,
                setting,
            },
            _ => Fault::UnknownKey {
                origin,
                key,
                nearest,
            },
        }
    }
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
                write!(f, "configuration: {} errors", many.len())?;
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
