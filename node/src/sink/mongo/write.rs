//! Writes events and instances, many at once.
//!
//! A duplicate key usually means that the document is stored already, or that a newer one is. It may
//! also come from an index that users have created, or from two writers that created one document at the
//! same time, of which the newer lost. So the stored documents are read back.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ops::Range;

use futures::TryStreamExt;
use lockstep_machine::Event;
use mongodb::bson::{RawArrayBuf, RawDocumentBuf, deserialize_from_document, doc, rawdoc};
use mongodb::error::ErrorKind;
use serde::Deserialize;

use super::super::SinkError;
use super::connection::Connection;
use super::documents::{Statement, history};
use super::errors::{self, DocumentError};

/// Documents written in one exchange; servers accept 100,000.
const WRITE_DOCUMENTS_MAX: usize = 1000;
/// Their bytes: an update command is one document, and servers accept 16 MiB.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often an instance is written that another writer creates at the same time. The second attempt
/// finds it; a third allows for a tombstone that the server removes in between.
const PUT_ATTEMPTS: usize = 3;

/// The fields of a stored document that are read back.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) revision: i64,
}

/// The answer to an `update` command.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default, rename = "writeErrors")]
    write_errors: Vec<DocumentError>,
    #[serde(default, rename = "writeConcernError")]
    write_concern_error: Option<WriteConcernError>,
}

#[derive(Debug, Deserialize)]
struct WriteConcernError {
    #[serde(default)]
    errmsg: String,
}

impl Connection {
    /// Inserts those events into the history that are not stored yet.
    pub(super) async fn insert_history<E: Borrow<Event>>(
        &self,
        events: &[E],
    ) -> Result<(), SinkError> {
        let documents = events.iter().map(|event| history(event.borrow()));
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        for range in parts(documents.iter()) {
            let events = &events[range.clone()];
            self.insert_part(events, &documents[range]).await?;
        }
        Ok(())
    }

    async fn insert_part<E: Borrow<Event>>(
        &self,
        events: &[E],
        documents: &[RawDocumentBuf],
    ) -> Result<(), SinkError> {
        const OPERATION: &str = "inserting events";
        let collection = self.collection::<RawDocumentBuf>(&self.history);
        let inserted = collection.insert_many(documents).ordered(false);
        let Err(error) = self.attempt(OPERATION, inserted).await? else {
            return Ok(());
        };
        let ErrorKind::InsertMany(failed) = &*error.kind else {
            return Err(errors::classify(OPERATION, &error));
        };
        let found = failed
            .write_errors
            .iter()
            .flatten()
            .map(DocumentError::from);
        let cursor = |index: usize| Some(events.get(index)?.borrow().cursor());
        let duplicates = errors::only_duplicates(OPERATION, found.collect(), cursor)?;
        if let Some(concern) = &failed.write_concern_error {
            return Err(SinkError::unavailable(format!(
                "{OPERATION}: {}",
                concern.message
            )));
        }
        let id = |error: &DocumentError| cursor(error.index).map(|it| it.to_string());
        let stored = self
            .stored(&self.history, duplicates.iter().filter_map(id).collect())
            .await?;
        let missing = |error: &&DocumentError| id(error).is_none_or(|id| !stored.contains_key(&id));
        match duplicates.iter().find(missing) {
            None => Ok(()),
            Some(error) => Err(error.rejected(OPERATION, cursor(error.index))),
        }
    }

    /// Writes those instances that are not stored in a newer revision.
    pub(super) async fn put_instances(
        &self,
        statements: impl Iterator<Item = Result<Statement, SinkError>>,
    ) -> Result<(), SinkError> {
        let statements = statements.collect::<Result<Vec<_>, _>>()?;
        for range in parts(statements.iter().map(|it| &it.update)) {
            self.put_part(statements[range].iter().collect()).await?;
        }
        Ok(())
    }

