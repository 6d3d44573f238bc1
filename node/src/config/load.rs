//! Puts the sources together, lowest first, and collects every fault on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use super::fault::{ConfigErrors, Fault, Origin, Warning};
use super::keys::{Draft, KEYS, Key, KeyDefault, nearest};
use super::shape::Raw;
use super::sink::{self, Drafts, SinkKey};
use super::{Config, file, sense};

/// The environment variable that names the TOML file.
pub const ENV_CONFIG: &str = "LOCKSTEP_CONFIG";

/// Variables that share our prefix without being settings of the server: read at build time, or by
/// the client, or by a test harness.
const ENV_FOREIGN: [&str; 4] = [
    "LOCKSTEP_VERSION",
    "LOCKSTEP_BUILD_DATE",
    "LOCKSTEP_ENDPOINTS",
    "LOCKSTEP_CONSUL",
];
const ENV_PREFIX: &str = "LOCKSTEP_";
const ENV_TEST_PREFIX: &str = "LOCKSTEP_TEST_";

/// Everything a configuration is made from, so that tests need not touch the process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file from `--config`. Wins over [`ENV_CONFIG`].
    pub file: Option<PathBuf>,
    /// The environment: all of it, other programs' variables included.
    pub env: Vec<(OsString, OsString)>,
    /// The flags that were given: a key's flag name and its value.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// This process's environment, with the flags it was given.
    pub fn from_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        Sources {
            file,
            env: std::env::vars_os().collect(),
            flags,
        }
    }
}

/// A setting as it came out.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its path in the TOML file.
    pub path: String,
    /// Whether its value must not be shown.
    pub secret: bool,
    /// Its value as TOML; `None` if it has none. Secrets are not hidden here.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
}

/// A configuration together with where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// Every setting, in the order of [`KEYS`], then those of each sink.
    pub settings: Vec<Setting>,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// Every fault of every source at once, those of values that a higher source overrides included.
pub fn load(sources: &Sources) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_explained(sources).map(|loaded| (loaded.config, loaded.warnings))
}

/// As [`load`], and tells where each value came from.
///
/// # Errors
///
/// As [`load`].
pub fn load_explained(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut loading = Loading::default();
    loading.defaults();
    loading.file(sources);
    loading.env(sources);
    loading.flags(sources);
    let Loading {
        mut draft,
        mut origins,
        sinks,
        mut faults,
        bad,
    } = loading;

    let mut sink_warnings = Vec::new();
    draft.sinks = sinks.complete(&mut faults, &mut sink_warnings);
    let completed = sense::complete(&mut draft, &mut origins, &bad, &mut faults);
    match completed {
        Some((config, mut warnings)) if faults.is_empty() => {
            warnings.append(&mut sink_warnings);
            let settings = KEYS
                .iter()
                .map(|key| Setting {
                    path: key.path.into(),
                    secret: key.secret,
                    value: (key.show)(&draft),
                    origin: origins.get(key.path).cloned().unwrap_or(Origin::Default),
                })
                .chain(sinks.settings())
                .collect();
            Ok(Loaded {
                config,
                warnings,
                settings,
            })
        }
        _ => Err(ConfigErrors { faults }),
    }
}

