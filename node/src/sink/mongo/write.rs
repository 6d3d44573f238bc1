//! Writes events and instances, many at once.
//!
//! A duplicate key usually means that the document is stored already, or that a newer one is. It may
//! also come from an index that users have created, or from two writers that created one document at the
//! same time, of which the newer lost. So the stored documents are read back.

use std::collections::HashMap;
use std::ops::Range;

use futures::TryStreamExt;
use mongodb::bson::raw::cstr;
use mongodb::bson::{RawArrayBuf, RawDocumentBuf, deserialize_from_document, doc, rawdoc};
use serde::Deserialize;

use super::super::SinkError;
use super::connection::Connection;
use super::documents::Statement;
use super::errors::DocumentError;

/// Documents written in one exchange; servers accept 100,000.
const WRITE_DOCUMENTS_MAX: usize = 1000;
/// Their bytes: a command is one document, and servers accept 16 MiB.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a document is written that another writer creates at the same time. The second attempt
/// finds it; a third allows for a tombstone that the server removes in between.
const PUT_ATTEMPTS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Events are inserted.
    History,
    /// Instances are inserted or updated.
    Instances,
}

impl Target {
    /// The operation, in errors.
    fn operation(self) -> &'static str {
        match self {
            Target::History => "inserting events",
            Target::Instances => "writing instances",
        }
    }
}

/// The fields of a stored document that are read back.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) revision: i64,
}

/// The answer to an `insert` or `update` command.
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
    /// Writes those documents that are not stored, or are stored in an older revision.
    pub(super) async fn put(
        &self,
        target: Target,
        statements: impl Iterator<Item = Result<Statement, SinkError>>,
    ) -> Result<(), SinkError> {
        let statements = statements.collect::<Result<Vec<_>, _>>()?;
        for range in parts(statements.iter().map(|it| &it.document)) {
            let part = statements[range].iter().collect();
            self.put_part(target, part).await?;
        }
        Ok(())
    }

    async fn put_part(&self, target: Target, mut left: Vec<&Statement>) -> Result<(), SinkError> {
        let operation = target.operation();
        let mut rejected = Ok(());
        for _ in 0..PUT_ATTEMPTS {
            let failed = self.execute(target, &left).await?;
            let of = |error: &DocumentError| left.get(error.index).copied();
            let (duplicates, others): (Vec<_>, Vec<_>) =
                failed.into_iter().partition(DocumentError::is_duplicate);
            let event = |error: &DocumentError| of(error)?.event;
            let others = others.iter().map(|it| it.classify(operation, event(it)));
            // What concerns more than one document comes before a rejection.
            if let Some(error) = others.min_by_key(|it| matches!(it, SinkError::Rejected { .. })) {
                return Err(error);
            }
            let ids = duplicates.iter().filter_map(of).map(|it| it.id.clone());
            let stored = self.stored(target, ids.collect()).await?;
            let is_older = |error: &&DocumentError| {
                let stored = |it: &Statement| Some(it.yields_to(*stored.get(&it.id)?));
                !of(error).and_then(stored).unwrap_or(false)
            };
            let older: Vec<&DocumentError> = duplicates.iter().filter(is_older).collect();
            let Some(first) = older.first() else {
                return Ok(());
            };
            rejected = Err(first.classify(operation, event(first)));
            left = older.into_iter().filter_map(of).collect();
        }
        rejected
    }

    /// One command: the driver's bulk write works only with servers from version 8.
    async fn execute(
        &self,
        target: Target,
        statements: &[&Statement],
    ) -> Result<Vec<DocumentError>, SinkError> {
        let operation = target.operation();
        let documents = statements.iter().map(|it| it.document.clone());
        let documents: RawArrayBuf = documents.collect();
        let collection = self.name(target);
        let mut command = match target {
            Target::History => rawdoc! { "insert": collection, "documents": documents },
            Target::Instances => rawdoc! { "update": collection, "updates": documents },
        };
        command.append(cstr!("ordered"), false);
        command.append(cstr!("writeConcern"), self.write_concern.clone());
        let answer = self.database.run_raw_command(command);
        let answer = self.exchange(operation, answer).await?;
        let answer: Answer = deserialize_from_document(answer)
            .map_err(|error| SinkError::unavailable(format!("{operation}: {error}")))?;
        match answer.write_concern_error {
            Some(concern) if answer.write_errors.iter().all(DocumentError::is_duplicate) => Err(
                SinkError::unavailable(format!("{operation}: {}", concern.errmsg)),
            ),
            Some(_) | None => Ok(answer.write_errors),
        }
    }

    /// The revisions of those documents that are stored.
    async fn stored(
        &self,
        target: Target,
        ids: Vec<String>,
    ) -> Result<HashMap<String, i64>, SinkError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let collection = self.collection::<Stored>(self.name(target));
        let size = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let found = async {
            let found = collection
                .find(doc! { "_id": { "$in": ids } })
                .projection(doc! { "revision": 1 })
                .batch_size(size);
            found.await?.try_collect::<Vec<Stored>>().await
        };
        let found = self.exchange("reading back", found).await?;
        Ok(found.into_iter().map(|it| (it.id, it.revision)).collect())
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
