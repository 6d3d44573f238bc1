//! Whether the settings of the sinks make sense together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Warning;
use crate::config::fault::Fault;

use super::address::{self, Known};
use super::drafts::{Draft, kinds};
use super::keys::{Kind, SinkKey};
use super::{MongoSink, PostgresSink, Secret, Sink, SinkKind, WebhookSink};

/// As many as the cluster keeps records of.
const SINKS_MAX: usize = 64;

/// Judges every sink, then all of them together.
pub(super) fn complete(
    drafts: &BTreeMap<String, Draft>,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) -> Vec<Sink> {
    if drafts.len() > SINKS_MAX {
        faults.push(Fault::Conflict {
            what: format!("{} sinks are configured: at most {SINKS_MAX}", drafts.len()),
        });
    }
    let mut sinks = Vec::new();
    let mut places: BTreeMap<String, &str> = BTreeMap::new();
    for (name, draft) in drafts {
        let mut judge = Judge {
            name,
            draft,
            faults,
            warnings,
        };
        let Some((sink, place)) = judge.sink() else {
            continue;
        };
        if let Some(place) = place
            && let Some(other) = places.insert(place, name)
        {
            let address = draft.origin("address");
            judge.conflict(format!(
                "sink.{other} and sink.{name} ({address}) would write over each other in one database: change an address, schema or database"
            ));
        }
        sinks.push(sink);
    }
    sinks
}

struct Judge<'a> {
    name: &'a str,
    draft: &'a Draft,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<Warning>,
}

impl Judge<'_> {
    fn good(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.draft.bad.contains(key))
    }

    /// `sink.name.key (origin)`, for messages.
    fn cite(&self, key: &str) -> String {
        format!("sink.{}.{key} ({})", self.name, self.draft.origin(key))
    }

    fn conflict(&mut self, what: String) {
        self.faults.push(Fault::Conflict { what });
    }

    fn missing(&mut self, key: &str, what: String) {
        self.faults.push(Fault::Missing {
            key: format!("sink.{}.{key}", self.name),
            what,
        });
    }

    /// The sink, and the place it writes to if another sink could write there too.
    fn sink(&mut self) -> Option<(Sink, Option<String>)> {
        let kind = self.kind()?;
        self.strangers(kind);
        let known = self.address(kind);
        let built = match kind {
            Kind::Postgres => self.postgres(),
            Kind::Mongo => self.mongo(),
            Kind::Webhook => self.webhook(),
        };
        let (known, kind) = (known?, built?);
        let within = match &kind {
            SinkKind::Postgres(it) => &it.schema,
            SinkKind::Mongo(it) => &it.database,
            SinkKind::Webhook(_) => "",
        };
        let place = known
            .database
            .map(|database| format!("{} {database} {within}", kind.name()));
        let values = &self.draft.values;
        let sink = Sink {
            name: self.name.to_string(),
            follows: values.follows.clone(),
            batch_events_max: values.batch_events_max,
            timeout: values.timeout,
            retry_max: values.retry_max,
            optional: values.optional,
            ca_file: values.ca_file.clone(),
            kind,
        };
        Some((sink, place))
    }

    fn kind(&mut self) -> Option<Kind> {
        if self.draft.values.kind.is_none() && self.good(&["kind"]) {
            let what = format!("say which system it is, one of {}", kinds());
            self.missing("kind", what);
        }
        self.draft.values.kind
    }

    /// Settings that only other kinds have.
    fn strangers(&mut self, kind: Kind) {
        if !self.good(&["kind"]) {
            return;
        }
        let strange = self
            .draft
            .origins
            .keys()
            .filter_map(|name| SinkKey::named(name))
            .filter(|key| !key.kinds.contains(&kind));
        for key in strange {
            let what = format!(
                "{} is for sinks of kind {} only, and this is one of kind {}: leave it out",
                self.cite(key.name),
                key.kinds(),
                kind.name()
            );
            self.conflict(what);
        }
    }

    fn address(&mut self, kind: Kind) -> Option<Known> {
        if !self.good(&["kind", "address", "allow_local"]) {
            return None;
        }
        let Some(address) = &self.draft.values.address else {
            self.missing("address", format!("say where this {} is", kind.name()));
            return None;
        };
        match address::check(kind, address, self.draft.values.allow_local) {
            Ok(known) => {
                if known.has_password {
                    self.warnings.push(Warning {
                        what: format!(
                            "a password stands in {}: use password_file, which no listing of settings or processes shows",
                            self.cite("address")
                        ),
                    });
                }
                Some(known)
            }
            Err(reason) => {
                self.faults.push(Fault::BadValue {
                    origin: self.draft.origin("address").clone(),
                    key: format!("sink.{}.address", self.name),
                    value: format!("{:?}", address::shown(address)),
                    reason,
                });
                None
            }
        }
    }

    fn postgres(&mut self) -> Option<SinkKind> {
        let password = self.database();
        let values = &self.draft.values;
        Some(SinkKind::Postgres(PostgresSink {
            address: values.address.clone()?,
            password,
            schema: values.schema.clone(),
            history: values.history.clone(),
            instances: values.instances.clone(),
        }))
    }

    fn mongo(&mut self) -> Option<SinkKind> {
        let password = self.database();
        let values = &self.draft.values;
        Some(SinkKind::Mongo(MongoSink {
            address: values.address.clone()?,
            password,
            database: values.database.clone(),
            history: values.history.clone(),
            instances: values.instances.clone(),
        }))
    }

    /// What both kinds of databases must hold to. Returns the password.
    fn database(&mut self) -> Option<Secret> {
        let values = &self.draft.values;
        if values.history == values.instances && self.good(&["history", "instances"]) {
            self.conflict(format!(
                "{} and {} are both {}: give each a name of its own",
                self.cite("history"),
                self.cite("instances"),
                values.history
            ));
        }
        let files = (&values.password, &values.password_file);
        self.secret(("password", "password_file"), files)
    }

    fn webhook(&mut self) -> Option<SinkKind> {
        let values = &self.draft.values;
        let files = (&values.signing, &values.signing_file);
        let secret = self.secret(("secret", "secret_file"), files);
        let unset = values.signing.is_none() && values.signing_file.is_none();
        if unset && self.good(&["secret", "secret_file"]) {
            let what = "requests are signed: set it, or secret_file, to whsec_ and the base64 of 24 to 64 random bytes";
            self.missing("secret", what.into());
        }
        Some(SinkKind::Webhook(WebhookSink {
            address: values.address.clone()?,
            secret: secret?,
            concurrency_max: values.concurrency_max,
            attempts_max: values.attempts_max,
            allow_local: values.allow_local,
            start: values.start,
        }))
    }

    fn secret(
        &mut self,
        (text_key, file_key): (&str, &str),
        values: (&Option<String>, &Option<PathBuf>),
    ) -> Option<Secret> {
        match values {
            (Some(_), Some(_)) => {
                self.conflict(format!(
                    "{} and {} are both set: leave one out",
                    self.cite(text_key),
                    self.cite(file_key)
                ));
                None
            }
            (Some(text), None) => Some(Secret::Text(text.clone())),
            (None, Some(path)) => Some(Secret::File(path.clone())),
            (None, None) => None,
        }
    }
}
