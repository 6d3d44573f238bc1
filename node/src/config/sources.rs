//! Where values come from: the file, the environment, the flags.

use std::ffi::OsString;
use std::path::PathBuf;

use super::fault::{self, Origin};
use super::file;
use super::keys::{ENV_PREFIX, KEYS};
use super::lookup::{Slot, nearest_env};
use super::shape::Raw;
use super::values::Values;

/// The environment variable that names the TOML file.
pub const ENV_CONFIG: &str = "LOCKSTEP_CONFIG";

/// Variables with our prefix that are not settings of the server: read at build time, by the client,
/// or by a test harness.
const ENV_FOREIGN: [&str; 4] = [
    "LOCKSTEP_VERSION",
    "LOCKSTEP_BUILD_DATE",
    "LOCKSTEP_ENDPOINTS",
    "LOCKSTEP_CONSUL",
];
const ENV_TEST_PREFIX: &str = "LOCKSTEP_TEST_";

/// The sources of a configuration. Tests need not touch the process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file from `--config`. Wins over [`ENV_CONFIG`].
    pub file: Option<PathBuf>,
    /// The whole environment, including the variables of other programs.
    pub env: Vec<(OsString, OsString)>,
    /// The flags given: a key's flag and its value.
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

    /// Reads all sources, the weakest first.
    pub(super) fn read(&self, values: &mut Values) {
        let from_env = || {
            let mut variables = self.env.iter();
            let (_, path) =
                variables.find(|(name, path)| name == ENV_CONFIG && !path.is_empty())?;
            Some(PathBuf::from(path))
        };
        if let Some(path) = self.file.clone().or_else(from_env) {
            file::read(&path, values);
        }
        self.read_env(values);
        for (flag, text) in &self.flags {
            if let Some(key) = KEYS.iter().find(|key| key.flag == Some(flag)) {
                let slot = Slot { sink: None, key };
                values.set(&slot, &Raw::Text(text.clone()), Origin::Flag(flag));
            }
        }
    }

    /// An empty variable counts as unset: Compose files pass `${X:-}` on as an empty one.
    fn read_env(&self, values: &mut Values) {
        let mut ours: Vec<(&str, Option<&str>)> = self
            .env
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name.to_str()?, value.to_str())))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX) && !name.starts_with(ENV_TEST_PREFIX))
            .filter(|(name, value)| !(*name == "LOCKSTEP_NAME" && is_docker_link(*value)))
            .filter(|(name, _)| *name != ENV_CONFIG && !ENV_FOREIGN.contains(name))
            .collect();
        ours.sort_unstable();
        for (name, value) in ours {
            let origin = Origin::Env(name.into());
            match (Slot::of_env(name), value) {
                (Some(slot), Some(value)) => values.set(&slot, &Raw::Text(value.into()), origin),
                (Some(slot), None) => {
                    let reason = "is not valid UTF-8".into();
                    values.bad_value(slot.path(), "(bytes)".into(), reason, origin);
                }
                (None, _) if is_service_link(name, value) => {}
                (None, _) if fault::cluster_setting(name).is_some() => {
                    values.faults.push(fault::unknown(&origin, name, None));
                }
                // Another program of the same name may have set it.
                (None, _) => {
                    let nearest = nearest_env(name).map(|it| format!("; did you mean {it}?"));
                    values.warn(format!(
                        "{name} is no setting and was ignored{}",
                        nearest.unwrap_or_default()
                    ));
                }
            }
        }
    }
}

/// Kubernetes sets `LOCKSTEP_SERVICE_HOST`, `LOCKSTEP_PORT_3333_TCP` and the like in every pod when a
/// service is named `lockstep`, and Docker sets them and `LOCKSTEP_ENV_PATH` in a container that is
/// linked to one of that name. They are not settings.
fn is_service_link(name: &str, value: Option<&str>) -> bool {
    let is_address = || value.is_some_and(|value| value.contains("://"));
    name.starts_with("LOCKSTEP_ENV_")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && is_address()
        || name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP"))
}

/// Docker also sets `LOCKSTEP_NAME=/this-container/lockstep`, the name of the link.
fn is_docker_link(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.starts_with('/'))
}
