//! The state as a stream of records, and back.
//!
//! A snapshot is a header, then each machine by name (followed by its definitions by version and
//! its instances by name), the version numbers of deleted machines, the recent events, the sinks by
//! name (each followed by its dead letters in order of their events), the callers' keys oldest
//! first, the sessions by id (each followed by its replies by sequence number), and an end mark.
//! Each record is one [`Record`] in postcard form. Equal states write equal records, which is what
//! [`State::hash`] compares. What follows from the rest is not written but rebuilt: the timers, the
//! index by state, the counts.
//!
//! [`Restore`] trusts nothing: a record must be exactly what this build would write, stand where
//! it belongs, and agree with the others. So a restored state writes the records it was read from.

mod filling;
mod requests;
mod restore;
mod sinks;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{IdempotencyKey, SessionId};
use crate::definition::Definition;
use crate::event::{Event, EventCursor};
use crate::ids::{GlobalRevision, InstanceName, MachineName, SinkName, Timestamp, Version};
use crate::instance::Instance;
use crate::limits::Limits;
use crate::outcome::Outcome;
use crate::sink::{DeadLetter, SinkCheckpoint};

pub use restore::{Restore, RestoreError};
pub(crate) use write::records;

/// The version of the snapshot records written by this build.
pub const SNAPSHOT_FORMAT: u32 = 3;

/// One record. The order of the variants, and of their fields, is the format.
#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // One at a time is alive.
enum Record {
    /// Format first: it must be readable whatever follows.
    Header(u32, Header),
    Machine {
        name: MachineName,
        last_version: Version,
    },
    /// Of the machine before it.
    Definition(Version, Definition),
    /// Of the machine before it.
    Instance(InstanceName, Instance),
    Retired {
        machine: MachineName,
        since: GlobalRevision,
        last_version: Version,
    },
    Event(Arc<Event>),
    Sink {
        name: SinkName,
        term: u64,
        checkpoint: Option<SinkCheckpoint>,
        seeds_asked: u64,
        seeds_done: u64,
    },
    /// Of the sink before it.
    DeadLetter(DeadLetter),
    Key {
        key: IdempotencyKey,
        fingerprint: u128,
        stored_at: Timestamp,
        revision: GlobalRevision,
        outcome: Arc<Outcome>,
    },
    Session {
        id: SessionId,
        answered_below: u64,
        last_used: u64,
        replies: u64,
    },
    Reply {
        session: SessionId,
        sequence: u64,
        replayed: bool,
        revision: GlobalRevision,
        outcome: Arc<Outcome>,
    },
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    clock: Timestamp,
    revision: GlobalRevision,
    limits: Limits,
    session_uses: u64,
    versions_floor: Version,
    events_gone: EventCursor,
    counts: Counts,
}

/// How many records of each kind follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    machines: u64,
    definitions: u64,
    instances: u64,
    retired: u64,
    events: u64,
    sinks: u64,
    dead_letters: u64,
    keys: u64,
    sessions: u64,
}

fn encode(record: &Record) -> Vec<u8> {
    crate::encoded::bytes(record)
}

#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod tests;
