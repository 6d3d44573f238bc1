//! Writes a state as records.

use super::{Counts, Header, Record, encode};
use crate::ids::{MachineName, SinkName};
use crate::level::FeatureLevel;
use crate::requests::{Keys, Sessions, StoredReply};
use crate::sink::SinkRecord;
use crate::state::State;
use crate::world::{Machine, World};

/// Writes the records one by one; holds the state, which shares its structure, until the last.
pub(crate) fn records(state: State) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let header = Record::Header(Header::of(&state));
    let World {
        machines,
        retired,
        ring,
        sinks,
        ..
    } = state.world;
    let machines = machines
        .into_iter()
        .flat_map(|(name, it)| machine(name, it));
    let retired = retired
        .machines
        .into_iter()
        .map(|(machine, (since, last))| Record::Retired(machine, since, last));
    let events = ring.events.into_iter().map(Record::Event);
    let sinks = sinks.into_iter().flat_map(|(name, it)| sink(name, it));

    std::iter::once(header)
        .chain(machines)
        .chain(retired)
        .chain(events)
        .chain(sinks)
        .chain(key_records(state.keys))
        .chain(session_records(state.sessions))
        .chain(std::iter::once(Record::End))
        .map(|record| encode(&record))
}

fn machine(name: MachineName, machine: Machine) -> impl Iterator<Item = Record> + Send {
    let head = Record::Machine(name, machine.last_version);
    let versions = machine
        .versions
        .into_iter()
        .map(|(version, pinned)| Record::Definition(version, pinned.compiled.definition.clone()));
    let instances = machine
        .instances
        .into_iter()
        .map(|(name, it)| Record::Instance(name, it));
    std::iter::once(head).chain(versions).chain(instances)
}

fn sink(name: SinkName, record: SinkRecord) -> impl Iterator<Item = Record> + Send {
    let head = Record::Sink {
        name,
        term: record.term,
        checkpoint: record.checkpoint,
        seeds_asked: record.seeds_asked,
        seeds_done: record.seeds_done,
    };
    let letters = record.letters.into_iter();
    std::iter::once(head).chain(letters.map(|(_, letter)| Record::DeadLetter(letter)))
}

fn key_records(keys: Keys) -> impl Iterator<Item = Record> + Send {
    let Keys { first, order, .. } = keys;
    order.into_iter().filter_map(move |key| {
        let it = first.get(&key)?;
        Some(Record::Key {
            key,
            fingerprint: it.fingerprint,
            stored_at: it.stored_at,
            revision: it.revision,
            outcome: it.outcome.clone(),
        })
    })
}

fn session_records(sessions: Sessions) -> impl Iterator<Item = Record> + Send {
    sessions.sessions.into_iter().flat_map(|(id, session)| {
        let head = Record::Session {
            id,
            answered_below: session.answered_below,
            last_used: session.last_used,
            replies: session.replies.len() as u64,
        };
        let reply = move |(sequence, reply): (u64, StoredReply)| Record::Reply {
            session: id,
            sequence,
            replayed: reply.replayed,
            revision: reply.revision,
            outcome: reply.outcome,
        };
        std::iter::once(head).chain(session.replies.into_iter().map(reply))
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
            session_uses: state.sessions.uses,
            versions_floor: world.retired.floor,
            events_gone: world.ring.gone,
            counts: Counts {
                machines: world.machines.len() as u64,
                definitions: versions.sum(),
                instances: world.instances,
                retired: world.retired.machines.len() as u64,
                events: world.ring.events.len() as u64,
                sinks: world.sinks.len() as u64,
                dead_letters: letters.sum(),
                keys: state.keys.order.len() as u64,
                sessions: state.sessions.sessions.len() as u64,
            },
            level: Some(world.level).filter(|level| *level >= FeatureLevel::RECORDED),
        }
    }
}
