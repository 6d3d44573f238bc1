//! The state as a stream of records, and back.
//!
//! A snapshot is a header, then each machine by name (followed by its definitions by version and
//! its instances by name), the version numbers of deleted machines, the recent events, the sinks by
//! name (each followed by its dead letters in order of their events), the callers' keys oldest
//! first, the sessions by id (each followed by its replies by sequence number), and an end record.
//! The first byte of the first record is the format. Equal states write equal records, which is what
//! [`State::hash`] hashes. Derived data is not written but rebuilt: the timers, the index by state and
//! the counts.
//!
//! [`Restore`] does not trust its input: records must be in order and consistent with each other.

mod filling;
mod requests;
mod restore;
mod sinks;
mod write;

use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::codec::{self, Format};
use crate::definition::Definition;
use crate::event::{Event, EventCursor};
use crate::ids::{
    GlobalRevision, IdempotencyKey, InstanceName, MachineName, SinkName, Timestamp, Version,
};
use crate::instance::Instance;
use crate::level::FeatureLevel;
use crate::outcome::Outcome;
use crate::request::SessionId;
use crate::requests::Fingerprint;
use crate::settings::Limits;
use crate::sink::{DeadLetter, SinkCheckpoint};

pub use restore::{Restore, RestoreError};
pub(crate) use write::records;

/// The version of the snapshot records written by this build.
pub const SNAPSHOT_FORMAT: u8 = 4;

/// One record.
#[derive(Debug, Encode, Decode)]
#[allow(clippy::large_enum_variant)] // One at a time is alive.
#[cbor(flat)]
enum Record {
    #[n(0)]
    Header(#[n(0)] Header),
    /// With the highest number ever given to a version.
    #[n(1)]
    Machine(#[n(0)] MachineName, #[n(1)] Version),
    /// Of the machine before it.
    #[n(2)]
    Definition(#[n(0)] Version, #[n(1)] Definition),
    /// A record of the preceding machine.
    #[n(3)]
    Instance(#[n(0)] InstanceName, #[n(1)] Instance),
    /// Since a revision, with its highest version.
    #[n(4)]
    Retired(#[n(0)] MachineName, #[n(1)] GlobalRevision, #[n(2)] Version),
    #[n(5)]
    Event(#[cbor(n(0), with = "crate::codec::shared")] Arc<Event>),
    #[n(6)]
    Sink {
        #[n(0)]
        name: SinkName,
        #[n(1)]
        term: u64,
        #[n(2)]
        checkpoint: Option<SinkCheckpoint>,
        #[n(3)]
        seeds_asked: u64,
        #[n(4)]
        seeds_done: u64,
    },
    /// A record of the preceding sink.
    #[n(7)]
    DeadLetter(#[n(0)] DeadLetter),
    #[n(8)]
    Key {
        #[n(0)]
        key: IdempotencyKey,
        #[n(1)]
        fingerprint: Fingerprint,
        #[n(2)]
        stored_at: Timestamp,
        #[n(3)]
        revision: GlobalRevision,
        #[cbor(n(4), with = "crate::codec::shared")]
        outcome: Arc<Outcome>,
    },
    #[n(9)]
    Session {
        #[n(0)]
        id: SessionId,
        #[n(1)]
        answered_below: u64,
        #[n(2)]
        last_used: u64,
        #[n(3)]
        replies: u64,
    },
    #[n(10)]
    Reply {
        #[n(0)]
        session: SessionId,
        #[n(1)]
        sequence: u64,
        #[n(2)]
        replayed: bool,
        #[n(3)]
        revision: GlobalRevision,
        #[cbor(n(4), with = "crate::codec::shared")]
        outcome: Arc<Outcome>,
    },
    #[n(11)]
    End,
}

impl Record {
    /// The position of its kind in the order of the records; those of one machine, sink or session alternate.
    fn rank(&self) -> u8 {
        match self {
            Record::Machine(..) | Record::Definition(..) | Record::Instance(..) => 0,
            Record::Retired(..) => 1,
            Record::Event(_) => 2,
            Record::Sink { .. } | Record::DeadLetter(_) => 3,
            Record::Key { .. } => 4,
            Record::Session { .. } | Record::Reply { .. } => 5,
            Record::Header(_) | Record::End => 6,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Header {
    #[n(0)]
    clock: Timestamp,
    #[n(1)]
    revision: GlobalRevision,
    #[n(2)]
    limits: Limits,
    #[n(3)]
    session_uses: u64,
    #[n(4)]
    versions_floor: Version,
    #[n(5)]
    events_gone: EventCursor,
    #[n(6)]
    counts: Counts,
    /// None for the first level, which has the same bytes as in builds without levels.
    #[n(7)]
    level: Option<FeatureLevel>,
}

/// How many records of each kind follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
struct Counts {
    #[n(0)]
    machines: u64,
    #[n(1)]
    definitions: u64,
    #[n(2)]
    instances: u64,
    #[n(3)]
    retired: u64,
    #[n(4)]
    events: u64,
    #[n(5)]
    sinks: u64,
    #[n(6)]
    dead_letters: u64,
    #[n(7)]
    keys: u64,
    #[n(8)]
    sessions: u64,
}

/// The form of a snapshot's first record, and with it of all.
const FORMAT: Format = Format::new("snapshot", SNAPSHOT_FORMAT);

fn encode(record: &Record) -> Vec<u8> {
    match record {
        Record::Header(_) => FORMAT.encode(record),
        _ => codec::encode(record),
    }
}

#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod tests;
