//! Whose the collections are, and how far they are: one document in `sinks`, under the name of the
//! collection of instances.
//!
//! It changes by filters that name all of it that matters, so that a leader that was replaced changes
//! nothing any more.

use lockstep_machine::{EventCursor, GlobalRevision};
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use super::super::{Checkpoint, Claim, Place, SinkError};
use super::documents::{number, unsigned};
use super::fault;
use super::link::Link;

/// The collection of these documents.
const SINKS: &str = "sinks";
/// How often a claim is tried that others get in between of.
const CLAIM_ATTEMPTS: usize = 5;

/// The claim that this node holds.
pub(super) struct Hold {
    records: Collection<Record>,
    id: String,
    claim: Claim,
    place: Place,
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(rename = "_id")]
    id: String,
    cluster: String,
    sink: String,
    history: String,
    term: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seeded: Option<i64>,
}

impl Hold {
    /// Claims the collections for the claim's term, unless they are another's or a later term's.
    pub(super) async fn take(link: &Link, claim: &Claim) -> Result<Self, SinkError> {
        let mut hold = Self {
            records: link.collection(SINKS),
            id: link.instances.clone(),
            claim: claim.clone(),
            place: Place::Nothing,
        };
        hold.share_no_history(link).await?;
        for _ in 0..CLAIM_ATTEMPTS {
            let record = match hold.find(link).await? {
                None => hold.create(link).await?,
                Some(record) => {
                    hold.judge_owner(&record)?;
                    hold.raise(link, &record).await?
                }
            };
            if let Some(record) = record {
                hold.place = record.place();
                return Ok(hold);
            }
        }
        Err(fault::unavailable("others claim it all the time"))
    }

    /// How far the far side is.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Looks whether the claim still holds and the place is where it was left: `from`, if it is said.
    ///
    /// What is written is guarded anyway; this bounds how long a leader goes on writing that was
    /// replaced, and keeps a far side that was restored from being written to at the wrong place.
    pub(super) async fn look(
        &self,
        link: &Link,
        from: Option<Checkpoint>,
    ) -> Result<(), SinkError> {
        if from.is_some_and(|from| !self.is_at(from)) {
            return Err(SinkError::Moved);
        }
        self.judge(self.find(link).await?.as_ref())
    }

    /// Moves from a place to another one, if the claim still holds and it is there.
    pub(super) async fn advance(
        &mut self,
        link: &Link,
        from: Checkpoint,
        to: Checkpoint,
    ) -> Result<(), SinkError> {
        if !self.is_at(from) {
            return Err(SinkError::Moved);
        }
        self.go(link, to).await
    }

    /// Moves from wherever it is.
    pub(super) async fn go(&mut self, link: &Link, to: Checkpoint) -> Result<(), SinkError> {
        let place = doc! {
            "revision": number(to.cursor.revision.0),
            "position": i64::from(to.cursor.position),
            "seeded": number(to.seeded.0),
        };
        let moved = self
            .records
            .update_one(self.filter(), doc! { "$set": place });
        let moved = link.exchange("moving the place", moved).await?;
        if moved.matched_count == 0 {
            self.judge(self.find(link).await?.as_ref())?;
            return Err(SinkError::Moved);
        }
        self.place = Place::At(to);
        Ok(())
    }

    /// The term and the cluster's sink, for what else is noted.
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    fn is_at(&self, from: Checkpoint) -> bool {
        match self.place {
            Place::At(place) => place == from,
            Place::Nothing => from == Checkpoint::default(),
            Place::NotKept => false,
        }
    }

    /// The document, only if it is as it was left.
    fn filter(&self) -> Document {
        let mut filter = self.ours();
        filter.insert("term", number(self.claim.term));
        match self.place {
            Place::At(place) => {
                filter.insert("revision", number(place.cursor.revision.0));
                filter.insert("position", i64::from(place.cursor.position));
                filter.insert("seeded", number(place.seeded.0));
            }
            // Which is there for a field that is not.
            Place::Nothing | Place::NotKept => {
                filter.insert("revision", Bson::Null);
            }
        }
        filter
    }

