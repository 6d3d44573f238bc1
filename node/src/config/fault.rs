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
    File {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
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

/// The cluster setting that a key or an environment variable of an earlier release set.
pub(super) fn cluster_setting(key: &str) -> Option<Setting> {
    let lower = key.to_lowercase();
    let limit = lower
        .strip_prefix("limits.")
        .or_else(|| lower.strip_prefix("lockstep_limits_"))?;
    match limit.parse() {
        Ok(setting)
        | Err(Rejection::UnknownSetting {
            nearest: setting, ..
        }) => Some(setting),
        Err(_) => None,
    }
}

/// The fault of a key, or of an environment variable, that no setting of a node has.
pub(super) fn unknown(origin: &Origin, key: &str, nearest: Option<String>) -> String {
    if let Some(setting) = cluster_setting(key) {
        return format!(
            "{origin}: {key} is a cluster setting; set it once for all nodes: \
             `lockstep cluster settings set {setting}=...`"
        );
    }
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "`lockstepd check-config --markdown` lists all keys".into(),
    };
    format!("{origin}: unknown key {key}; {hint}")
}

/// Every fault of a configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Each says where it is and what to do about it. In the order of the sources: file, environment,
    /// flags; contradictions last.
    pub faults: Vec<String>,
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
