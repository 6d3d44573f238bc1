//! What a sink is doing, for people.

use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, Timestamp};

/// A sink, as the node that was asked sees it: where it is and how it fares is known where it runs, on
/// the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `postgres`, `mongo` or `webhook`.
    pub kind: &'static str,
    /// Where it writes, without secrets.
    pub address: String,
    /// What it follows: `machine` or `machine/prefix`; everything if empty.
    pub follows: Vec<String>,
    /// What it is doing.
    pub phase: Phase,
    /// Why it is not following, in a sentence.
    pub reason: Option<String>,
    /// Since when it has been doing that, in wall-clock time.
    pub since: Timestamp,
    /// The last event that the far side took care of.
    pub cursor: Option<EventCursor>,
    /// The revision at which the current states were last written as a whole.
    pub seeded: Option<GlobalRevision>,
    /// Events behind its place, of those that are kept.
    pub lag_events: u64,
    /// How old the oldest of them is.
    pub lag: Duration,
    /// Events written since it began to run here.
    pub events: u64,
    /// Errors since it began to run here.
    pub errors: u64,
    /// Events put aside.
    pub dead_letters: u64,
    /// When it last wrote something, in wall-clock time.
    pub written_at: Option<Timestamp>,
}

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Another node leads, and runs it.
    Elsewhere,
    /// Its host has no address, and it is optional.
    Absent,
    /// It is connecting.
    Opening,
    /// It writes the current states as a whole.
    Seeding {
        /// Instances written.
        done: u64,
        /// Instances there are.
        total: u64,
    },
    /// It follows.
    Following,
    /// The far side cannot be reached or is not able; it is tried again by itself.
    Retrying,
    /// The far side will not have us; it is tried again, and somebody must mend that.
    Failing,
    /// There is no room for another event put aside: somebody must replay or discard some.
    Halted,
}

impl Phase {
    /// Its name on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Elsewhere => "elsewhere",
            Phase::Absent => "absent",
            Phase::Opening => "opening",
            Phase::Seeding { .. } => "seeding",
            Phase::Following => "following",
            Phase::Retrying => "retrying",
            Phase::Failing => "failing",
            Phase::Halted => "halted",
        }
    }
}
