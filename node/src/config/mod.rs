//! The configuration of a node: what an operator can set, where values come from, what is checked.
//!
//! # How the parts work together
//!
//! ```text
//!   defaults < TOML file < LOCKSTEP_* environment < flags      sources.rs, file.rs
//!                          |
//!                 KEYS, SINK_KEYS                               keys.rs, lookup.rs
//!        path, shape, default, doc of every setting
//!                          |
//!        Raw --- Shape::read ---> Value + Origin                shape.rs, values.rs
//!                          |
//!          checks across settings, derived values               check.rs, sink/check.rs
//!                          |
//!                serde ---> Config
//! ```
//!
//! Two tables name every setting once: [`KEYS`] those of the node, [`SINK_KEYS`] those that each sink
//! has below `sink.<name>`. A row states the path in the file, the shape of the value with its bounds,
//! the default and what the setting does. The rows are the fields of [`Config`] and [`Sink`], too. The
//! environment variable follows from the path; so does the flag, which only settings have that differ
//! from node to node. Loading, `check-config --show`, `lockstepd run --help` and docs/CONFIGURATION.md
//! are made from the tables. Adding a setting means a row.
//!
//! # What it guarantees
//!
//! [`load`] reads all sources before it decides, and reports every fault at once, each with its source,
//! key, value and what is allowed. An unknown key in the file is a fault that names the nearest known one;
//! an unknown variable, which another program may have set, is a warning. Secrets appear in no message
//! and no listing. A [`Config`] that exists is valid; later code does not check it again.
//!
//! # Not here
//!
//! What must be equal on all nodes, such as the limits of the replicated state, is a cluster setting and
//! part of that state. The configuration is read once, at the start; only secrets in files are read again.

mod check;
mod docs;
mod fault;
mod file;
mod keys;
mod lookup;
mod shape;
mod sink;
mod sources;
mod values;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod words_tests;

pub use docs::{markdown, show};
pub use fault::ConfigErrors;
pub(crate) use fault::Origin;
pub(crate) use keys::{
    Backup, Discovery, DiscoveryKind, Grpc, Http, Key, Log, LogFormat, SINK_KEYS, Sink, StaticPeer,
};
pub use keys::{Config, Consul, KEYS, KeyDefault};
pub use lookup::instead_of_flag;
#[cfg(test)]
pub(crate) use sink::{Follow, Hidden};
pub(crate) use sink::{
    SinkKind, Start, is_local, mongo_parts, postgres_config, postgres_hosts, signers,
};
pub use sources::{ENV_CONFIG, Sources};

use values::Values;

/// An effective setting.
#[derive(Debug, Clone)]
pub struct Setting {
    pub(crate) path: String,
    pub(crate) secret: bool,
    /// The value as TOML; `None` if it has none. Secrets are not hidden here.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// A configuration with the source of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but probably not intended, and why it matters.
    pub warnings: Vec<String>,
    /// Every setting, in the order of [`KEYS`], then those of each sink.
    pub settings: Vec<Setting>,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// Every fault of every source at once, including those of values that a stronger source overrides.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut values = Values::default();
    sources.read(&mut values);
    values.set_defaults(None, KEYS.iter());
    let sinks = sink::check(&mut values);
    check::check(&mut values);
    if values.faults.is_empty() {
        match serde_json::from_value(values.tree()) {
            Ok(config) => {
                return Ok(Loaded {
                    config: Config { sinks, ..config },
                    settings: settings(&values),
                    warnings: values.warnings,
                });
            }
            // A row whose shape does not fit the type of its field, which a test rules out.
            Err(error) => values.faults.push(error.to_string()),
        }
    }
    let faults = values.faults;
    Err(ConfigErrors { faults })
}

fn settings(values: &Values) -> Vec<Setting> {
    let setting = |key: &Key, sink: Option<&str>| {
        let path = key.path_in(sink);
        Setting {
            secret: key.secret,
            value: values.entry(&path).map(|entry| entry.value.toml()),
            origin: values.origin(&path),
            path,
        }
    };
    let node = KEYS.iter().map(|key| setting(key, None));
    let sinks = values.sinks.iter().flat_map(|sink| {
        let kind: String = values.get_or_default(&format!("sink.{sink}.kind"));
        let own = move |key: &&Key| key.kinds.contains(&kind.as_str());
        let name = sink.as_str();
        SINK_KEYS
            .iter()
            .filter(own)
            .map(move |key| setting(key, Some(name)))
    });
    node.chain(sinks).collect()
}
