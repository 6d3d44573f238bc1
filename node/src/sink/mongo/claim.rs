//! Who owns the collections, and their checkpoint: one document in `sinks`, under the name of the
//! collection of instances.
//!
//! Every update filters by all fields that matter, so that a deposed leader changes nothing.

use lockstep_machine::{EventCursor, GlobalRevision};
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use super::super::{Checkpoint, Claim, SinkError, signed};
use super::connection::Connection;
use super::errors;

/// The collection of these documents.
const SINKS: &str = "sinks";
/// What a claim is of, in errors.
const COLLECTIONS: &str = "the collections";
/// How often a claim is tried while other nodes claim at the same time.
const CLAIM_ATTEMPTS: usize = 5;

/// Collections that this node has claimed.
pub(super) struct Claimed {
    pub(super) connection: Connection,
    records: Collection<Record>,
    pub(super) claim: Claim,
    /// The checkpoint that was last read or written.
    pub(super) checkpoint: Option<Checkpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(rename = "_id")]
    id: String,
    #[serde(flatten)]
    owner: Claim,
    history: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seeded: Option<u64>,
}

impl Claimed {
    /// Claims the collections for a term. Fails if they belong to another sink or a later term.
    pub(super) async fn claim(connection: Connection, claim: &Claim) -> Result<Self, SinkError> {
        let mut claimed = Self {
            records: connection.collection(SINKS),
            connection,
            claim: claim.clone(),
            checkpoint: None,
        };
        claimed.check_history_unshared().await?;
        for _ in 0..CLAIM_ATTEMPTS {
            let record = match claimed.find().await? {
                None => claimed.create().await?,
                Some(record) => claimed.raise_term(&record).await?,
            };
            if let Some(record) = record {
                claimed.checkpoint = record.checkpoint();
                return Ok(claimed);
            }
        }
        Err(SinkError::unavailable(
            "other nodes claimed the collections at the same time",
        ))
    }

    /// Checks that the checkpoint is `from`.
    pub(super) fn check_at(&self, from: Checkpoint) -> Result<(), SinkError> {
        match self.checkpoint.unwrap_or_default() == from {
            true => Ok(()),
            false => Err(SinkError::Moved),
        }
    }

    /// Checks that the claim still holds and the checkpoint is unchanged.
    ///
    /// Writes are guarded anyway; this bounds how long a deposed leader goes on writing, and stops
    /// writes after the database was restored.
    pub(super) async fn verify(&self) -> Result<(), SinkError> {
        let record = self.find().await?.ok_or(SinkError::Moved)?;
        self.claim.follows(&record.owner, COLLECTIONS)?;
        match record.owner.term == self.claim.term && record.checkpoint() == self.checkpoint {
            true => Ok(()),
            false => Err(SinkError::Moved),
        }
    }

    /// Stores a checkpoint, if the claim still holds and the checkpoint is unchanged.
    pub(super) async fn set_checkpoint(&mut self, to: Checkpoint) -> Result<(), SinkError> {
        let update = doc! { "$set": fields(to) };
        let updating = self.records.update_one(self.filter(), update);
        let updated = self.connection.exchange("storing the checkpoint", updating);
        if updated.await?.matched_count == 0 {
            self.verify().await?;
            return Err(SinkError::Moved);
        }
        self.checkpoint = Some(to);
        Ok(())
    }

    /// Matches the document only if the term and the checkpoint are unchanged.
    fn filter(&self) -> Document {
        let mut filter = self.owned();
        filter.insert("term", signed(self.claim.term));
        match self.checkpoint {
            Some(checkpoint) => filter.extend(fields(checkpoint)),
            // Null matches a field that does not exist.
            None => drop(filter.insert("revision", Bson::Null)),
        }
        filter
    }

    fn owned(&self) -> Document {
        doc! { "_id": self.id(), "cluster": &self.claim.cluster, "sink": &self.claim.sink }
    }

    fn id(&self) -> &str {
        &self.connection.instances
    }

    async fn find(&self) -> Result<Option<Record>, SinkError> {
        let finding = self.records.find_one(doc! { "_id": self.id() });
        let found = self.connection.exchange("reading the checkpoint", finding);
        found.await
    }

    /// Two sinks may share a database, but no collection.
    async fn check_history_unshared(&self) -> Result<(), SinkError> {
        let history = &self.connection.history;
        let other = doc! { "_id": { "$ne": self.id() }, "history": history };
        let finding = self.records.find_one(other);
        let found = self.connection.exchange("looking for other sinks", finding);
        match found.await? {
            None => Ok(()),
            Some(other) => Err(SinkError::misconfigured(format!(
                "the collection {history} belongs to sink {} of cluster {}: configure another \
                 collection or another database",
                other.owner.sink, other.owner.cluster
            ))),
        }
    }

    /// Creates the document; `None` if another node did so first.
    async fn create(&self) -> Result<Option<Record>, SinkError> {
        let record = Record {
            id: self.id().to_owned(),
            owner: self.claim.clone(),
            history: self.connection.history.clone(),
            revision: None,
            position: None,
            seeded: None,
        };
        let inserting = self.records.insert_one(&record);
        match self.connection.attempt("claiming", inserting).await? {
            Ok(_) => Ok(Some(record)),
            Err(error) if errors::is_duplicate(&error) => Ok(None),
            Err(error) => Err(errors::classify("claiming", &error)),
        }
    }

    /// Raises the document's term; `None` if another node raised it further. The checkpoint that this
    /// returns is acknowledged under the write concern, so that no failover of the servers rolls it back.
    /// If another collection of history is configured than before, the checkpoint is removed.
    async fn raise_term(&self, known: &Record) -> Result<Option<Record>, SinkError> {
        self.claim.follows(&known.owner, COLLECTIONS)?;
        let history = &self.connection.history;
        let term = signed(self.claim.term);
        let mut filter = self.owned();
        filter.insert("term", doc! { "$lte": term });
        let mut update = doc! { "$set": { "term": term, "history": history } };
        if known.history != *history {
            let checkpoint = doc! { "revision": "", "position": "", "seeded": "" };
            update.insert("$unset", checkpoint);
        }
        let raising = self
            .records
            .find_one_and_update(filter, update)
            .return_document(ReturnDocument::After);
        self.connection.exchange("claiming", raising).await
    }
}

impl Record {
    fn checkpoint(&self) -> Option<Checkpoint> {
        let cursor = EventCursor {
            revision: GlobalRevision(self.revision?),
            position: self.position?,
        };
        Some(Checkpoint {
            cursor,
            seeded: GlobalRevision(self.seeded.unwrap_or_default()),
        })
    }
}

fn fields(checkpoint: Checkpoint) -> Document {
    doc! {
        "revision": signed(checkpoint.cursor.revision.0),
        "position": i64::from(checkpoint.cursor.position),
        "seeded": signed(checkpoint.seeded.0),
    }
}
