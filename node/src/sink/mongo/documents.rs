//! Events and current states as documents: their JSON form, with what MongoDB needs.

use lockstep_machine::{Event, EventCursor, GlobalRevision, Timestamp};
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc, serialize_to_document};
use serde::Serialize;

use super::super::{Change, SinkError, signed};

/// The JSON form as a document, with dates as dates, the name of an instance by itself, and names in
/// metadata that can be queried.
fn document(form: &impl Serialize) -> mongodb::bson::error::Result<Document> {
    let mut document = serialize_to_document(form)?;
    if let Some(Bson::String(id)) = document.remove("id") {
        let name = id.split_once('/').map_or(id.as_str(), |(_, name)| name);
        document.insert("instance", name);
    }
    for key in ["at", "created_at", "changed_at"] {
        if let Ok(text) = document.get_str(key) {
            let date = DateTime::parse_rfc3339_str(text)?;
            document.insert(key, date);
        }
    }
    if let Some(Bson::Document(metadata)) = document.remove("metadata") {
        let safe = metadata.into_iter().map(|(key, value)| (safe(&key), value));
        document.insert("metadata", safe.collect::<Document>());
    }
    // Events do not contain the deadline, so a stored one would soon be wrong.
    document.remove("deadline");
    Ok(document)
}

/// Servers reject names that start with a dollar sign and cannot query names with a dot: both are
/// percent-encoded, as is the percent sign, so that no two names become one.
fn safe(key: &str) -> String {
    key.replace('%', "%25")
        .replace('.', "%2E")
        .replace('$', "%24")
}

/// The write of one document, unless the stored one is newer.
pub(super) struct Statement {
    pub(super) id: String,
    /// The revision that the document then has.
    revision: GlobalRevision,
    /// Whether it also replaces a document of the same revision.
    replaces_same_revision: bool,
    /// The event that caused it, if any.
    pub(super) event: Option<EventCursor>,
    /// One element of an `insert` or `update` command.
    pub(super) document: RawDocumentBuf,
}

impl Statement {
    /// Inserts an event into the history. Its id is its cursor.
    pub(super) fn insert(event: &Event) -> Result<Self, SinkError> {
        let (id, cursor) = (event.cursor().to_string(), Some(event.cursor()));
        let inserted = document(event).map(|mut document| {
            document.insert("_id", &id);
            document
        });
        Self::encode(id, event.revision, false, cursor, inserted)
    }

    /// Writes an instance after a change, and the event that caused it, if any. Unless it
    /// `replaces_same_revision`, a document of the same revision stays: it is the same change.
    pub(super) fn update(
        change: &Change,
        replaces_same_revision: bool,
        event: Option<EventCursor>,
    ) -> Result<Self, SinkError> {
        let (id, revision) = (change.id().to_string(), change.revision());
        let guard = if replaces_same_revision {
            "$lte"
        } else {
            "$lt"
        };
        // The filter does not match a newer document, and the upsert then fails on its `_id`.
        let filter = doc! { "_id": &id, "revision": { guard: signed(revision.0) } };
        let update = becomes(change).map(|to| doc! { "q": filter, "u": to, "upsert": true });
        Self::encode(id, revision, replaces_same_revision, event, update)
    }

    fn encode(
        id: String,
        revision: GlobalRevision,
        replaces_same_revision: bool,
        event: Option<EventCursor>,
        document: mongodb::bson::error::Result<Document>,
    ) -> Result<Self, SinkError> {
        let document = document.and_then(|document| RawDocumentBuf::try_from(&document));
        let document = document.map_err(|error| {
            SinkError::rejected(event, format!("encoding it as a document: {error}"))
        })?;
        Ok(Self {
            id,
            revision,
            replaces_same_revision,
            event,
            document,
        })
    }

    /// Whether a stored document of this revision stays as it is.
    pub(super) fn yields_to(&self, stored: i64) -> bool {
        let own = signed(self.revision.0);
        stored > own || (stored == own && !self.replaces_same_revision)
    }
}

/// The whole document if all of it is known, so that no field of a tombstone or of an earlier instance
/// of the same name stays; else the fields that changed.
///
/// Of a deleted instance, a tombstone is left. Its `deleted_at` is the time of the write, not of the
/// event, which may be long past: the server removes the tombstone a day after that.
fn becomes(change: &Change) -> mongodb::bson::error::Result<Document> {
    let mut becomes = match change {
        Change::Is(current) if current.details.is_none() => {
            return Ok(doc! { "$set": document(current)?, "$unset": { "deleted_at": "" } });
        }
        Change::Is(current) => document(current)?,
        Change::Deleted { revision, .. } => {
            doc! { "revision": signed(revision.0), "deleted_at": DateTime::now() }
        }
    };
    becomes.insert("_id", change.id().to_string());
    Ok(becomes)
}

/// The fields of an instance that a tombstone does not have, for `$unset`.
pub(super) fn living_fields() -> Document {
    doc! {
        "machine": "", "instance": "", "state": "", "version": "", "instance_revision": "",
        "created_at": "", "changed_at": "", "metadata": "",
    }
}

pub(super) fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(signed(at.0))
}
