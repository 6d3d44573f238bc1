//! The table of a sink's settings, and the draft they fill in.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::keys::KeyDefault::{self, Is, Required, Unset};
use crate::config::shape::{Raw, count, duration, path, text};

use super::shape::{flag, follows, identifier, kind, location, signing, start};
use super::{Follow, Start};

/// What the names of all sinks' environment variables start with.
pub(in crate::config) const ENV_PREFIX: &str = "LOCKSTEP_SINK_";

/// The kinds of systems, before it is known whether what they need is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Kind {
    Postgres,
    Mongo,
    Webhook,
}

impl Kind {
    pub(in crate::config) const ALL: [Kind; 3] = [Kind::Postgres, Kind::Mongo, Kind::Webhook];

    pub(in crate::config) fn name(self) -> &'static str {
        match self {
            Kind::Postgres => "postgres",
            Kind::Mongo => "mongo",
            Kind::Webhook => "webhook",
        }
    }
}

/// One setting of a sink.
pub(in crate::config) struct SinkKey {
    /// Its name in the sink's table, for example `address`.
    pub(in crate::config) name: &'static str,
    /// The kinds of sinks that have it.
    pub(in crate::config) kinds: &'static [Kind],
    /// What holds when nobody sets it.
    pub(in crate::config) default: KeyDefault,
    /// The kind of value, in a word or two.
    pub(in crate::config) expects: &'static str,
    /// What it is for.
    pub(in crate::config) doc: &'static str,
    /// Whether its value must not be shown.
    pub(in crate::config) secret: bool,
    pub(super) read: fn(&mut SinkDraft, &Raw) -> Result<(), String>,
    pub(super) show: fn(&SinkDraft) -> Option<String>,
}

impl SinkKey {
    /// The setting of that name.
    pub(in crate::config) fn named(name: &str) -> Option<&'static Self> {
        SINK_KEYS.iter().find(|key| key.name == name)
    }

    /// Its path in the TOML file.
    pub(in crate::config) fn path(&self, sink: &str) -> String {
        format!("sink.{sink}.{}", self.name)
    }

    /// Its environment variable.
    pub(in crate::config) fn env(&self, sink: &str) -> String {
        format!("{ENV_PREFIX}{sink}_{}", self.name).to_uppercase()
    }

    /// The kinds of sinks that have it, for a sentence.
    pub(in crate::config) fn kinds(&self) -> String {
        if self.kinds.len() == Kind::ALL.len() {
            return "all".into();
        }
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        names.join(" or ")
    }
}

