//! The status of a sink.

use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, Timestamp};

/// A sink as this node sees it. Its progress is known only to the node that runs it, the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `postgres`, `mongo` or `webhook`.
    pub kind: &'static str,
    /// The destination's address, without secrets.
    pub address: String,
    /// What it follows: `machine` or `machine/prefix`; everything if empty.
    pub follows: Vec<String>,
    /// What it is doing.
    pub phase: Phase,
    /// Why it is not following.
    pub reason: Option<String>,
    /// Start of this phase, by the node's clock.
    pub since: Timestamp,
    /// The last event that was delivered or skipped.
    pub cursor: Option<EventCursor>,
    /// The revision of the last backfill.
    pub seeded: Option<GlobalRevision>,
    /// Kept events after `cursor`.
    pub lag_events: u64,
    /// Age of the oldest of them.
    pub lag: Duration,
    /// Events delivered since it started on this node.
    pub events: u64,
    /// Errors since it started on this node.
    pub errors: u64,
    /// Its dead letters.
    pub dead_letters: u64,
    /// The last write, by the node's clock.
    pub written_at: Option<Timestamp>,
}

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Another node leads and runs it.
    Elsewhere,
    /// It is optional, and its host name does not resolve.
    Absent,
    /// It is connecting.
    Opening,
    /// It writes all current states.
    Backfilling {
        /// Instances written.
        done: u64,
        /// Instances in all.
        total: u64,
    },
    /// It delivers events.
    Following,
    /// The destination is unavailable; the sink retries.
    Retrying,
    /// The destination rejects the sink, which keeps retrying; an operator must fix it.
    Failing,
    /// There is no room for another dead letter: an operator must replay or discard some.
    Halted,
}

impl Phase {
    /// Its name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Elsewhere => "elsewhere",
            Phase::Absent => "absent",
            Phase::Opening => "opening",
            Phase::Backfilling { .. } => "seeding",
            Phase::Following => "following",
            Phase::Retrying => "retrying",
            Phase::Failing => "failing",
            Phase::Halted => "halted",
        }
    }
}