/// What a value is for.
pub(super) enum Slot {
    /// A setting of the node.
    Key(&'static Key),
    /// A setting of the sink of that name.
    Sink(String, &'static SinkKey),
}

impl Slot {
    fn of_env(variable: &str) -> Option<Self> {
        match KEYS.iter().find(|key| key.env == variable) {
            Some(key) => Some(Slot::Key(key)),
            None => sink::of_env(variable).map(|(sink, key)| Slot::Sink(sink, key)),
        }
    }

    fn path(&self) -> String {
        match self {
            Slot::Key(key) => key.path.into(),
            Slot::Sink(sink, key) => key.path(sink),
        }
    }

    /// What was written, for an error message.
    fn quoted(&self, raw: &Raw) -> String {
        match self {
            Slot::Key(Key { secret: true, .. }) | Slot::Sink(_, SinkKey { secret: true, .. }) => {
                "(hidden)".into()
            }
            Slot::Key(_) => raw.quoted(),
            // It may be an address with a password in it.
            Slot::Sink(..) => sink::shown(&raw.quoted()),
        }
    }
}

#[derive(Default)]
struct Loading {
    draft: Draft,
    origins: BTreeMap<&'static str, Origin>,
    sinks: Drafts,
    faults: Vec<Fault>,
    /// Keys with a fault: judging how they fit with others would only repeat it.
    bad: BTreeSet<&'static str>,
}

impl Loading {
    fn set(&mut self, slot: &Slot, raw: &Raw, origin: Origin) {
        let outcome = match slot {
            Slot::Key(key) => self.set_key(key, raw, &origin),
            Slot::Sink(sink, key) => self.sinks.set(sink, key, raw, &origin),
        };
        if let Err(reason) = outcome {
            self.faults.push(Fault::BadValue {
                origin,
                key: slot.path(),
                value: slot.quoted(raw),
                reason,
            });
        }
    }

    fn set_key(&mut self, key: &'static Key, raw: &Raw, origin: &Origin) -> Result<(), String> {
        let outcome = (key.read)(&mut self.draft, raw);
        match &outcome {
            Ok(()) => {
                self.origins.insert(key.path, origin.clone());
            }
            Err(_) => {
                self.bad.insert(key.path);
            }
        }
        outcome
    }

    fn defaults(&mut self) {
        for key in KEYS {
            if let KeyDefault::Is(text) = key.default {
                self.set(&Slot::Key(key), &Raw::Text(text.into()), Origin::Default);
            }
        }
    }

    fn file(&mut self, sources: &Sources) {
        let from_env = || {
            let (_, value) = sources
                .env
                .iter()
                .find(|(name, value)| name == ENV_CONFIG && !value.is_empty())?;
            Some(PathBuf::from(value))
        };
        let Some(path) = sources.file.clone().or_else(from_env) else {
            return;
        };
        let contents = file::read(&path);
        self.faults.extend(contents.faults);
        for name in contents.sinks {
            self.sinks.add(&name);
        }
        for value in contents.found {
            self.set(&value.slot, &value.raw, value.origin);
        }
    }

    /// An empty variable counts as unset: Compose files pass `${X:-}` on as an empty one.
    fn env(&mut self, sources: &Sources) {
        let in_kubernetes = sources
            .env
            .iter()
            .any(|(name, _)| name == "KUBERNETES_SERVICE_HOST");
        let mut ours: Vec<(&str, Option<&str>)> = sources
            .env
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name.to_str()?, value.to_str())))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX) && !name.starts_with(ENV_TEST_PREFIX))
            .filter(|(name, _)| *name != ENV_CONFIG && !ENV_FOREIGN.contains(name))
            .collect();
        ours.sort_unstable();
        for (name, value) in ours {
            let origin = Origin::Env(name.into());
            match (Slot::of_env(name), value) {
                (Some(slot), Some(value)) => self.set(&slot, &Raw::Text(value.into()), origin),
                (Some(slot), None) => self.not_text(&slot, origin),
                (None, _) if in_kubernetes && is_service_link(name) => {}
                (None, _) => {
                    let nearest = sink::nearest_env(name).or_else(|| nearest(name, |key| key.env));
                    self.faults.push(Fault::UnknownKey {
                        origin,
                        key: name.into(),
                        nearest,
                    });
                }
            }
        }
    }

    fn not_text(&mut self, slot: &Slot, origin: Origin) {
        match slot {
            Slot::Key(key) => {
                self.bad.insert(key.path);
            }
            Slot::Sink(sink, key) => self.sinks.spoil(sink, key),
        }
        self.faults.push(Fault::BadValue {
            origin,
            key: slot.path(),
            value: "(bytes)".into(),
            reason: "is not valid UTF-8".into(),
        });
    }

    fn flags(&mut self, sources: &Sources) {
        for (flag, value) in &sources.flags {
            match KEYS.iter().find(|key| key.flag == *flag) {
                Some(key) => {
                    let origin = Origin::Flag(key.flag);
                    self.set(&Slot::Key(key), &Raw::Text(value.clone()), origin);
                }
                None => {
                    let nearest = nearest(flag, |key| key.flag).map(|flag| format!("--{flag}"));
                    self.faults.push(Fault::UnknownKey {
                        origin: Origin::Flag(flag),
                        key: format!("--{flag}"),
                        nearest,
                    });
                }
            }
        }
    }
}

/// Kubernetes puts `LOCKSTEP_SERVICE_HOST`, `LOCKSTEP_PORT_3333_TCP` and the like into every pod
/// beside a service named `lockstep`; they are nobody's mistake.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP"))
}
