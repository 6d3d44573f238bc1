//! The state as a stream of records, and back.
//!
//! A snapshot is a header, then the definitions by name and version, the instances by id, the
//! callers' keys oldest first, the sessions by id (each followed by its replies by sequence
//! number), and an end mark. Each record is one [`Record`] in postcard form. Equal states write
//! equal records, which is what [`State::hash`] compares.
//!
//! [`Restore`] trusts nothing: a record must be exactly what this build would write, stand where
//! it belongs, and agree with the others. So a restored state writes the records it was read from.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::command::{IdempotencyKey, SessionId};
use crate::definition::{Compiled, Definition};
use crate::ids::{InstanceId, Timestamp, Version};
use crate::instance::Instance;
use crate::outcome::Outcome;
use crate::requests::{Fingerprint, FirstUse, Keys, Session, Sessions, StoredReply};
use crate::state::{Limits, State};

/// The version of the snapshot records written by this build.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot was written in a format this build does not know.
    #[error("snapshot format {found} is not supported; this build reads format {SNAPSHOT_FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
    /// A record does not decode or contradicts another one.
    #[error("snapshot record {record} is damaged: {reason}")]
    Record {
        /// The record's number, from 0.
        record: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The records end too early.
    #[error("the snapshot ends after {records} records, before its end mark")]
    Truncated {
        /// How many records there were.
        records: u64,
    },
}

/// One record. The order of the variants, and of their fields, is the format.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    /// Format first: it must be readable whatever follows.
    Header(u32, Header),
    Definition(Version, Definition),
    Instance(InstanceId, Instance),
    Key {
        key: IdempotencyKey,
        fingerprint: u128,
        stored_at: Timestamp,
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
        outcome: Arc<Outcome>,
    },
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    clock: Timestamp,
    limits: Limits,
    session_uses: u64,
    counts: Counts,
}

/// How many records of each kind follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    definitions: u64,
    instances: u64,
    keys: u64,
    sessions: u64,
}

fn encode(record: &Record) -> Vec<u8> {
    postcard::to_stdvec(record)
        .expect("postcard writes every derived type of known length to memory")
}

/// Writes the records one by one; holds the state, which shares its structure, until the last.
pub(crate) fn records(state: State) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let header = Record::Header(SNAPSHOT_FORMAT, Header::of(&state));
    let State {
        definitions,
        instances,
        keys,
        sessions,
        ..
    } = state;

    let definitions = definitions.into_iter().flat_map(|(_, versions)| {
        let one = |(version, compiled): (_, Arc<Compiled>)| {
            Record::Definition(version, compiled.definition().clone())
        };
        versions.into_iter().map(one)
    });
    let instances = instances
        .into_iter()
        .map(|(id, instance)| Record::Instance(id, instance));
    let order = keys.order().clone();
    let keys = order.into_iter().filter_map(move |key| {
        let FirstUse {
            fingerprint,
            outcome,
            stored_at,
        } = keys.get(&key)?.clone();
        Some(Record::Key {
            key,
            fingerprint: fingerprint.0,
            stored_at,
            outcome,
        })
    });
    let sessions =
        sessions
            .table()
            .clone()
            .into_iter()
            .flat_map(|(id, session)| {
                let Session {
                    answered_below,
                    last_used,
                    replies,
                } = session;
                let head = Record::Session {
                    id,
                    answered_below,
                    last_used,
                    replies: replies.len() as u64,
                };
                let replies = replies.into_iter().map(
                    move |(sequence, StoredReply { outcome, replayed })| Record::Reply {
                        session: id,
                        sequence,
                        replayed,
                        outcome,
                    },
                );
                std::iter::once(head).chain(replies)
            });

    std::iter::once(header)
        .chain(definitions)
        .chain(instances)
        .chain(keys)
        .chain(sessions)
        .chain(std::iter::once(Record::End))
        .map(|record| encode(&record))
}

impl Header {
    fn of(state: &State) -> Self {
        Self {
            clock: state.clock,
            limits: state.limits,
            session_uses: state.sessions.uses(),
            counts: Counts {
                definitions: state
                    .definitions
                    .values()
                    .map(|versions| versions.len() as u64)
                    .sum(),
                instances: state.instances.len() as u64,
                keys: state.keys.len() as u64,
                sessions: state.sessions.table().len() as u64,
            },
        }
    }
}

