//! Events and current states as documents.

use lockstep_machine::{
    Cause, Event, EventCursor, GlobalRevision, InstanceId, Metadata, Timestamp,
};
use mongodb::bson::{DateTime, Document, doc};

use super::super::{Change, Current};

/// An event as a document of the history.
pub(super) fn history(event: &Event) -> Document {
    let mut document = doc! {
        "_id": event_id(event.cursor()),
        "revision": number(event.revision.0),
        "position": i64::from(event.position),
        "kind": event.kind.name(),
        "machine": event.machine.as_str(),
    };
    if let Some(name) = &event.name {
        document.insert("instance", name.as_str());
        document.insert("instance_revision", number(event.instance_revision.0));
    }
    document.insert("version", i64::from(event.version.0));
    if let Some(version) = event.from_version {
        document.insert("from_version", i64::from(version.0));
    }
    let from = event.from.as_ref().map(|state| ("from", state.as_str()));
    let to = event.to.as_ref().map(|state| ("to", state.as_str()));
    let named = event.event.as_ref().map(|name| ("event", name.as_str()));
    for (key, name) in [from, to, named].into_iter().flatten() {
        document.insert(key, name);
    }
    document.insert("at", time(event.at));
    if let Cause::Timeout { late_ms } = event.cause {
        document.insert("cause", "timeout");
        document.insert("late_ms", number(late_ms));
    } else {
        document.insert("cause", "request");
    }
    if !event.metadata.is_empty() {
        document.insert("metadata", metadata(&event.metadata));
    }
    document
}

/// An event's id: its cursor.
pub(super) fn event_id(cursor: EventCursor) -> String {
    format!("{}-{}", cursor.revision, cursor.position)
}

/// An update of one document of the instances, unless that is newer.
pub(super) struct Statement {
    /// The document's id.
    pub(super) id: String,
    /// The revision that the document then has.
    pub(super) revision: GlobalRevision,
    /// Whether it also replaces a document of the same revision.
    pub(super) replaces_same_revision: bool,
    /// One element of an `update` command.
    pub(super) update: Document,
    /// The event that caused it, if any.
    pub(super) event: Option<EventCursor>,
}

impl Statement {
    /// A change. A document of the same revision stays: it is the same change.
    pub(super) fn of(id: &InstanceId, change: &Change) -> Self {
        let older = |revision: GlobalRevision| doc! { "$lt": number(revision.0) };
        match change {
            Change::Is(current) => Self::guarded(
                id,
                current.revision,
                older(current.revision),
                becomes(id, current),
            ),
            Change::Deleted { revision } => {
                Self::guarded(id, *revision, older(*revision), tombstone(id, *revision))
            }
        }
    }

    /// A state of a backfill: also replaces a document of its revision.
    pub(super) fn backfilled(id: &InstanceId, current: &Current) -> Self {
        let guard = doc! { "$lte": number(current.revision.0) };
        Self {
            replaces_same_revision: true,
            ..Self::guarded(id, current.revision, guard, becomes(id, current))
        }
    }

    /// Whether a stored document of this revision stays as it is.
    pub(super) fn yields_to(&self, stored: i64) -> bool {
        let own = number(self.revision.0);
        stored > own || (stored == own && !self.replaces_same_revision)
    }

    /// The same, with the event that caused it.
    pub(super) fn caused_by(self, event: Option<EventCursor>) -> Self {
        Self { event, ..self }
    }

    /// The filter does not match a newer document, and the upsert then fails on its `_id`.
    fn guarded(id: &InstanceId, revision: GlobalRevision, guard: Document, to: Document) -> Self {
        let id = id.to_string();
        let filter = doc! { "_id": &id, "revision": guard };
        Self {
            update: doc! { "q": filter, "u": to, "upsert": true },
            id,
            revision,
            replaces_same_revision: false,
            event: None,
        }
    }
}

/// The whole document if all of it is known, so that no field of a tombstone or of an earlier instance
/// of the same name stays; else the fields that changed.
fn becomes(id: &InstanceId, current: &Current) -> Document {
    let mut document = doc! {
        "machine": id.machine.as_str(),
        "instance": id.name(),
        "state": current.state.as_str(),
        "version": i64::from(current.version.0),
        "instance_revision": number(current.instance_revision.0),
        "changed_at": time(current.changed_at),
        "revision": number(current.revision.0),
    };
    let Some((created_at, labels)) = &current.created else {
        return doc! { "$set": document, "$unset": { "deleted_at": "" } };
    };
    document.insert("_id", id.to_string());
    document.insert("created_at", time(*created_at));
    if !labels.is_empty() {
        document.insert("metadata", metadata(labels));
    }
    document
}

/// The fields that a tombstone does not have.
pub(super) fn living_fields() -> Document {
    let fields = [
        "machine",
        "instance",
        "state",
        "version",
        "instance_revision",
        "created_at",
        "changed_at",
        "metadata",
    ];
    fields
        .into_iter()
        .map(|field| (field.to_owned(), "".into()))
        .collect()
}

/// What is left of a deleted instance. `deleted_at` is the time of the write, not of the event, which
/// may be long past: the server removes the tombstone a day after that.
fn tombstone(id: &InstanceId, revision: GlobalRevision) -> Document {
    doc! {
        "_id": id.to_string(),
        "revision": number(revision.0),
        "deleted_at": DateTime::now(),
    }
}

/// Metadata as a document. Servers reject names that start with a dollar sign and cannot query names with
/// a dot: both are percent-encoded, as is the percent sign, so that no two names become one.
fn metadata(labels: &Metadata) -> Document {
    let safe = |key: &str| {
        if !key.contains(['%', '.', '$']) {
            return key.to_owned();
        }
        key.replace('%', "%25")
            .replace('.', "%2E")
            .replace('$', "%24")
    };
    labels
        .iter()
        .map(|(key, value)| (safe(key), value.into()))
        .collect()
}

fn time(at: Timestamp) -> DateTime {
    DateTime::from_millis(number(at.0))
}

/// MongoDB has no unsigned numbers; no counter of a cluster exceeds its signed ones.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The inverse of [`number`].
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
