//! The interface of a destination.

use std::sync::Arc;

use async_trait::async_trait;
pub(crate) use lockstep_machine::SinkCheckpoint as Checkpoint;
use lockstep_machine::{Event, EventCursor, GlobalRevision, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Change, CheckSteps, Current, SinkError, changes, mongo, postgres, webhook};
use crate::config::{self, SinkKind};

/// The identity of a writer. In a database, a claim of a later term ends all earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) cluster: String,
    pub(crate) sink: String,
    /// The term in which this node leads.
    pub(crate) term: u64,
}

impl Claim {
    /// Fails if `owner`, which has claimed `what` in a database, is another sink or of a later term.
    pub(crate) fn follows(&self, owner: &Claim, what: &str) -> Result<(), SinkError> {
        if (&owner.cluster, &owner.sink) == (&self.cluster, &self.sink) {
            return match owner.term > self.term {
                true => Err(SinkError::Fenced { term: owner.term }),
                false => Ok(()),
            };
        }
        let cluster = match owner.cluster == self.cluster {
            true => "this cluster".to_owned(),
            false => format!("cluster {}", owner.cluster),
        };
        Err(SinkError::misconfigured(format!(
            "{what} belong to sink {} of {cluster}: configure different ones for sink {}, or drop these if \
             they are no longer in use",
            owner.sink, self.sink
        )))
    }
}

/// What a destination reports about its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredCheckpoint {
    /// It stores none: the cluster does.
    Unsupported,
    /// It stores one, and nothing was ever written.
    Empty,
    /// Everything up to here was written.
    At(Checkpoint),
}

/// The events between two cursors, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    /// The destination's checkpoint before the write; [`SinkError::Moved`] if it has another one.
    pub(crate) from: Checkpoint,
    /// The cursor of its checkpoint after the write, stored in the same write where possible.
    pub(crate) to: EventCursor,
    /// The events that the sink follows; empty if only the checkpoint advances.
    pub(crate) events: &'a [Arc<Event>],
}

impl Batch<'_> {
    /// The checkpoint after the write.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            cursor: self.to,
            seeded: self.from.seeded,
        }
    }

    /// What becomes of each instance.
    pub(crate) fn changes(&self) -> Vec<Change> {
        changes(self.events, self.from.seeded)
    }
}

/// All current states, as of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backfill {
    pub(crate) revision: GlobalRevision,
    /// Cluster time at that revision.
    pub(crate) at: Timestamp,
    /// The destination's cursor before; the events from here to `resume_at` are missing from its history.
    pub(crate) previous: Option<EventCursor>,
    /// Where delivery resumes: at most `revision`, since older events may still belong in the history.
    pub(crate) resume_at: EventCursor,
    pub(crate) reason: BackfillReason,
}

impl Backfill {
    /// The destination's checkpoint once it has finished.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            cursor: self.resume_at,
            seeded: self.revision,
        }
    }
}

/// Why a backfill runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackfillReason {
    /// The destination was empty.
    First,
    /// The events after its checkpoint were compacted.
    Compacted,
    /// An operator requested it.
    Requested,
}

impl BackfillReason {
    /// Its name in metrics and destinations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BackfillReason::First => "first",
            BackfillReason::Compacted => "compacted",
            BackfillReason::Requested => "asked",
        }
    }
}

/// A destination. One task at a time calls it, one call at a time, on the async runtime: it must not
/// block.
///
/// Every exchange with the remote system ends within the sink's `timeout`. After an error,
/// [`open`](Destination::open) is called again before anything else, except after
/// [`SinkError::Rejected`].
#[async_trait]
pub(crate) trait Destination: Send {
    /// Connects if necessary, creates and migrates what is missing, claims the destination, and reports
    /// its checkpoint.
    async fn open(&mut self, claim: &Claim) -> Result<StoredCheckpoint, SinkError>;

    /// Writes a batch, atomically where the destination supports it.
    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// Writes some of the states of a backfill, over whatever is stored. The caller splits a rejected
    /// page to find the rejected states.
    async fn backfill_page(
        &mut self,
        backfill: &Backfill,
        page: &[Current],
    ) -> Result<(), SinkError>;

    /// Ends a backfill: removes the states that were not part of it, records the gap in the history, and
    /// stores [`Backfill::checkpoint`].
    async fn finish_backfill(&mut self, backfill: &Backfill) -> Result<(), SinkError>;

    /// Writes the event of a dead letter, and what its instance is now; `None` if the event is not about
    /// an instance. An event of the kind [`Seeded`](lockstep_machine::EventKind::Seeded) stands for a
    /// rejected state and is not part of the history.
    async fn replay(&mut self, event: &Event, now: Option<Change>) -> Result<(), SinkError>;

    /// Tests the destination on a connection and in a table of its own: writes several rows, reads one,
    /// drops the table. Takes no claim. `None` if a step failed.
    async fn check(&mut self, steps: &mut CheckSteps) -> Option<()>;
}

/// Databases have no unsigned numbers, and no number of a cluster exceeds their signed ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The configured destination, not connected yet.
pub(super) fn make(sink: config::Sink) -> Box<dyn Destination> {
    match sink.kind {
        SinkKind::Postgres => Box::new(postgres::Postgres::new(sink)),
        SinkKind::Mongo => Box::new(mongo::Mongo::new(sink)),
        SinkKind::Webhook => Box::new(webhook::Webhook::new(sink)),
    }
}