/// Rebuilds a [`State`] from the records of [`State::records`].
///
/// After an error it must be dropped: it accepts nothing more and never finishes.
#[derive(Debug)]
pub struct Restore {
    records: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Empty,
    Filling(Box<Filling>),
    Complete(Box<State>),
    Failed,
}

impl Restore {
    /// Starts from nothing.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            records: 0,
            stage: Stage::Empty,
        }
    }

    /// Takes the next record in.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Format`] if another build's format, [`RestoreError::Record`] with the
    /// record's number if it is damaged, out of place, or contradicts an earlier one.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        self.stage = stage.push(record).map_err(|fault| match fault {
            Fault::Format(found) => RestoreError::Format { found },
            Fault::Damaged(reason) => RestoreError::Record {
                record: self.records,
                reason,
            },
        })?;
        self.records += 1;
        Ok(())
    }

    /// The state, once every record is in.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Truncated`] if the end mark is missing, or an earlier record was refused.
    pub fn finish(self) -> Result<State, RestoreError> {
        match self.stage {
            Stage::Complete(state) => Ok(*state),
            _ => Err(RestoreError::Truncated {
                records: self.records,
            }),
        }
    }
}

enum Fault {
    Format(u32),
    Damaged(String),
}

impl<T: Into<String>> From<T> for Fault {
    fn from(reason: T) -> Self {
        Fault::Damaged(reason.into())
    }
}

/// Refuses the record unless something holds.
fn ensure(holds: bool, reason: &str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(reason.into()) }
}

fn decode(bytes: &[u8]) -> Result<Record, Fault> {
    let record: Record = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
    // Also refuses bytes left over, and numbers written longer than they need to be.
    ensure(
        encode(&record) == bytes,
        "it is not written as this build would write it",
    )?;
    Ok(record)
}

fn decode_header(bytes: &[u8]) -> Result<Header, Fault> {
    let (tag, rest) = postcard::take_from_bytes::<u32>(bytes).map_err(|error| error.to_string())?;
    ensure(tag == 0, "the first record must be the header")?;
    let (format, _) = postcard::take_from_bytes::<u32>(rest).map_err(|error| error.to_string())?;
    if format != SNAPSHOT_FORMAT {
        return Err(Fault::Format(format));
    }
    match decode(bytes)? {
        Record::Header(_, header) => Ok(header),
        _ => Err("the first record must be the header".into()),
    }
}

impl Stage {
    fn push(self, record: &[u8]) -> Result<Self, Fault> {
        match self {
            Stage::Empty => Ok(Stage::Filling(Box::new(Filling::new(decode_header(
                record,
            )?)))),
            Stage::Filling(mut filling) => match decode(record)? {
                Record::End => Ok(Stage::Complete(Box::new(filling.complete()?))),
                record => filling.push(record).map(|()| Stage::Filling(filling)),
            },
            Stage::Complete(_) => Err("there are records after the end mark".into()),
            Stage::Failed => Err("an earlier record was refused".into()),
        }
    }
}

/// A state that is being put together.
#[derive(Debug)]
struct Filling {
    header: Header,
    seen: Counts,
    state: State,
    sessions: OrdMap<SessionId, Session>,
    last_uses: BTreeSet<u64>,
    /// The session whose replies come next, and how many are left.
    open: Option<(SessionId, u64)>,
}

impl Filling {
    fn new(header: Header) -> Self {
        let state = State {
            limits: header.limits,
            clock: header.clock,
            definitions: OrdMap::new(),
            instances: OrdMap::new(),
            keys: Keys::default(),
            sessions: Sessions::default(),
        };
        Self {
            header,
            seen: Counts::default(),
            state,
            sessions: OrdMap::new(),
            last_uses: BTreeSet::new(),
            open: None,
        }
    }

