//! Sinks: what is kept account of for the systems that follow the cluster, and what can change it.
//!
//! A far side that keeps no place of its own has it here; so do the events that a far side refused
//! for good, and what operators wish. Only the leader of the latest term that claimed a sink may
//! write to its record, so that one that no longer leads, and does not know it yet, writes nothing.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};

use crate::event::{Event, EventCursor, EventKind};
use crate::ids::{GlobalRevision, SinkName, Timestamp};

/// The most bytes that are kept of a dead letter's reason; the rest is cut off.
pub const DEAD_LETTER_REASON_BYTES_MAX: usize = 1024;

/// How far a far side is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SinkCheckpoint {
    /// The last event that it took care of.
    #[n(0)]
    pub cursor: EventCursor,
    /// The revision at which its current states were last written as a whole.
    #[n(1)]
    pub seeded: GlobalRevision,
}

/// What is kept account of for one sink. Cloning is O(1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkRecord {
    /// The latest term in which a leader claimed it.
    pub term: u64,
    /// How far it is, if it does not keep that itself.
    pub checkpoint: Option<SinkCheckpoint>,
    /// How often an operator wanted the current states written as a whole.
    pub seeds_asked: u64,
    /// How many of those wishes were met.
    pub seeds_done: u64,
    pub(crate) letters: OrdMap<EventCursor, DeadLetter>,
}

impl SinkRecord {
    /// Whether an operator wants the current states written as a whole.
    pub fn seed_wanted(&self) -> bool {
        self.seeds_done < self.seeds_asked
    }

    /// Its dead letters, in order of their events.
    pub fn letters(&self) -> impl DoubleEndedIterator<Item = &DeadLetter> + ExactSizeIterator {
        self.letters.values()
    }

    /// The dead letter of one event.
    pub fn letter(&self, cursor: EventCursor) -> Option<&DeadLetter> {
        self.letters.get(&cursor)
    }

    /// Its dead letters behind that of one event, or all: a page starts where the last one ended.
    pub fn letters_after(
        &self,
        cursor: Option<EventCursor>,
    ) -> impl DoubleEndedIterator<Item = &DeadLetter> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let letters = self.letters.range((start, Bound::Unbounded));
        letters.map(|(_, letter)| letter)
    }
}

/// An event that the far side refused for good, put aside so that those behind it can go on; or a
/// state, as an event of the kind [`Seeded`](crate::EventKind::Seeded).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeadLetter {
    /// The event.
    #[cbor(n(0), with = "crate::codec::shared")]
    pub event: Arc<Event>,
    /// What the far side said, [`DEAD_LETTER_REASON_BYTES_MAX`] at most.
    #[n(1)]
    pub reason: String,
    /// How often it was refused.
    #[n(2)]
    pub attempts: u32,
    /// When it was put aside, in cluster time.
    #[n(3)]
    pub buried_at: Timestamp,
    /// When it was last refused, in cluster time.
    #[n(4)]
    pub tried_at: Timestamp,
    /// Whether an operator wants it written once more.
    #[n(5)]
    pub replay_wanted: bool,
}

impl DeadLetter {
    /// What is kept of a reason, [`DEAD_LETTER_REASON_BYTES_MAX`] at most: whole characters.
    pub fn fit(reason: &str) -> &str {
        let most = reason.len().min(DEAD_LETTER_REASON_BYTES_MAX);
        let end = (0..=most).rev().find(|at| reason.is_char_boundary(*at));
        &reason[..end.unwrap_or_default()]
    }

    /// Whether it stands for a state, and not for something that happened.
    pub fn is_state(&self) -> bool {
        self.event.kind == EventKind::Seeded
    }

    pub(crate) fn new(event: Arc<Event>, reason: &str, now: Timestamp) -> Self {
        Self {
            event,
            reason: Self::fit(reason).to_owned(),
            attempts: 1,
            buried_at: now,
            tried_at: now,
            replay_wanted: false,
        }
    }

    /// It was refused once more.
    pub(crate) fn refused_again(&mut self, reason: &str, now: Timestamp) {
        self.reason = Self::fit(reason).to_owned();
        self.attempts = self.attempts.saturating_add(1);
        self.tried_at = now;
        self.replay_wanted = false;
    }
}

/// Changes what is kept account of for a sink. No instance changes, so the revision stays, and
/// there is no event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SinkCommand {
    /// The sink. Its record is made when there is first something to keep.
    #[n(0)]
    pub sink: SinkName,
    /// What changes.
    #[n(1)]
    pub change: SinkChange,
}

/// What changes of a sink's record.
///
/// What the runner asks is refused as [`SinkFenced`](crate::Rejection::SinkFenced) if a leader of a
/// later term than its own has claimed the sink; its own is the latest from then on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(flat)]
pub enum SinkChange {
    /// The runner begins.
    #[n(0)]
    Claim {
        /// The term in which its node leads.
        #[n(0)]
        term: u64,
    },
    /// The far side took care of all up to here. Changes nothing if that is ahead of the revision.
    #[n(1)]
    Advance {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// Where it is now.
        #[n(1)]
        checkpoint: SinkCheckpoint,
    },
    /// The far side refused an event for good, or a state, which [`Event::seeded`] stands for. Changes
    /// nothing if there never was such an event.
    #[n(2)]
    Bury {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// The event; if it has a letter already, that one counts another attempt.
        #[cbor(n(1), with = "crate::codec::shared")]
        event: Arc<Event>,
        /// What the far side said.
        #[n(2)]
        reason: String,
    },
    /// A dead letter was written once more. Changes nothing if it was discarded meanwhile.
    #[n(3)]
    Settle {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// The event's place.
        #[n(1)]
        cursor: EventCursor,
        /// What the far side said if it refused it again; if it took it, the letter is removed.
        #[n(2)]
        refused: Option<String>,
    },
    /// The current states begin to be written as a whole: those that were refused the last time are
    /// no longer put aside.
    #[n(4)]
    Seeding {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
    },
    /// The current states are written as a whole.
    #[n(5)]
    Seeded {
        /// The term in which the runner's node leads.
        #[n(0)]
        term: u64,
        /// How often that was wanted when it began: a wish that came later is for another time.
        #[n(1)]
        asked: u64,
    },
    /// An operator wants the current states written as a whole.
    #[n(6)]
    Seed,
    /// An operator wants dead letters written once more.
    #[n(7)]
    Replay {
        /// The one, or all.
        #[n(0)]
        which: Option<EventCursor>,
    },
    /// An operator gives dead letters up.
    #[n(8)]
    Discard {
        /// The one, or all.
        #[n(0)]
        which: Option<EventCursor>,
    },
    /// An operator removed the sink for good: its record goes, and its dead letters with it.
    #[n(9)]
    Forget,
}
