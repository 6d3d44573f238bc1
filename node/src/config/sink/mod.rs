//! Configuration of sinks.

pub(super) mod address;
mod check;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use lockstep_machine::{EventFilter, MachineName};
use serde::Deserialize;
use standardwebhooks::Webhook as Signer;

use super::keys::Sink;
pub use address::{is_local, mongo_parts, postgres_config, postgres_hosts};
pub(super) use address::{shown, shown_host};
pub(super) use check::check;

impl Sink {
    /// It follows the events that one of these wants.
    pub fn filters(&self) -> Vec<EventFilter> {
        let filter = |it: &Follow| EventFilter {
            machine: Some(it.machine.clone()),
            prefix: it.prefix.clone(),
            ..EventFilter::default()
        };
        match self.machines.is_empty() {
            true => vec![EventFilter::default()],
            false => self.machines.iter().map(filter).collect(),
        }
    }

    /// The destination's address for people, without what may be secret in it.
    pub fn shown_address(&self) -> String {
        match self.kind {
            SinkKind::Postgres | SinkKind::Mongo => shown(&self.address),
            SinkKind::Webhook => shown_host(&self.address),
        }
    }

    /// The password of a database, if one is configured. Read each time it is needed, so that a file can
    /// change while the node runs.
    pub fn read_password(&self) -> Result<Option<String>, String> {
        read(self.password.as_ref(), self.password_file.as_deref())
    }

    /// The signing secrets of a webhook: each `whsec_` and base64 of 24 to 64 bytes, separated by spaces.
    /// With two, each request carries two signatures, so that a secret can be replaced without downtime.
    pub fn read_secret(&self) -> Result<Option<String>, String> {
        read(self.secret.as_ref(), self.secret_file.as_deref())
    }
}

/// A secret, or what the file contains without the white space around it.
fn read(secret: Option<&Hidden>, file: Option<&Path>) -> Result<Option<String>, String> {
    let Some(path) = file else {
        return Ok(secret.map(|Hidden(text)| text.clone()));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        text => Ok(Some(text.to_owned())),
    }
}

/// One signer per secret: `whsec_` and base64 of 24 to 64 bytes each, separated by spaces. An error names a
/// secret by its number, and never quotes it.
pub fn signers(text: &str) -> Result<Vec<Signer>, String> {
    const SECRETS_MAX: usize = 4;
    let secrets: Vec<&str> = text.split_whitespace().collect();
    if secrets.is_empty() || secrets.len() > SECRETS_MAX {
        return Err(format!(
            "expected one to {SECRETS_MAX} secrets, separated by spaces"
        ));
    }
    let signer = |(at, secret): (usize, &&str)| {
        let encoded = secret.strip_prefix("whsec_").unwrap_or_default();
        let padding = encoded.bytes().filter(|b| *b == b'=').count();
        let bytes = (encoded.len() / 4 * 3).saturating_sub(padding);
        let signer = Signer::new(secret).ok();
        let signer = signer.filter(|_| (24..=64).contains(&bytes));
        signer.ok_or_else(|| {
            format!(
                "secret {} of {}: expected whsec_ and base64 of 24 to 64 bytes",
                at + 1,
                secrets.len()
            )
        })
    };
    secrets.iter().enumerate().map(signer).collect()
}

/// What a sink follows: a machine, or those of its instances whose names start with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Follow {
    pub machine: MachineName,
    /// The prefix of the instances' names. Without it, the whole machine and its definitions.
    pub prefix: Option<String>,
}

impl fmt::Display for Follow {
    /// As it is configured: `machine` or `machine/prefix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.machine),
            None => write!(f, "{}", self.machine),
        }
    }
}

/// The kinds of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    Postgres,
    Mongo,
    Webhook,
}

impl SinkKind {
    /// Its name in the configuration, on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            SinkKind::Postgres => "postgres",
            SinkKind::Mongo => "mongo",
            SinkKind::Webhook => "webhook",
        }
    }
}

/// Where a new sink starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the next event.
    Now,
    /// With a backfill of the current states.
    Everything,
}

/// A secret. It is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