    fn push(&mut self, record: Record) -> Result<(), Fault> {
        if let Record::Reply {
            session,
            sequence,
            replayed,
            outcome,
        } = record
        {
            return self.reply(session, sequence, StoredReply { outcome, replayed });
        }
        ensure(
            self.open.is_none(),
            "replies of the session before it are missing",
        )?;
        match record {
            Record::Definition(version, definition) => self.definition(version, definition),
            Record::Instance(id, instance) => self.instance(id, instance),
            Record::Key {
                key,
                fingerprint,
                stored_at,
                outcome,
            } => {
                let fingerprint = Fingerprint(fingerprint);
                self.key(
                    key,
                    FirstUse {
                        fingerprint,
                        outcome,
                        stored_at,
                    },
                )
            }
            Record::Session {
                id,
                answered_below,
                last_used,
                replies,
            } => {
                let session = Session {
                    answered_below,
                    last_used,
                    replies: OrdMap::new(),
                };
                self.session(id, session, replies)
            }
            Record::Header(..) => Err("there is a second header".into()),
            Record::Reply { .. } | Record::End => Err("it is out of place".into()),
        }
    }

    fn definition(&mut self, version: Version, definition: Definition) -> Result<(), Fault> {
        ensure(
            self.seen.instances + self.seen.keys + self.seen.sessions == 0,
            OUT_OF_ORDER,
        )?;
        ensure(version.0 > 0, "versions start at 1")?;
        if let Some((name, versions)) = self.state.definitions.get_max() {
            let last = (name, versions.get_max().map(|(version, _)| *version));
            ensure((&definition.name, Some(version)) > last, OUT_OF_ORDER)?;
        }
        let name = definition.name.clone();
        let compiled = Compiled::new(definition).map_err(|invalid| invalid.to_string())?;
        let versions = self.state.definitions.entry(name).or_default();
        versions.insert(version, Arc::new(compiled));
        self.seen.definitions += 1;
        Ok(())
    }

    fn instance(&mut self, id: InstanceId, instance: Instance) -> Result<(), Fault> {
        ensure(self.seen.keys + self.seen.sessions == 0, OUT_OF_ORDER)?;
        let last = self.state.instances.get_max();
        ensure(last.is_none_or(|(last, _)| *last < id), OUT_OF_ORDER)?;
        let version = instance.version;
        let Some(compiled) = self.state.compiled(&id.machine, version) else {
            return Err(
                format!("instance {id} is of version {version}, which is not defined").into(),
            );
        };
        if compiled.exits(&instance.state).is_none() {
            return Err(format!(
                "instance {id} is in state {:?}, which is not defined",
                instance.state
            )
            .into());
        }
        let in_order =
            instance.created_at <= instance.changed_at && instance.changed_at <= self.header.clock;
        ensure(in_order, "the instance's times are not in order")?;
        self.state.instances.insert(id, instance);
        self.seen.instances += 1;
        Ok(())
    }

    fn key(&mut self, key: IdempotencyKey, first: FirstUse) -> Result<(), Fault> {
        ensure(self.seen.sessions == 0, OUT_OF_ORDER)?;
        ensure(
            self.state.keys.get(&key).is_none(),
            "the key is stored twice",
        )?;
        ensure(
            first.stored_at <= self.header.clock,
            "the key was stored in the future",
        )?;
        let last = self
            .state
            .keys
            .order()
            .last()
            .and_then(|last| self.state.keys.get(last));
        ensure(
            last.is_none_or(|last| last.stored_at <= first.stored_at),
            OUT_OF_ORDER,
        )?;
        self.seen.keys += 1;
        ensure(
            self.seen.keys <= self.header.limits.keys_max,
            "there are more keys than the limit",
        )?;
        self.state
            .keys
            .store(key, first, self.header.limits.keys_max);
        Ok(())
    }

    fn session(&mut self, id: SessionId, session: Session, replies: u64) -> Result<(), Fault> {
        let last = self.sessions.get_max();
        ensure(last.is_none_or(|(last, _)| *last < id), OUT_OF_ORDER)?;
        ensure(
            session.last_used <= self.header.session_uses,
            "the session was used in the future",
        )?;
        ensure(
            self.last_uses.insert(session.last_used),
            "two sessions were used at once",
        )?;
        self.seen.sessions += 1;
        let max = self.header.limits.sessions_max.max(1);
        ensure(
            self.seen.sessions <= max,
            "there are more sessions than the limit",
        )?;
        self.sessions.insert(id, session);
        self.open = (replies > 0).then_some((id, replies));
        Ok(())
    }

