//! Configuration of sinks.

pub(super) mod address;
mod check;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_machine::{EventFilter, MachineName, SinkName};
use serde::Deserialize;

pub use address::{is_local, postgres_config};
pub(super) use address::{shown, shown_host};
pub(super) use check::check;

/// The configuration of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sink {
    /// Its name.
    pub name: SinkName,
    /// What it follows; everything if empty.
    #[serde(rename = "machines")]
    pub follows: Vec<Follow>,
    /// Maximum number of events in one write.
    pub batch_events_max: usize,
    /// Maximum time for one connect, write or request.
    pub timeout: Duration,
    /// Maximum pause between two attempts.
    pub retry_max: Duration,
    /// Whether the host may be missing from DNS: the sink then waits without reporting an error.
    pub optional: bool,
    /// Additional certificate authorities to trust, PEM.
    pub ca_file: Option<PathBuf>,
    /// The destination.
    #[serde(flatten)]
    pub kind: SinkKind,
}

impl Sink {
    /// It follows the events that one of these wants.
    pub fn filters(&self) -> Vec<EventFilter> {
        let filter = |it: &Follow| EventFilter {
            machine: Some(it.machine.clone()),
            prefix: it.prefix.clone(),
            ..EventFilter::default()
        };
        match self.follows.is_empty() {
            true => vec![EventFilter::default()],
            false => self.follows.iter().map(filter).collect(),
        }
    }

    /// The destination's address for people, without what may be secret in it.
    pub fn address(&self) -> String {
        match &self.kind {
            SinkKind::Postgres(it) | SinkKind::Mongo(it) => shown(&it.address),
            SinkKind::Webhook(it) => shown_host(&it.address),
        }
    }
}

/// What a sink follows: a machine, or those of its instances whose names start with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Follow {
    /// The machine.
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SinkKind {
    /// PostgreSQL.
    Postgres(DatabaseSink),
    /// MongoDB.
    Mongo(DatabaseSink),
    /// An HTTP endpoint that receives each event.
    Webhook(WebhookSink),
}

impl SinkKind {
    /// Its name in the configuration, on the wire and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            SinkKind::Postgres(_) => "postgres",
            SinkKind::Mongo(_) => "mongo",
            SinkKind::Webhook(_) => "webhook",
        }
    }
}

/// A PostgreSQL or MongoDB database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSink {
    /// `postgres://user@host:port/database?sslmode=...`, `mongodb://user@host:port/...` or
    /// `mongodb+srv://...`. A password in it applies if `password` is not set.
    pub address: String,
    /// The password.
    pub password: Option<Secret>,
    /// The schema that holds the tables, in PostgreSQL; the database that holds the collections, in
    /// MongoDB.
    #[serde(alias = "schema", alias = "database")]
    pub namespace: String,
    /// The table or collection of all events.
    pub history: String,
    /// The table or collection of current states.
    pub instances: String,
}

/// An HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSink {
    /// Its URL, `http` or `https`, without credentials.
    pub address: String,
    /// The signing secrets, each `whsec_` and base64 of 24 to 64 bytes, separated by spaces. With two,
    /// each request carries two signatures, so that a secret can be replaced without downtime.
    pub secret: Secret,
    /// Maximum number of concurrent requests, each for a different instance.
    pub concurrency_max: usize,
    /// How often an event that is answered with 5xx, while others are accepted, is sent before it
    /// becomes a dead letter.
    pub attempts_max: u32,
    /// Whether loopback and link-local addresses may be called.
    pub allow_local: bool,
    /// Where a new sink starts.
    pub start: Start,
}

/// Where a new sink starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With a backfill of the current states.
    Everything,
}

/// A secret: text, or a file that is read each time it is needed, so that the secret can change while
/// the node runs. It is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// The secret itself.
    Text(String),
    /// The file that contains it, without the white space around it.
    File(PathBuf),
}

impl Secret {
    /// The secret.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is empty.
    pub fn read(&self) -> Result<String, String> {
        let path = match self {
            Secret::Text(text) => return Ok(text.clone()),
            Secret::File(path) => path,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
        match text.trim() {
            "" => Err(format!("{} is empty", path.display())),
            text => Ok(text.to_owned()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Text(_) => f.write_str("Text(hidden)"),
            Secret::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
