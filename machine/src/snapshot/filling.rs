//! A state that is being restored from records; each record is checked against those before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::restore::{damaged, ensure};
use super::{Header, Record};
use crate::codec::CodecError;
use crate::definition::{Compiled, Definition};
use crate::event::{Event, EventKind, Ring};
use crate::ids::{GlobalRevision, InstanceId, InstanceName, MachineName, Version};
use crate::instance::{History, Instance};
use crate::request::SessionId;
use crate::requests::{FirstUse, Keys, Session, Sessions, StoredReply};
use crate::sink::SinkRecord;
use crate::state::State;
use crate::world::{Machine, Pinned, RETIRED_MAX, Retired, World};

/// A state that is being put together.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) header: Header,
    /// The [`Record::rank`] of the last one.
    rank: u8,
    pub(super) world: World,
    pub(super) keys: Keys,
    pub(super) sessions: Sessions,
    pub(super) last_uses: BTreeSet<u64>,
    /// The session whose replies come next, and how many are left.
    pub(super) open: Option<(SessionId, u64)>,
}

pub(super) const OUT_OF_ORDER: &str = "it is out of order";

/// Fails unless the key is greater than all keys so far.
pub(super) fn ensure_last<K: Ord + Clone, V: Clone>(
    map: &OrdMap<K, V>,
    key: &K,
) -> Result<(), CodecError> {
    let last = map.get_max();
    ensure(last.is_none_or(|(last, _)| last < key), OUT_OF_ORDER)
}

impl Filling {
    pub(super) fn new(header: Header) -> Self {
        let world = World {
            level: header.level.unwrap_or_default(),
            limits: header.limits,
            clock: header.clock,
            revision: header.revision,
            retired: Retired {
                floor: header.versions_floor,
                ..Retired::default()
            },
            ring: Ring::behind(header.events_gone),
            ..World::default()
        };
        let sessions = Sessions {
            uses: header.session_uses,
            ..Sessions::default()
        };
        Self {
            header,
            rank: 0,
            world,
            keys: Keys::default(),
            sessions,
            last_uses: BTreeSet::new(),
            open: None,
        }
    }

    pub(super) fn push(&mut self, record: Record) -> Result<(), CodecError> {
        ensure(
            self.open.is_none() || matches!(record, Record::Reply { .. }),
            "replies of the session before it are missing",
        )?;
        ensure(record.rank() >= self.rank, OUT_OF_ORDER)?;
        self.rank = record.rank();
        match record {
            Record::Machine(name, last_version) => self.machine(name, last_version),
            Record::Definition(version, definition) => self.definition(version, definition),
            Record::Instance(name, instance) => self.instance(name, instance),
            Record::Retired(machine, since, last) => self.retired(machine, since, last),
            Record::Event(event) => self.event(event),
            Record::Sink {
                name,
                term,
                checkpoint,
                seeds_asked,
                seeds_done,
            } => {
                let record = SinkRecord {
                    term,
                    checkpoint,
                    seeds_asked,
                    seeds_done,
                    letters: OrdMap::new(),
                };
                self.sink(name, record)
            }
            Record::DeadLetter(letter) => self.dead_letter(letter),
            Record::Key {
                key,
                fingerprint,
                stored_at,
                revision,
                outcome,
            } => self.key(
                key,
                FirstUse {
                    fingerprint,
                    outcome,
                    stored_at,
                    revision,
                },
            ),
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
            Record::Reply {
                session,
                sequence,
                replayed,
                revision,
                outcome,
            } => {
                let reply = StoredReply {
                    outcome,
                    replayed,
                    revision,
                };
                self.reply(session, sequence, reply)
            }
            Record::Header(..) => Err(damaged("there is a second header")),
            Record::End => Err(damaged("it is not allowed here")),
        }
    }

    /// The machine whose records are being read, which must have a definition unless they begin.
    fn last_machine(&mut self) -> Option<(MachineName, &mut Machine)> {
        let name = self.world.machines.get_max()?.0.clone();
        let machine = self.world.machines.get_mut(&name)?;
        Some((name, machine))
    }

    fn ensure_machine_is_defined(&mut self) -> Result<(), CodecError> {
        let defined = self
            .last_machine()
            .is_none_or(|(_, it)| !it.versions.is_empty());
        ensure(defined, "the machine before it has no definition")
    }

    fn machine(&mut self, name: MachineName, last_version: Version) -> Result<(), CodecError> {
        self.ensure_machine_is_defined()?;
        ensure_last(&self.world.machines, &name)?;
        let machine = Machine {
            last_version,
            ..Machine::default()
        };
        self.world.machines.insert(name, machine);
        Ok(())
    }

    fn definition(&mut self, version: Version, definition: Definition) -> Result<(), CodecError> {
        let Some((name, machine)) = self.last_machine() else {
            return Err(damaged("the definition has no machine"));
        };
        ensure(
            definition.name == name,
            "the definition is of another machine",
        )?;
        ensure(machine.instances.is_empty(), OUT_OF_ORDER)?;
        ensure(version.0 > 0, "versions start at 1")?;
        ensure(
            version <= machine.last_version,
            "the version was never assigned",
        )?;
        ensure_last(&machine.versions, &version)?;
        let compiled = Compiled::restore(definition).map_err(damaged)?;
        machine.versions.insert(version, Pinned::new(compiled));
        Ok(())
    }