/// The setting whose name looks most like `wrong`; `None` if nothing is near.
pub(in crate::config) fn nearest(wrong: &str) -> Option<&'static SinkKey> {
    SINK_KEYS
        .iter()
        .map(|key| (strsim::damerau_levenshtein(wrong, key.name), key))
        .filter(|(distance, key)| *distance <= 2.max(key.name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// A sink while it is being put together: what may still be missing is an `Option`.
#[derive(Default)]
pub(super) struct SinkDraft {
    pub(super) kind: Option<Kind>,
    pub(super) address: Option<String>,
    pub(super) follows: Vec<Follow>,
    pub(super) batch_events_max: usize,
    pub(super) timeout: Duration,
    pub(super) retry_max: Duration,
    pub(super) optional: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) schema: String,
    pub(super) database: String,
    pub(super) history: String,
    pub(super) instances: String,
    pub(super) signing: Option<String>,
    pub(super) signing_file: Option<PathBuf>,
    pub(super) concurrency_max: usize,
    pub(super) attempts_max: u32,
    pub(super) allow_local: bool,
    pub(super) start: Start,
}

/// One row: name, kinds, default, field of the draft and its shape, doc.
macro_rules! key {
    ($name:literal, $kinds:expr, $default:expr, secret $($rest:tt)*) => {
        SinkKey { secret: true, ..key!($name, $kinds, $default, $($rest)*) }
    };
    ($name:literal, $kinds:expr, $default:expr,
     $field:ident: optional $shape:ident($($bound:expr),*), $doc:literal) => {
        key!(@row $name, $kinds, $default, $shape, $doc,
            |draft, raw| {
                draft.$field = Some($shape::read(raw, $($bound),*)?);
                Ok(())
            },
            |draft| draft.$field.as_ref().map(|value| $shape::show(value)))
    };
    ($name:literal, $kinds:expr, $default:expr,
     $field:ident: $shape:ident($($bound:expr),*), $doc:literal) => {
        key!(@row $name, $kinds, $default, $shape, $doc,
            |draft, raw| {
                draft.$field = $shape::read(raw, $($bound),*)?;
                Ok(())
            },
            |draft| Some($shape::show(&draft.$field)))
    };
    (@row $name:literal, $kinds:expr, $default:expr, $shape:ident, $doc:literal,
     $read:expr, $show:expr) => {
        SinkKey {
            name: $name,
            kinds: $kinds,
            default: $default,
            expects: $shape::EXPECTS,
            doc: $doc,
            secret: false,
            read: $read,
            show: $show,
        }
    };
}

const ALL: &[Kind] = &Kind::ALL;
const DATABASES: &[Kind] = &[Kind::Postgres, Kind::Mongo];
const POSTGRES: &[Kind] = &[Kind::Postgres];
const MONGO: &[Kind] = &[Kind::Mongo];
const WEBHOOK: &[Kind] = &[Kind::Webhook];

/// What the systems keep for themselves, and what sinks keep beside the tables of events and states.
const SCHEMAS_TAKEN: &[&str] = &["information_schema", "pg_catalog", "pg_toast"];
const DATABASES_TAKEN: &[&str] = &["admin", "config", "local"];
const TABLES_TAKEN: &[&str] = &["sinks", "seeds"];

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Every setting that a sink can have.
#[rustfmt::skip]
pub(in crate::config) static SINK_KEYS: &[SinkKey] = &[
    key!(
        "kind", ALL, Required,
        kind: optional kind(),
        "The system that follows."
    ),
    key!(
        "address", ALL, Required,
        address: optional location(),
        "Where it is: `postgres://user@host/database`, `mongodb://user@host` or `https://host/path`."
    ),
    key!(
        "machines", ALL, Is(""),
        follows: follows(),
        "What it follows, each a `machine` or, for instances whose name starts alike, a `machine/prefix`; everything if empty."
    ),
    key!(
        "batch_events_max", ALL, Is("500"),
        batch_events_max: count(1, 10_000),
        "Events in one write."
    ),
    key!(
        "timeout", ALL, Is("10s"),
        timeout: duration(ms(100), minutes(5)),
        "How long one connect, write or request may take."
    ),
    key!(
        "retry_max", ALL, Is("30s"),
        retry_max: duration(ms(100), minutes(60)),
        "Longest pause between two tries."
    ),
    key!(
        "optional", ALL, Is("false"),
        optional: flag(),
        "Whether a host that has no address is waited for without complaint."
    ),
    key!(
        "ca_file", ALL, Unset,
        ca_file: optional path(),
        "Further certificate authorities to trust, PEM."
    ),
    key!(
        "password", DATABASES, Unset,
        secret password: optional text(),
        "The password; better kept in `password_file`."
    ),
    key!(
        "password_file", DATABASES, Unset,
        password_file: optional path(),
        "A file that holds the password, read at each connect."
    ),
    key!(
        "schema", POSTGRES, Is("lockstep"),
        schema: identifier(SCHEMAS_TAKEN),
        "The schema that holds the tables."
    ),
    key!(
        "database", MONGO, Is("lockstep"),
        database: identifier(DATABASES_TAKEN),
        "The database that holds the collections."
    ),
    key!(
        "history", DATABASES, Is("history"),
        history: identifier(TABLES_TAKEN),
        "The table or collection of all events."
    ),
    key!(
        "instances", DATABASES, Is("instances"),
        instances: identifier(TABLES_TAKEN),
        "The table or collection of current states."
    ),
    key!(
        "secret", WEBHOOK, Unset,
        secret signing: optional signing(),
        "The signing secrets, separated by spaces, each `whsec_` and base64 of 24 to 64 bytes; this or `secret_file` is required."
    ),
    key!(
        "secret_file", WEBHOOK, Unset,
        signing_file: optional path(),
        "A file that holds the signing secrets."
    ),
    key!(
        "concurrency_max", WEBHOOK, Is("16"),
        concurrency_max: count(1, 256),
        "Requests under way at once, each for another instance."
    ),
    key!(
        "attempts_max", WEBHOOK, Is("10"),
        attempts_max: count(1, 1000),
        "How often an event is sent that is answered with 5xx while others are accepted, before it is put aside."
    ),
    key!(
        "allow_local", WEBHOOK, Is("false"),
        allow_local: flag(),
        "Whether addresses of this machine and of this link may be called."
    ),
    key!(
        "start", WEBHOOK, Is("now"),
        start: start(),
        "Where the first start begins: with what happens from then on, or with the current states."
    ),
];