    fn ours(&self) -> Document {
        doc! { "_id": &self.id, "cluster": &self.claim.cluster, "sink": &self.claim.sink }
    }

    async fn find(&self, link: &Link) -> Result<Option<Record>, SinkError> {
        let found = self.records.find_one(doc! { "_id": &self.id });
        link.exchange("reading the place", found).await
    }

    /// Two sinks may share a database, and no collection.
    async fn share_no_history(&self, link: &Link) -> Result<(), SinkError> {
        let other = doc! { "_id": { "$ne": &self.id }, "history": &link.history };
        let found = self.records.find_one(other);
        match link.exchange("looking for other sinks", found).await? {
            None => Ok(()),
            Some(record) => Err(taken(&link.history, &record)),
        }
    }

    /// Makes the document; none if another was faster.
    async fn create(&self, link: &Link) -> Result<Option<Record>, SinkError> {
        let record = Record {
            id: self.id.clone(),
            cluster: self.claim.cluster.clone(),
            sink: self.claim.sink.clone(),
            history: link.history.clone(),
            term: number(self.claim.term),
            revision: None,
            position: None,
            seeded: None,
        };
        let made = link.attempt("claiming", self.records.insert_one(&record));
        match made.await? {
            Ok(_) => Ok(Some(record)),
            Err(error) if fault::is_duplicate(&error) => Ok(None),
            Err(error) => Err(fault::of("claiming", &error)),
        }
    }

    /// Raises the term of the document; none if another raised it further. What it then says of the
    /// place is acknowledged as this write is, so that no fail-over of the servers takes it back. Another
    /// history than before is begun anew.
    async fn raise(&self, link: &Link, known: &Record) -> Result<Option<Record>, SinkError> {
        let mut filter = self.ours();
        filter.insert("term", doc! { "$lte": number(self.claim.term) });
        let mut update = doc! { "$set": {
            "term": number(self.claim.term),
            "history": &link.history,
        } };
        if known.history != link.history {
            update.insert(
                "$unset",
                doc! { "revision": "", "position": "", "seeded": "" },
            );
        }
        let raised = self
            .records
            .find_one_and_update(filter, update)
            .return_document(ReturnDocument::After);
        link.exchange("claiming", raised).await
    }

    /// Whether the document is as it was left; why not, otherwise.
    fn judge(&self, record: Option<&Record>) -> Result<(), SinkError> {
        let record = record.ok_or(SinkError::Moved)?;
        self.judge_owner(record)?;
        if record.term == number(self.claim.term) && record.place() == self.place {
            Ok(())
        } else {
            Err(SinkError::Moved)
        }
    }

    fn judge_owner(&self, record: &Record) -> Result<(), SinkError> {
        if record.cluster != self.claim.cluster || record.sink != self.claim.sink {
            return Err(taken(&self.id, record));
        }
        match unsigned(record.term) {
            term if term > self.claim.term => Err(SinkError::Fenced { term }),
            _ => Ok(()),
        }
    }
}

impl Record {
    fn place(&self) -> Place {
        let (Some(revision), Some(position)) = (self.revision, self.position) else {
            return Place::Nothing;
        };
        Place::At(Checkpoint {
            cursor: EventCursor {
                revision: GlobalRevision(unsigned(revision)),
                position: u32::try_from(position).unwrap_or(u32::MAX),
            },
            seeded: GlobalRevision(unsigned(self.seeded.unwrap_or_default())),
        })
    }
}

fn taken(collection: &str, owner: &Record) -> SinkError {
    fault::misconfigured(format!(
        "the collection {collection} belongs to the sink {} of the cluster {}: give this one other \
         collections or a database of its own",
        owner.sink, owner.cluster
    ))
}
