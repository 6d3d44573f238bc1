//! Sinks: the replicated record of each, and the commands that change it.
//!
//! A record holds the checkpoint of a destination that stores none itself, the dead letters, and the
//! backfills and replays that operators have requested. Only the latest leader that claimed a sink may
//! change its record, so a deposed leader that does not know it yet changes nothing.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::event::{Event, EventCursor, EventKind};
use crate::ids::{GlobalRevision, SinkName, Timestamp};

/// Maximum size of a dead letter's reason; longer ones are truncated.
pub const DEAD_LETTER_REASON_BYTES_MAX: usize = 1024;

/// The progress of a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SinkCheckpoint {
    /// The last event that it has acknowledged.
    #[n(0)]
    pub cursor: EventCursor,
    /// The revision of its last complete backfill.
    #[n(1)]
    pub seeded: GlobalRevision,
}

/// The record of one sink. Cloning is O(1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkRecord {
    /// The latest term in which a leader claimed it.
    pub term: u64,
    /// Its checkpoint, if the destination does not store that itself.
    pub checkpoint: Option<SinkCheckpoint>,
    /// How many backfills operators have requested.
    pub seeds_asked: u64,
    /// How many of them are complete.
    pub seeds_done: u64,
    pub(crate) letters: OrdMap<EventCursor, DeadLetter>,
}

impl SinkRecord {
    /// Whether a requested backfill is not complete yet.
    pub fn seed_wanted(&self) -> bool {
        self.seeds_done < self.seeds_asked
    }

    /// Its dead letters, in order of their events.
    pub fn letters(&self) -> impl DoubleEndedIterator<Item = &DeadLetter> + ExactSizeIterator {
        self.letters.values()
    }

    /// Its dead letters after that of one event, or all of them.
    pub fn letters_after(
        &self,
        cursor: Option<EventCursor>,
    ) -> impl DoubleEndedIterator<Item = &DeadLetter> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let letters = self.letters.range((start, Bound::Unbounded));
        letters.map(|(_, letter)| letter)
    }
}

/// An event that the destination rejected permanently; or a state that it rejected during a backfill, as an
/// event of the kind [`Seeded`](crate::EventKind::Seeded).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// The event.
    #[cbor(n(0), with = "crate::codec::shared")]
    #[serde(flatten, serialize_with = "with_cursor")]
    #[cfg_attr(feature = "openapi", schema(value_type = EventWithCursor))]
    pub event: Arc<Event>,
    /// The last answer of the destination, at most [`DEAD_LETTER_REASON_BYTES_MAX`].
    #[n(1)]
    pub reason: String,
    /// How often it was rejected.
    #[n(2)]
    pub attempts: u32,
    /// When it became a dead letter, in cluster time.
    #[n(3)]
    pub rejected_at: Timestamp,
    /// When it was last rejected, in cluster time.
    #[n(4)]
    pub tried_at: Timestamp,
    /// Whether an operator has requested a replay.
    #[n(5)]
    pub replay_wanted: bool,
}

/// The event in JSON, and its cursor, which identifies the dead letter.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
struct EventWithCursor<'a> {
    /// The event's cursor, which identifies the dead letter.
    cursor: EventCursor,
    event: &'a Event,
}

fn with_cursor<S: Serializer>(event: &Event, s: S) -> Result<S::Ok, S::Error> {
    let cursor = event.cursor();
    EventWithCursor { cursor, event }.serialize(s)
}

impl DeadLetter {
    /// Truncates a reason to [`DEAD_LETTER_REASON_BYTES_MAX`], between characters.
    pub fn fit(reason: &str) -> &str {
        let most = reason.len().min(DEAD_LETTER_REASON_BYTES_MAX);
        let end = (0..=most).rev().find(|at| reason.is_char_boundary(*at));
        &reason[..end.unwrap_or_default()]
    }

    /// Whether it stands for a backfilled state rather than an event.
    pub fn is_state(&self) -> bool {
        self.event.kind == EventKind::Seeded
    }

    pub(crate) fn new(event: Arc<Event>, reason: &str, now: Timestamp) -> Self {
        Self {
            event,
            reason: Self::fit(reason).to_owned(),
            attempts: 1,
            rejected_at: now,
            tried_at: now,
            replay_wanted: false,
        }
    }

    /// Records another rejection.
    pub(crate) fn refused_again(&mut self, reason: &str, now: Timestamp) {
        self.reason = Self::fit(reason).to_owned();
        self.attempts = self.attempts.saturating_add(1);
        self.tried_at = now;
        self.replay_wanted = false;
    }
}

/// Changes the record of a sink. No instance changes: the revision stays, and there is no event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SinkCommand {
    /// The sink. Its record is created by the first change.
    #[n(0)]
    pub sink: SinkName,
    /// What changes.
    #[n(1)]
    pub change: SinkChange,
}

/// A change of a sink's record.
///
/// A change by the runner is rejected as [`SinkFenced`](crate::Rejection::SinkFenced) if a leader of a
/// later term than its own has claimed the sink; its own is the latest from then on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(flat)]
pub enum SinkChange {
    /// A runner claims the sink.
    #[n(0)]
    Claim {
        /// The term in which its node leads.
        #[n(0)]
        term: u64,
    },
    /// The destination has acknowledged all events up to here. No effect if that is ahead of the revision.
    #[n(1)]
    Advance {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// Where it is now.
        #[n(1)]
        checkpoint: SinkCheckpoint,
    },
    /// The destination permanently rejected an event, or a backfilled state ([`Event::seeded`]). No effect if
    /// there never was such an event.
    #[n(2)]
    Bury {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// The event. If it is already a dead letter, its attempts are incremented.
        #[cbor(n(1), with = "crate::codec::shared")]
        event: Arc<Event>,
        /// The answer of the destination.
        #[n(2)]
        reason: String,
    },
    /// A dead letter was delivered again. No effect if it has been discarded.
    #[n(3)]
    Settle {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// The event's cursor.
        #[n(1)]
        cursor: EventCursor,
        /// The answer of the destination if it rejected it again; otherwise the dead letter is removed.
        #[n(2)]
        refused: Option<String>,
    },
    /// A backfill begins: the dead letters of earlier backfills are removed.
    #[n(4)]
    Seeding {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
    },
    /// A backfill is complete.
    #[n(5)]
    Seeded {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// How many backfills had been requested when it began; later requests need another one.
        #[n(1)]
        asked: u64,
    },
    /// An operator requests a backfill.
    #[n(6)]
    Seed,
    /// An operator requests a replay of dead letters.
    #[n(7)]
    Replay {
        /// The one, or all.
        #[n(0)]
        which: Option<EventCursor>,
    },
    /// An operator discards dead letters.
    #[n(8)]
    Discard {
        /// The one, or all.
        #[n(0)]
        which: Option<EventCursor>,
    },
    /// An operator removes the sink permanently: its record and its dead letters are deleted.
    #[n(9)]
    Forget,
}

impl SinkChange {
    /// The term in which the runner's node leads; `None` for what an operator requests.
    pub(crate) fn term(&self) -> Option<u64> {
        match self {
            SinkChange::Claim { term }
            | SinkChange::Advance { term, .. }
            | SinkChange::Bury { term, .. }
            | SinkChange::Settle { term, .. }
            | SinkChange::Seeding { term }
            | SinkChange::Seeded { term, .. } => Some(*term),
            SinkChange::Seed
            | SinkChange::Replay { .. }
            | SinkChange::Discard { .. }
            | SinkChange::Forget => None,
        }
    }
}
