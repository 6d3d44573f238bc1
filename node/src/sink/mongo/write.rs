//! Writing events and instances, many at once.
//!
//! A duplicate key usually means that what was to be written is there already, or that something
//! newer is. It may also come of an index that users have made, or of two writers that created one
//! document at once, of which the newer lost. So what is there is read back before it is believed.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ops::Range;

use futures::TryStreamExt;
use lockstep_machine::Event;
use mongodb::bson::{RawArrayBuf, RawDocumentBuf, deserialize_from_document, doc, rawdoc};
use mongodb::error::ErrorKind;
use serde::Deserialize;

use super::super::SinkError;
use super::documents::{Statement, history, place};
use super::fault::{self, WriteFault};
use super::link::Link;

/// How many documents are written in one exchange: servers take 100,000.
const WRITE_DOCUMENTS_MAX: usize = 1000;
/// How many bytes of them: an update command is one document, and servers take 16 MiB.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often an instance is written that another writer creates at the same time. The second time
/// it is there; a third allows for the server forgetting a tombstone just then.
const PUT_ATTEMPTS: usize = 3;

/// What is read back of a document.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) revision: i64,
}

/// What an `update` command answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default, rename = "writeErrors")]
    write_errors: Vec<WriteFault>,
    #[serde(default, rename = "writeConcernError")]
    write_concern_error: Option<WriteConcernFault>,
}

#[derive(Debug, Deserialize)]
struct WriteConcernFault {
    #[serde(default)]
    errmsg: String,
}

impl Link {
    /// Inserts events into the history, those that are not there yet.
    pub(super) async fn keep<E: Borrow<Event>>(&self, events: &[E]) -> Result<(), SinkError> {
        let mut documents = vec![];
        for event in events {
            let cursor = Some(event.borrow().cursor());
            documents.push(raw(&history(event.borrow()), cursor)?);
        }
        for range in parts(&documents) {
            let events = &events[range.clone()];
            self.keep_part(events, &documents[range]).await?;
        }
        Ok(())
    }

    async fn keep_part<E: Borrow<Event>>(
        &self,
        events: &[E],
        documents: &[RawDocumentBuf],
    ) -> Result<(), SinkError> {
        const DOING: &str = "inserting events";
        let collection = self.collection::<RawDocumentBuf>(&self.history);
        let inserted = collection.insert_many(documents).ordered(false);
        let Err(error) = self.attempt(DOING, inserted).await? else {
            return Ok(());
        };
        let ErrorKind::InsertMany(failed) = &*error.kind else {
            return Err(fault::of(DOING, &error));
        };
        let faults = failed.write_errors.iter().flatten().map(WriteFault::from);
        let cursor = |index: usize| Some(events.get(index)?.borrow().cursor());
        let duplicates = fault::only_duplicates(DOING, faults.collect(), cursor)?;
        if let Some(concern) = &failed.write_concern_error {
            return Err(fault::unavailable(format!("{DOING}: {}", concern.message)));
        }
        let id = |fault: &WriteFault| cursor(fault.index).map(place);
        let kept = self
            .kept(&self.history, duplicates.iter().filter_map(id).collect())
            .await?;
        let missing = |fault: &&WriteFault| id(fault).is_none_or(|id| !kept.contains_key(&id));
        match duplicates.iter().find(missing) {
            None => Ok(()),
            Some(fault) => Err(fault.refused(DOING, cursor(fault.index))),
        }
    }

    /// Writes instances, those that are not newer where they are.
    pub(super) async fn put(&self, statements: Vec<Statement>) -> Result<(), SinkError> {
        let mut updates = vec![];
        for statement in &statements {
            updates.push(raw(&statement.update, statement.event)?);
        }
        for range in parts(&updates) {
            let all: Vec<_> = statements[range.clone()]
                .iter()
                .zip(&updates[range])
                .collect();
            self.put_part(all).await?;
        }
        Ok(())
    }

    async fn put_part(
        &self,
        mut left: Vec<(&Statement, &RawDocumentBuf)>,
    ) -> Result<(), SinkError> {
        const DOING: &str = "writing instances";
        let mut refused = Ok(());
        for _ in 0..PUT_ATTEMPTS {
            let faults = self
                .update(DOING, left.iter().map(|(_, update)| *update))
                .await?;
            let event = |index: usize| left.get(index)?.0.event;
            let duplicates = fault::only_duplicates(DOING, faults, event)?;
            let in_question = |fault: &WriteFault| Some(left.get(fault.index)?.0.id.clone());
            let kept = self
                .kept(
                    &self.instances,
                    duplicates.iter().filter_map(in_question).collect(),
                )
                .await?;
            let older = |fault: &&WriteFault| {
                left.get(fault.index).is_none_or(|(statement, _)| {
                    let kept = kept.get(&statement.id);
                    kept.is_none_or(|revision| !statement.leaves(*revision))
                })
            };
            let older: Vec<&WriteFault> = duplicates.iter().filter(older).collect();
            let Some(first) = older.first() else {
                return Ok(());
            };
            refused = Err(first.refused(DOING, event(first.index)));
            left = older
                .iter()
                .filter_map(|fault| left.get(fault.index).copied())
                .collect();
        }
        refused
    }

    /// One `update` command: the driver itself sends many at once to servers of version 8 only.
    async fn update<'a>(
        &self,
        doing: &str,
        updates: impl Iterator<Item = &'a RawDocumentBuf>,
    ) -> Result<Vec<WriteFault>, SinkError> {
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
        let answer = self.exchange(doing, answer).await?;
        let answer: Answer = deserialize_from_document(answer)
            .map_err(|error| fault::unavailable(format!("{doing}: {error}")))?;
        match answer.write_concern_error {
            Some(concern) if answer.write_errors.is_empty() => {
                Err(fault::unavailable(format!("{doing}: {}", concern.errmsg)))
            }
            _ => Ok(answer.write_errors),
        }
    }

    /// The revisions of those documents that are there.
    async fn kept(
        &self,
        collection: &str,
        ids: Vec<String>,
    ) -> Result<HashMap<String, i64>, SinkError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let collection = self.collection::<Kept>(collection);
        let size = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let found = async {
            let found = collection
                .find(doc! { "_id": { "$in": ids } })
                .projection(doc! { "revision": 1 })
                .batch_size(size);
            found.await?.try_collect::<Vec<Kept>>().await
        };
        let found = self.exchange("reading back", found).await?;
        Ok(found
            .into_iter()
            .map(|kept| (kept.id, kept.revision))
            .collect())
    }
}

fn raw(
    document: &mongodb::bson::Document,
    event: Option<lockstep_machine::EventCursor>,
) -> Result<RawDocumentBuf, SinkError> {
    RawDocumentBuf::try_from(document).map_err(|error| SinkError::Refused {
        event,
        reason: format!("it does not become a document: {error}"),
    })
}

/// Ranges of documents that may go into one exchange each.
fn parts(documents: &[RawDocumentBuf]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = vec![];
    let mut bytes = 0;
    for (at, document) in documents.iter().enumerate() {
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
    fn an_exchange_has_a_bound_of_documents_and_one_of_bytes() {
        let sized = |bytes: usize, count: usize| vec![rawdoc! { "x": "x".repeat(bytes) }; count];
        assert!(parts(&[]).is_empty());
        assert_eq!(parts(&sized(1, 2500)), [0..1000, 1000..2000, 2000..2500]);
        assert_eq!(parts(&sized(3 << 20, 5)), [0..2, 2..4, 4..5]);
        assert_eq!(parts(&sized(9 << 20, 2)), [0..1, 1..2]);
    }
}
