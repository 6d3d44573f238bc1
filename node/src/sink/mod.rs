//! Other systems that follow the cluster's committed events.
//!
//! A `Sink` is one far side: it writes what it is given and says what came of it. Everything that
//! all kinds need alike is the runner's: the order of events, where to go on, when to try again, what
//! to do with an event that is refused for good, and that only the leader writes.
//!
//! What the far side ends with is exact although events may be written twice: history is kept under
//! each event's place in the stream, and a current state gives way only to a newer one.

mod backoff;
mod board;
mod changes;
mod handle;
mod ledger;
mod mongo;
mod postgres;
mod runner;
mod seeding;
mod session;
mod status;
#[cfg(test)]
mod tests;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_machine::{Event, EventCursor, GlobalRevision, Instance, InstanceId, Timestamp};

use crate::config::{self, SinkKind};
pub(crate) use changes::{Change, Current, changes};
pub use handle::{Sinks, SinksError};
pub use lockstep_machine::DeadLetter;
pub use runner::Leading;
pub use status::{Phase, SinkStatus};

/// Who writes: at the far side, a claim of a later term ends those of earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// The sink's name.
    pub(crate) sink: String,
    /// The term in which this node leads.
    pub(crate) term: u64,
}

/// What the far side says of how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It keeps no place: the cluster keeps it.
    NotKept,
    /// Nothing was ever written there.
    Nothing,
    /// All up to here is there.
    At(Checkpoint),
}

/// How far a far side is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The last event that it took care of.
    pub(crate) cursor: EventCursor,
    /// The revision at which its current states were last written as a whole: events up to it tell it
    /// nothing about them, and belong into the history only.
    pub(crate) seeded: GlobalRevision,
}

/// The events between two places, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    /// Where the far side is now; anywhere else, it is [`SinkError::Moved`].
    pub(crate) from: Checkpoint,
    /// Where it is once this is written, in the same write if it can be.
    pub(crate) to: EventCursor,
    /// Those that the sink follows; none if only the place moves on.
    pub(crate) events: &'a [Arc<Event>],
}

/// The current states written as a whole, as of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed {
    /// The revision that the states are of.
    pub(crate) revision: GlobalRevision,
    /// Cluster time at that revision.
    pub(crate) at: Timestamp,
    /// Where the far side was before; the events between here and `then` are missing from its history.
    pub(crate) was: Option<EventCursor>,
    /// Where it goes on: at most `revision`, since older events still belong into the history.
    pub(crate) then: EventCursor,
    /// Why.
    pub(crate) reason: SeedReason,
}

/// Why the current states are written as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeedReason {
    /// Nothing was there.
    First,
    /// The events behind its place are no longer kept.
    Compacted,
    /// An operator asked for it.
    Asked,
}

impl SeedReason {
    /// Its name in logs and at the far side.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SeedReason::First => "first",
            SeedReason::Compacted => "compacted",
            SeedReason::Asked => "asked",
        }
    }
}

/// Why the far side did not take what it was given. Each reason is a sentence for the operator,
/// without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinkError {
    /// It has no address: what `optional` sinks wait for.
    #[error("no host is known as {host}")]
    Absent {
        /// The name that was looked up.
        host: String,
    },
    /// It cannot be reached, is too slow, full, or not able to now.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// When it wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It will not have us at all: credentials, rights, another cluster's tables. Somebody must mend
    /// that.
    #[error("{reason}")]
    Misconfigured {
        /// What is wrong.
        reason: String,
    },
    /// It refuses something that it was given, and always will.
    #[error("{reason}")]
    Refused {
        /// Which event, if that is known.
        event: Option<EventCursor>,
        /// What it says.
        reason: String,
    },
    /// A leader of a later term writes there.
    #[error("a leader of term {term} writes there")]
    Fenced {
        /// Its term.
        term: u64,
    },
    /// It is not where it was left: somebody changed or restored it.
    #[error("it is not where it was left")]
    Moved,
}

/// One step of a round trip through the far side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStep {
    /// What was done, in a few words: `connect`, `insert 3`, `find one`, `drop`.
    pub step: String,
    /// How long it took.
    pub took: Duration,
    /// What was seen, or what went wrong. Nothing follows a step that failed.
    pub result: Result<String, String>,
}

/// A far side. One runner at a time calls it, one call at a time, from the runtime: it must not block.
///
/// Every call ends within the sink's `timeout` for each exchange with the far side. After an error,
/// [`open`](Sink::open) is called again before anything else, except after [`SinkError::Refused`].
#[async_trait]
pub(crate) trait Sink: Send {
    /// Connects anew if need be, makes and migrates what is missing, claims, and says how far the far
    /// side is.
    async fn open(&mut self, claim: &Claim) -> Result<Place, SinkError>;

    /// Writes a batch, as a whole where the far side can.
    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// Writes some of the current states of a seed, whatever is there. Those refused are given again
    /// one by one, so that it is known which.
    async fn seed(&mut self, seed: &Seed, page: &[(InstanceId, Instance)])
    -> Result<(), SinkError>;

    /// Ends a seed: forgets the states that were not in it, notes what is missing from the history,
    /// and moves to `seed.then`, seeded at `seed.revision`.
    async fn seeded(&mut self, seed: &Seed) -> Result<(), SinkError>;

    /// Writes an event that was put aside once, with what its instance is as of `revision`: none if it
    /// is no more, or if the event is not about an instance. One of the kind
    /// [`Seeded`](lockstep_machine::EventKind::Seeded) belongs into no history.
    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError>;

    /// Goes through the far side on a connection and in a place of its own: inserts several, finds
    /// one, drops the place. Claims nothing.
    async fn check(&mut self) -> Vec<CheckStep>;
}

/// Why a session with a far side ended.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The far side.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The cluster did not answer, or not as a leader gets answered.
    #[error("the cluster did not answer: {0}")]
    Cluster(String),
    /// An event was refused, and there is no room to put it aside.
    #[error(
        "an event is refused, and there is no room to put it aside: {0}; replay or discard some"
    )]
    Full(String),
}

/// The far side that is configured; nothing is connected yet.
fn make(sink: &config::Sink) -> Box<dyn Sink> {
    match &sink.kind {
        SinkKind::Postgres(postgres) => Box::new(postgres::Postgres::new(sink, postgres)),
        SinkKind::Mongo(mongo) => Box::new(mongo::Mongo::new(sink, mongo)),
        SinkKind::Webhook(webhook) => Box::new(webhook::Webhook::new(sink, webhook)),
    }
}
