//! From a state to its records.

use super::{Counts, Header, Record, encode};
use crate::ids::{MachineName, SinkName};
use crate::requests::{FirstUse, Keys, Session, Sessions, StoredReply};
use crate::sink::SinkRecord;
use crate::state::State;
use crate::world::{Machine, World};

/// Writes the records one by one; holds the state, which shares its structure, until the last.
pub(crate) fn records(state: State) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let header = Record::Header(Header::of(&state));
    let State {
        world,
        keys,
        sessions,
    } = state;
    let World {
        machines,
        retired,
        ring,
        sinks,
        ..
    } = world;

    let machines = machines
        .into_iter()
        .flat_map(|(name, it)| machine(name, it));
    let retired = retired
        .machines
        .into_iter()
        .map(|(machine, (since, last_version))| Record::Retired {
            machine,
            since,
            last_version,
        });
    let events = ring.events().clone().into_iter().map(Record::Event);
    let sinks = sinks.into_iter().flat_map(|(name, it)| sink(name, it));

    std::iter::once(header)
        .chain(machines)
        .chain(retired)
        .chain(events)
        .chain(sinks)
        .chain(key_records(keys))
        .chain(session_records(sessions))
        .chain(std::iter::once(Record::End))
        .map(|record| encode(&record))
}

fn machine(name: MachineName, machine: Machine) -> impl Iterator<Item = Record> + Send {
    let Machine {
        versions,
        last_version,
        instances,
        ..
    } = machine;
    let versions = versions
        .into_iter()
        .map(|(version, pinned)| Record::Definition(version, pinned.compiled.definition().clone()));
    let instances = instances
        .into_iter()
        .map(|(name, it)| Record::Instance(name, it));
    let head = Record::Machine { name, last_version };
    std::iter::once(head).chain(versions).chain(instances)
}

fn sink(name: SinkName, record: SinkRecord) -> impl Iterator<Item = Record> + Send {
    let SinkRecord {
        term,
        checkpoint,
        seeds_asked,
        seeds_done,
        letters,
    } = record;
    let head = Record::Sink {
        name,
        term,
        checkpoint,
        seeds_asked,
        seeds_done,
    };
    let letters = letters
        .into_iter()
        .map(|(_, letter)| Record::DeadLetter(letter));
    std::iter::once(head).chain(letters)
}

fn key_records(keys: Keys) -> impl Iterator<Item = Record> + Send {
    let order = keys.order().clone();
    order.into_iter().filter_map(move |key| {
        let first = keys.get(&key)?.clone();
        let FirstUse {
            fingerprint,
            outcome,
            stored_at,
            revision,
        } = first;
        Some(Record::Key {
            key,
            fingerprint,
            stored_at,
            revision,
            outcome,
        })
    })
}

fn session_records(sessions: Sessions) -> impl Iterator<Item = Record> + Send {
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
            let count = replies.len() as u64;
            let head = Record::Session {
                id,
                answered_below,
                last_used,
                replies: count,
            };
            let replies = replies.into_iter().map(move |(sequence, reply)| {
                let StoredReply {
                    outcome,
                    replayed,
                    revision,
                } = reply;
                Record::Reply {
                    session: id,
                    sequence,
                    replayed,
                    revision,
                    outcome,
                }
            });
            std::iter::once(head).chain(replies)
        })
}

impl Header {
    pub(super) fn of(state: &State) -> Self {
        let world = &state.world;
        let versions = world.machines.values().map(|it| it.versions.len() as u64);
        let letters = world.sinks.values().map(|it| it.letters.len() as u64);
        Self {
            clock: world.clock,
            revision: world.revision,
            limits: world.limits,
            session_uses: state.sessions.uses(),
            versions_floor: world.retired.floor,
            events_gone: world.ring.gone(),
            counts: Counts {
                machines: world.machines.len() as u64,
                definitions: versions.sum(),
                instances: world.instances,
                retired: world.retired.machines.len() as u64,
                events: world.ring.events().len() as u64,
                sinks: world.sinks.len() as u64,
                dead_letters: letters.sum(),
                keys: state.keys.len() as u64,
                sessions: state.sessions.table().len() as u64,
            },
        }
    }
}