    fn instance(&mut self, name: InstanceName, mut instance: Instance) -> Result<(), CodecError> {
        let clock = self.header.clock;
        let Some((machine_name, machine)) = self.world.machines.get_max() else {
            return Err(damaged("the instance has no machine"));
        };
        ensure_last(&machine.instances, &name)?;
        let version = instance.version;
        let Some(pinned) = machine.versions.get(&version) else {
            return Err(damaged(format!(
                "instance {name} is of version {version}, which is not defined"
            )));
        };
        let compiled = &pinned.compiled;
        let (Some(exits), Some(state)) = (
            compiled.exits(&instance.state),
            compiled.shared(&instance.state),
        ) else {
            let state = &instance.state;
            return Err(damaged(format!(
                "instance {name} is in state {state:?}, which is not defined"
            )));
        };
        instance.state = state.clone();
        let in_order = instance.created_at <= instance.changed_at && instance.changed_at <= clock;
        ensure(in_order, "the instance's times are not in order")?;
        let due = |after: u64| instance.created_at.0..=clock.0.saturating_add(after);
        let armed = match (exits.timeout.as_ref(), instance.deadline) {
            (None, None) => true,
            (Some(timeout), Some(deadline)) => due(timeout.after_ms).contains(&deadline.0),
            _ => false,
        };
        ensure(armed, "the instance's deadline does not match its state")?;
        let id = InstanceId::from_parts(compiled.definition.name.clone(), name);
        instance.history = self.history(machine_name, &id, &instance)?;
        self.world.insert(&id, instance);
        Ok(())
    }

    /// The instance's history, with the names that others share.
    fn history(
        &self,
        machine: &MachineName,
        id: &InstanceId,
        instance: &Instance,
    ) -> Result<History, CodecError> {
        let mut expected = instance
            .revision
            .0
            .checked_sub(instance.history().len() as u64);
        let mut events: Vec<Arc<Event>> = vec![];
        for event in instance.history() {
            expected = expected.map(|revision| revision + 1);
            let in_order = Some(event.instance_revision.0) == expected
                && events
                    .last()
                    .is_none_or(|last| last.cursor() < event.cursor() && last.at <= event.at)
                && event.revision <= self.header.revision
                && event.at <= instance.changed_at;
            ensure(in_order, "the instance's history is not in order")?;
            let its_own = event.machine == *machine
                && event.name.as_ref() == Some(id.instance_name())
                && matches!(event.kind, EventKind::Transitioned | EventKind::Migrated);
            ensure(its_own, "the history belongs to another instance")?;
            let mut event = Event::clone(event);
            event.name = Some(id.instance_name().clone());
            self.share_names(&mut event);
            events.push(Arc::new(event));
        }
        if let Some(last) = events.last() {
            let ends_here = last.to.as_ref() == Some(&instance.state)
                && last.version == instance.version
                && last.at == instance.changed_at;
            ensure(
                ends_here,
                "the history does not end at the instance's state",
            )?;
        }
        Ok(History::restore(events))
    }

    /// Replaces an event's names by the definition's own, where there still is one.
    pub(super) fn share_names(&self, event: &mut Event) {
        let Some((name, machine)) = self.world.machines.get_key_value(&event.machine) else {
            return;
        };
        event.machine = name.clone();
        let Some(pinned) = machine.versions.get(&event.version) else {
            return;
        };
        for state in [&mut event.from, &mut event.to].into_iter().flatten() {
            if let Some(shared) = pinned.compiled.shared(state) {
                *state = shared.clone();
            }
        }
    }

    fn retired(
        &mut self,
        machine: MachineName,
        since: GlobalRevision,
        last: Version,
    ) -> Result<(), CodecError> {
        let in_the_past = since <= self.header.revision;
        ensure(
            in_the_past,
            "it was retired at a later revision than the snapshot's",
        )?;
        let defined = self.world.machines.contains_key(&machine);
        ensure(!defined, "a retired machine is defined")?;
        let retired = &mut self.world.retired.machines;
        ensure_last(retired, &machine)?;
        let room = retired.len() < RETIRED_MAX;
        ensure(room, "there are too many retired machines")?;
        retired.insert(machine, (since, last));
        Ok(())
    }

    fn event(&mut self, event: Arc<Event>) -> Result<(), CodecError> {
        let before = self.world.ring.end();
        let (revision, position) = (event.revision.0, event.position);
        let follows = (Some(revision) == before.revision.0.checked_add(1) && position == 0)
            || (revision == before.revision.0 && Some(position) == before.position.checked_add(1));
        ensure(follows, "events are missing before it")?;
        ensure(
            event.at <= self.header.clock,
            "the event's time is later than cluster time",
        )?;
        let event = self.shared_event(event);
        self.world.ring.push(event, &self.header.limits);
        let kept = self.world.ring.gone == self.header.events_gone;
        ensure(kept, "there are more events than the limits")?;
        Ok(())
    }

    /// The event as its instance's history has it, if it has it.
    fn shared_event(&self, event: Arc<Event>) -> Arc<Event> {
        let instance = event.instance().and_then(|id| self.world.instance(&id));
        let kept = instance.and_then(|it| it.history().rev().find(|kept| ***kept == *event));
        if let Some(kept) = kept {
            return kept.clone();
        }
        let mut event = Event::clone(&event);
        self.share_names(&mut event);
        Arc::new(event)
    }

    pub(super) fn complete(mut self) -> Result<State, CodecError> {
        ensure(
            self.open.is_none(),
            "replies of the last session are missing",
        )?;
        self.ensure_machine_is_defined()?;
        let state = State {
            world: self.world,
            keys: self.keys,
            sessions: self.sessions,
        };
        let counted = Header::of(&state) == self.header;
        ensure(counted, "the number of records differs from the header")?;
        let complete = state.world.ring.end().revision == state.world.revision;
        ensure(complete, "the last events are missing")?;
        Ok(state)
    }
}
