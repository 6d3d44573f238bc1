//! Sinks: which other systems follow the cluster, and how.

mod address;
mod drafts;
mod keys;
mod sense;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_machine::{EventFilter, MachineName};

pub use address::is_local;
pub(super) use address::{shown, shown_host};
pub(super) use drafts::{Drafts, check_name, nearest_env, of_env};
use keys::Kind;
pub(super) use keys::{SINK_KEYS, SinkKey, nearest};

/// One sink: another system that follows the cluster's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Its name: a small letter, then small letters and digits, 32 at most.
    pub name: String,
    /// What it follows; everything if empty.
    pub follows: Vec<Follow>,
    /// Events in one write at most.
    pub batch_events_max: usize,
    /// How long one connect, write or request may take.
    pub timeout: Duration,
    /// The longest pause between two tries.
    pub retry_max: Duration,
    /// Whether a host that has no address is waited for without complaint.
    pub optional: bool,
    /// Further certificate authorities to trust, PEM.
    pub ca_file: Option<PathBuf>,
    /// The system, and how to reach it.
    pub kind: SinkKind,
}

impl Sink {
    /// Where it writes, for people: without what may be secret in it.
    pub fn address(&self) -> String {
        match &self.kind {
            SinkKind::Postgres(it) => shown(&it.address),
            SinkKind::Mongo(it) => shown(&it.address),
            SinkKind::Webhook(it) => shown_host(&it.address),
        }
    }
}

/// What a sink follows: a machine, or those of its instances whose name starts alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The machine.
    pub machine: MachineName,
    /// How the instances' names start; all of the machine, its definitions included, without it.
    pub prefix: Option<String>,
}

impl Follow {
    /// The same, as a filter of events.
    pub fn filter(&self) -> EventFilter {
        EventFilter {
            machine: Some(self.machine.clone()),
            prefix: self.prefix.clone(),
            ..EventFilter::default()
        }
    }
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

/// The kinds of systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// PostgreSQL.
    Postgres(PostgresSink),
    /// MongoDB.
    Mongo(MongoSink),
    /// An HTTP endpoint that is told of each event.
    Webhook(WebhookSink),
}

impl SinkKind {
    /// Its name in the configuration, on the wire and in metrics.
    pub fn name(&self) -> &'static str {
        let kind = match self {
            SinkKind::Postgres(_) => Kind::Postgres,
            SinkKind::Mongo(_) => Kind::Mongo,
            SinkKind::Webhook(_) => Kind::Webhook,
        };
        kind.name()
    }
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSink {
    /// `postgres://user@host:port/database?sslmode=...`; a password in it is used where `password`
    /// is not set.
    pub address: String,
    /// The password.
    pub password: Option<Secret>,
    /// The schema that holds the tables.
    pub schema: String,
    /// The table of all events.
    pub history: String,
    /// The table of current states.
    pub instances: String,
}

impl PostgresSink {
    /// The address as the driver takes it, without the password that is configured beside it.
    ///
    /// # Errors
    ///
    /// If it cannot be read, which the configuration has made sure of. The error's words may quote a
    /// part of a password.
    pub fn parsed(&self) -> Result<tokio_postgres::Config, tokio_postgres::Error> {
        address::postgres_config(&self.address)
    }
}

/// A MongoDB database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoSink {
    /// `mongodb://user@host:port/...` or `mongodb+srv://...`; a password in it is used where
    /// `password` is not set.
    pub address: String,
    /// The password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// The collection of all events.
    pub history: String,
    /// The collection of current states.
    pub instances: String,
}

/// An HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSink {
    /// Its URL, `http` or `https`, without credentials in it.
    pub address: String,
    /// The signing secrets, each `whsec_` and base64 of 24 to 64 bytes, separated by spaces: with two,
    /// each request carries two signatures, so that they can be changed over.
    pub secret: Secret,
    /// Requests under way at once, each for another instance.
    pub concurrency_max: usize,
    /// How often an event is sent that is answered with 5xx while others are accepted, before it is
    /// put aside.
    pub attempts_max: u32,
    /// Whether addresses of this machine and of this link may be called.
    pub allow_local: bool,
    /// Whether what is there is told first, or only what happens from the first start on.
    pub start: Start,
}

/// Where a sink begins that was never there before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    #[default]
    Now,
    /// With the current states, then what happens.
    Everything,
}

/// Something that must not be shown: as text, or in a file that is read each time it is needed, so
/// that it can be changed while the node runs.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Text(String),
    /// Where it stands; the white space around it does not belong to it.
    File(PathBuf),
}

impl Secret {
    /// The secret.
    ///
    /// # Errors
    ///
    /// In words, when the file cannot be read or is empty.
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