    async fn put_part(&self, mut left: Vec<&Statement>) -> Result<(), SinkError> {
        const OPERATION: &str = "writing instances";
        let mut rejected = Ok(());
        for _ in 0..PUT_ATTEMPTS {
            let found = self
                .update(OPERATION, left.iter().map(|it| &it.update))
                .await?;
            let event = |index: usize| left.get(index)?.event;
            let duplicates = errors::only_duplicates(OPERATION, found, event)?;
            let id = |error: &DocumentError| Some(left.get(error.index)?.id.clone());
            let stored = self
                .stored(&self.instances, duplicates.iter().filter_map(id).collect())
                .await?;
            let older = |error: &&DocumentError| {
                left.get(error.index).is_none_or(|statement| {
                    let stored = stored.get(&statement.id);
                    stored.is_none_or(|revision| !statement.yields_to(*revision))
                })
            };
            let older: Vec<&DocumentError> = duplicates.iter().filter(older).collect();
            let Some(first) = older.first() else {
                return Ok(());
            };
            rejected = Err(first.rejected(OPERATION, event(first.index)));
            left = older
                .iter()
                .filter_map(|error| left.get(error.index).copied())
                .collect();
        }
        rejected
    }

    /// One `update` command: the driver's bulk write works only with servers from version 8.
    async fn update<'a>(
        &self,
        operation: &str,
        updates: impl Iterator<Item = &'a RawDocumentBuf>,
    ) -> Result<Vec<DocumentError>, SinkError> {
        let mut list = RawArrayBuf::new();
        for update in updates {
            list.push(update.clone());
        }
        let command = rawdoc! {
            "update": self.instances.as_str(),
            "updates": list,
            "ordered": false,
            "writeConcern": self.write_concern.clone(),
        };
        let answer = self.database.run_raw_command(command);
        let answer = self.exchange(operation, answer).await?;
        let answer: Answer = deserialize_from_document(answer)
            .map_err(|error| SinkError::unavailable(format!("{operation}: {error}")))?;
        match answer.write_concern_error {
            Some(concern) if answer.write_errors.is_empty() => Err(SinkError::unavailable(
                format!("{operation}: {}", concern.errmsg),
            )),
            Some(_) | None => Ok(answer.write_errors),
        }
    }

    /// The revisions of those documents that are stored.
    async fn stored(
        &self,
        collection: &str,
        ids: Vec<String>,
    ) -> Result<HashMap<String, i64>, SinkError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let collection = self.collection::<Stored>(collection);
        let size = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let found = async {
            let found = collection
                .find(doc! { "_id": { "$in": ids } })
                .projection(doc! { "revision": 1 })
                .batch_size(size);
            found.await?.try_collect::<Vec<Stored>>().await
        };
        let found = self.exchange("reading back", found).await?;
        Ok(found
            .into_iter()
            .map(|stored| (stored.id, stored.revision))
            .collect())
    }
}

/// Splits documents into exchanges.
fn parts<'a>(documents: impl Iterator<Item = &'a RawDocumentBuf>) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = vec![];
    let mut bytes = 0;
    for (at, document) in documents.enumerate() {
        let length = document.as_bytes().len();
        match parts.last_mut() {
            Some(part) if part.len() < WRITE_DOCUMENTS_MAX && bytes + length <= WRITE_BYTES_MAX => {
                part.end = at + 1;
                bytes += length;
            }
            _ => {
                parts.push(at..at + 1);
                bytes = length;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_bounded_in_documents_and_in_bytes() {
        let sized = |bytes: usize, count: usize| vec![rawdoc! { "x": "x".repeat(bytes) }; count];
        let parts = |documents: Vec<_>| parts(documents.iter());
        assert!(parts(vec![]).is_empty());
        assert_eq!(parts(sized(1, 2500)), [0..1000, 1000..2000, 2000..2500]);
        assert_eq!(parts(sized(3 << 20, 5)), [0..2, 2..4, 4..5]);
        assert_eq!(parts(sized(9 << 20, 2)), [0..1, 1..2]);
    }
}