    fn reply(&mut self, id: SessionId, sequence: u64, reply: StoredReply) -> Result<(), Fault> {
        let Some((open, left)) = self.open.filter(|(open, _)| *open == id) else {
            return Err("the reply does not belong to the session before it".into());
        };
        let Some(session) = self.sessions.get_mut(&open) else {
            return Err("the reply has no session".into());
        };
        ensure(
            sequence >= session.answered_below,
            "the reply should be forgotten",
        )?;
        let last = session.replies.get_max();
        ensure(last.is_none_or(|(last, _)| *last < sequence), OUT_OF_ORDER)?;
        session.replies.insert(sequence, reply);
        self.open = (left > 1).then_some((open, left - 1));
        Ok(())
    }

    fn complete(self) -> Result<State, Fault> {
        ensure(
            self.open.is_none(),
            "replies of the last session are missing",
        )?;
        ensure(
            self.seen == self.header.counts,
            "the header counts other records than there are",
        )?;
        let sessions = Sessions::restore(self.sessions, self.header.session_uses);
        Ok(State {
            sessions,
            ..self.state
        })
    }
}

const OUT_OF_ORDER: &str = "it is out of order";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Batch, Command, Origin, Request, Transition, Trigger};
    use crate::ids::StateName;

    /// A state with something in every table.
    fn state() -> State {
        let mut state = State::new(Limits {
            keys_max: 2,
            key_retention_ms: 1000,
            sessions_max: 2,
        });
        for (sequence, (to, key)) in [
            ("second", Some("k1")),
            ("first", Some("k2")),
            ("third", None),
        ]
        .into_iter()
        .enumerate()
        {
            let request = |session| Request {
                origin: Origin {
                    session: SessionId(session),
                    sequence: sequence as u64 + 1,
                    answered_below: 1,
                },
                key: key.map(|key| IdempotencyKey::new(key).unwrap()),
                command: Command::Transition(Transition {
                    instance: InstanceId::new("triad", "default").unwrap(),
                    trigger: Trigger::To(StateName::new(to).unwrap()),
                    expect_state: None,
                    expect_revision: None,
                }),
            };
            let stamp = Timestamp(100 + sequence as u64);
            state.apply(&Batch {
                stamp,
                requests: vec![request(1), request(2)],
            });
        }
        state
    }

    fn restore(records: &[Vec<u8>]) -> Result<State, RestoreError> {
        let mut restore = Restore::new();
        for record in records {
            restore.push(record)?;
        }
        restore.finish()
    }

    /// What a snapshot is refused for after `damage`: the record's number and the reason.
    fn fault(damage: impl Fn(&mut Vec<Record>)) -> (u64, String) {
        let mut records = state()
            .records()
            .map(|it| postcard::from_bytes(&it).unwrap())
            .collect();
        damage(&mut records);
        let records: Vec<_> = records.iter().map(encode).collect();
        match restore(&records) {
            Err(RestoreError::Record { record, reason }) => (record, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_restored_state_writes_the_records_it_was_read_from() {
        for state in [State::default(), state()] {
            let records: Vec<_> = state.records().collect();
            let restored = restore(&records).unwrap();
            assert_eq!(restored.records().collect::<Vec<_>>(), records);
            assert_eq!(restored.hash(), state.hash());
            assert_eq!(restored.limits(), state.limits());
        }
    }

    #[test]
    fn the_first_state_has_the_hash_it_always_had() {
        // Changes only together with SNAPSHOT_FORMAT: nodes of two builds compare these.
        assert_eq!(
            State::default().hash().to_string(),
            "ae4aa37df6a6a85e8d2a1133530d1a3d"
        );
    }

    #[test]
    fn a_snapshot_cut_short_is_truncated_wherever_it_ends() {
        let records: Vec<_> = state().records().collect();
        for end in 0..records.len() {
            match restore(&records[..end]) {
                Err(RestoreError::Truncated { records }) => assert_eq!(records, end as u64),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_record_cut_short_or_lengthened_is_refused() {
        let records: Vec<_> = state().records().collect();
        for (at, record) in records.iter().enumerate() {
            for end in 0..record.len() {
                let mut records = records.clone();
                records[at].truncate(end);
                assert!(restore(&records).is_err(), "record {at} cut at {end}");
            }
            let mut records = records.clone();
            records[at].push(0);
            assert!(restore(&records).is_err(), "record {at} lengthened");
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_gives_the_state_it_spells() {
        let records: Vec<_> = state().records().collect();
        for at in 0..records.len() {
            for bit in 0..records[at].len() * 8 {
                let mut records = records.clone();
                records[at][bit / 8] ^= 1 << (bit % 8);
                if let Ok(mut state) = restore(&records) {
                    assert_eq!(state.records().collect::<Vec<_>>(), records);
                    state.apply(&Batch {
                        stamp: Timestamp(u64::MAX),
                        requests: vec![],
                    });
                }
            }
        }
    }

    #[test]
    fn another_builds_format_is_told_whatever_follows_it() {
        let record = postcard::to_stdvec(&(0u8, 7u32, "something else")).unwrap();
        match restore(&[record]) {
            Err(RestoreError::Format { found: 7 }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_accepted_after_a_fault_or_after_the_end() {
        let records: Vec<_> = state().records().collect();
        let mut restore = Restore::new();
        assert!(restore.push(&[]).is_err());
        assert!(restore.push(&records[0]).is_err());
        assert!(matches!(
            restore.finish(),
            Err(RestoreError::Truncated { records: 0 })
        ));

        let mut restore = Restore::new();
        records
            .iter()
            .for_each(|record| restore.push(record).unwrap());
        assert!(restore.push(records.last().unwrap()).is_err());
        assert!(restore.finish().is_err());
    }

    type Damage<'a> = &'a dyn Fn(&mut Vec<Record>);

    // The records: 0 header, 1 definition, 2 instance, 3 and 4 keys, 5 session with 3 replies,
    // 9 session with 3 replies, 13 end.
    #[test]
    fn a_record_that_contradicts_another_is_refused_by_number() {
        let cases: [(u64, &str, Damage); 16] = [
            (0, "the first record must be the header", &|it| {
                drop(it.remove(0))
            }),
            (1, "there is a second header", &|it| {
                it.insert(1, Record::Header(1, Header::of(&state())))
            }),
            (1, "is of version 1, which is not defined", &|it| {
                drop(it.remove(1))
            }),
            (2, "it is out of order", &|it| it.insert(2, clone(&it[1]))),
            (3, "it is out of order", &|it| it.insert(3, clone(&it[2]))),
            (4, "the key is stored twice", &|it| it[4] = clone(&it[3])),
            (4, "it is out of order", &|it| it.swap(3, 4)),
            (3, "it is out of order", &|it| it.swap(2, 3)),
            (6, "the reply does not belong", &|it| it.swap(6, 10)),
            (7, "it is out of order", &|it| it.swap(6, 7)),
            (8, "replies of the session before it are missing", &|it| {
                drop(it.remove(8))
            }),
            (12, "replies of the last session are missing", &|it| {
                drop(it.remove(12))
            }),
            (3, "header counts other records", &|it| {
                drop(it.drain(3..13))
            }),
            (13, "there are more sessions", &|it| {
                it.insert(
                    13,
                    Record::Session {
                        id: SessionId(9),
                        answered_below: 1,
                        last_used: 1,
                        replies: 0,
                    },
                )
            }),
            (2, "which is not defined", &|it| {
                if let Record::Instance(_, instance) = &mut it[2] {
                    instance.state = StateName::new("fourth").unwrap();
                }
            }),
            (1, "initial: \"fourth\" is not one of", &|it| {
                if let Record::Definition(_, definition) = &mut it[1] {
                    definition.initial = StateName::new("fourth").unwrap();
                }
            }),
        ];
        for (record, reason, damage) in cases {
            let (at, why) = fault(damage);
            assert!(
                at == record && why.contains(reason),
                "{record}: {reason} -- got {at}: {why}"
            );
        }
    }

    fn clone(record: &Record) -> Record {
        postcard::from_bytes(&encode(record)).unwrap()
    }
}
