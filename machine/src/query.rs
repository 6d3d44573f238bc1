//! Queries: lists, totals, events, sinks, timers and the use of limits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;

use crate::command::Expiration;
use crate::definition::{Definition, Size};
use crate::event::{Compacted, Event, EventCursor};
use crate::ids::{
    EventName, GlobalRevision, InstanceId, InstanceName, MachineName, Revision, SinkName,
    StateName, Timestamp, Version,
};
use crate::instance::Instance;
use crate::metadata::Metadata;
use crate::settings::Setting;
use crate::sink::SinkRecord;
use crate::state::State;

/// Which instances to list. An unset field does not restrict the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Of this machine.
    pub machine: Option<MachineName>,
    /// In this state.
    pub state: Option<StateName>,
    /// Whose name (the part of the id after the slash) has this prefix.
    pub prefix: String,
    /// With this metadata entry.
    pub label: Option<(String, String)>,
    /// After this id: the cursor of the previous page.
    pub after: Option<InstanceId>,
    /// How many to return at most.
    pub limit: usize,
    /// Maximum number of instances to examine, so that a filter by a rare label does not scan all instances.
    pub scan_max: usize,
}

/// An instance as returned by a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Instance))]
pub struct InstanceView {
    /// Its id: `machine/name`.
    pub id: InstanceId,
    /// The definition's version it is pinned to.
    pub version: Version,
    /// The state it is in.
    pub state: StateName,
    /// The number of its changes: transitions, timeouts and migrations.
    pub revision: Revision,
    /// When it was created, in cluster time; 0 for a built-in instance, in JSON null.
    pub created_at: Timestamp,
    /// When it last changed; equals `created_at` until it does.
    pub changed_at: Timestamp,
    /// The states it may move to.
    pub allowed: Vec<StateName>,
    /// The events that its state allows, in order of name.
    pub events: Vec<EventName>,
    /// When its state's timeout is due, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The state it goes to then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_to: Option<StateName>,
    /// What it was created with.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// One page of a list, in order of id.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The instances.
    pub instances: Vec<(InstanceId, Instance)>,
    /// Where the next page starts; none if this is the last. A page may be short, or even empty,
    /// and still have a next one, when `scan_max` instances were examined.
    pub next: Option<InstanceId>,
}

/// How many instances a machine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// In all.
    pub instances: u64,
    /// In each state that has any.
    pub states: BTreeMap<StateName, u64>,
    /// At each version there is.
    pub versions: BTreeMap<Version, u64>,
}

impl State {
    /// An instance of this state as it is shown.
    pub fn view(&self, id: &InstanceId, instance: &Instance) -> InstanceView {
        let exits = self.world.exits(id, instance.version, &instance.state);
        let timeout = exits.and_then(|it| it.timeout.as_ref());
        InstanceView {
            id: id.clone(),
            version: instance.version,
            state: instance.state.clone(),
            revision: instance.revision,
            created_at: instance.created_at,
            changed_at: instance.changed_at,
            allowed: exits.map(|it| it.allowed.clone()).unwrap_or_default(),
            events: exits.map_or_else(Vec::new, |it| it.events().cloned().collect()),
            deadline: instance.deadline,
            timeout_to: instance.deadline.and(timeout).map(|it| it.to.clone()),
            metadata: instance.metadata.clone(),
        }
    }

    /// The names of all machines, in order, with their newest version.
    pub fn machines(&self) -> impl Iterator<Item = (&MachineName, Version, &Definition)> {
        self.world.machines.iter().filter_map(|(name, machine)| {
            let (version, pinned) = machine.versions.get_max()?;
            Some((name, *version, &pinned.compiled.definition))
        })
    }

    /// The versions of a machine, oldest first; empty if the machine is not defined.
    pub fn versions(&self, machine: &MachineName) -> impl Iterator<Item = (Version, &Definition)> {
        let versions = self
            .world
            .machines
            .get(machine)
            .map(|it| it.versions.iter());
        let versions = versions.into_iter().flatten();
        versions.map(|(version, it)| (*version, &it.compiled.definition))
    }

    /// The newest version of a machine.
    pub fn newest(&self, machine: &MachineName) -> Option<(Version, &Definition)> {
        let (version, pinned) = self.world.machines.get(machine)?.versions.get_max()?;
        Some((*version, &pinned.compiled.definition))
    }

    /// The number of instances of a machine; `None` if it is not defined. O(1) in the number of instances.
    pub fn totals(&self, machine: &MachineName) -> Option<Totals> {
        let machine = self.world.machines.get(machine)?;
        let states = machine
            .by_state
            .iter()
            .filter(|(_, names)| !names.is_empty());
        Some(Totals {
            instances: machine.instances.len() as u64,
            states: states
                .map(|(state, names)| (state.clone(), names.len() as u64))
                .collect(),
            versions: machine
                .versions
                .iter()
                .map(|(version, it)| (*version, it.instances))
                .collect(),
        })
    }

    /// One page of the instances that a query asks for. Bounded by its `limit` and `scan_max`
    /// (each at least 1), whatever there is.
    pub fn list(&self, query: &ListQuery) -> Page {
        let mut page = Page::default();
        let (mut left, mut last) = (query.scan_max.max(1), None);
        for (machine, name, instance) in self.candidates(query) {
            if left == 0 || page.instances.len() >= query.limit.max(1) {
                page.next = last;
                break;
            }
            left -= 1;
            let id = InstanceId::from_parts(machine.clone(), name.clone());
            let has = |(key, value): &(String, String)| {
                instance.metadata.get(key) == Some(value.as_str())
            };
            if query.label.as_ref().is_none_or(has) {
                page.instances.push((id.clone(), instance.clone()));
            }
            last = Some(id);
        }
        page
    }

    /// What a query asks for apart from its label, in order of id.
    fn candidates<'a>(
        &'a self,
        query: &'a ListQuery,
    ) -> impl Iterator<Item = (&'a MachineName, &'a InstanceName, &'a Instance)> {
        let after = query.after.as_ref();
        let first = query.machine.as_ref().max(after.map(|it| &it.machine));
        let first = first.map_or(Bound::Unbounded, Bound::Included);
        let machines = self
            .world
            .machines
            .range::<_, MachineName>((first, Bound::Unbounded))
            .take_while(move |(name, _)| query.machine.as_ref().is_none_or(|it| it == *name));
        machines.flat_map(move |(machine_name, machine)| {
            let after = after.filter(|it| it.machine == *machine_name);
            let start = match after.map(InstanceId::name) {
                Some(after) if after >= query.prefix.as_str() => Bound::Excluded(after),
                _ => Bound::Included(query.prefix.as_str()),
            };
            let range = (start, Bound::Unbounded);
            let found: Box<dyn Iterator<Item = _>> = match &query.state {
                None => Box::new(machine.instances.range::<_, str>(range)),
                Some(state) => {
                    let names = machine.by_state.get(state);
                    let names = names
                        .into_iter()
                        .flat_map(move |it| it.range::<_, str>(range));
                    Box::new(names.filter_map(|name| machine.instances.get_key_value(name)))
                }
            };
            found
                .take_while(move |(name, _)| name.as_str().starts_with(&query.prefix))
                .map(move |(name, instance)| (machine_name, name, instance))
        })
    }

    /// The cluster's revision: how many commands have changed something.
    pub fn revision(&self) -> GlobalRevision {
        self.world.revision
    }

    /// The events after a cursor, oldest first, at most `max`.
    ///
    /// # Errors
    ///
    /// [`Compacted`] if events after the cursor are no longer kept.
    pub fn events_after(
        &self,
        cursor: EventCursor,
        max: usize,
    ) -> Result<Vec<Arc<Event>>, Compacted> {
        self.world.ring.after(cursor, max)
    }

    /// The oldest revision of which every event is kept; one ahead of
    /// [`revision`](State::revision) if nothing is kept.
    pub fn oldest_event(&self) -> GlobalRevision {
        self.world.ring.oldest()
    }

    /// The number of kept events after a cursor. O(log n).
    pub fn events_behind(&self, cursor: EventCursor) -> u64 {
        let ring = &self.world.ring;
        (ring.events.len() - ring.index_behind(cursor)) as u64
    }

    /// The first event after a cursor that is kept: the next one, unless the cursor is
    /// [`Compacted`].
    pub fn oldest_behind(&self, cursor: EventCursor) -> Option<&Arc<Event>> {
        let ring = &self.world.ring;
        ring.events.get(ring.index_behind(cursor))
    }

    /// The record of a sink.
    pub fn sink(&self, name: &str) -> Option<&SinkRecord> {
        self.world.sinks.get(name)
    }

    /// The records of all sinks, by name.
    pub fn sinks(&self) -> impl Iterator<Item = (&SinkName, &SinkRecord)> {
        self.world.sinks.iter()
    }

    /// The timeouts that are due at `now`, earliest first, at most `max`: what a leader proposes
    /// to [`Expire`](crate::Command::Expire).
    pub fn due(&self, now: Timestamp, max: usize) -> Vec<Expiration> {
        let timers = self.world.timers.iter();
        let due = timers.take_while(|timer| timer.deadline <= now).take(max);
        let expiration = |timer: &crate::world::Timer| {
            let instance = InstanceId::from_parts(timer.machine.clone(), timer.name.clone());
            Some(Expiration {
                revision: self.instance(&instance)?.revision,
                instance,
                deadline: timer.deadline,
            })
        };
        due.filter_map(expiration).collect()
    }

    /// How many timeouts are pending.
    pub fn pending_timers(&self) -> usize {
        self.world.timers.len()
    }

    /// How many instances there are, of all machines.
    pub fn instance_count(&self) -> u64 {
        self.world.instances
    }

    /// How many events are kept.
    pub fn event_count(&self) -> u64 {
        self.world.ring.events.len() as u64
    }

    /// The use of each limit on stored data. For limits on a definition, that of the largest definition; for dead
    /// letters, that of the sink with the most. Scans definitions, sinks and sessions, but not instances.
    ///
    /// Does not include limits on a request or on an instance's history, which cannot be computed from the
    /// stored state.
    pub fn usage(&self) -> Vec<(Setting, u64)> {
        let world = &self.world;
        let machines = || world.machines.values();
        let versions = machines().map(|it| it.versions.len() as u64).max();
        let definitions = machines().flat_map(|it| it.versions.values());
        let largest = definitions
            .map(|it| it.compiled.size)
            .fold(Size::default(), Size::max);
        let letters = world.sinks.values().map(|it| it.letters().len() as u64);
        vec![
            (Setting::DefinitionsMax, world.machines.len() as u64),
            (Setting::VersionsMax, versions.unwrap_or_default()),
            (Setting::StatesMax, largest.states),
            (Setting::TransitionsMax, largest.transitions),
            (Setting::DocumentBytesMax, largest.bytes),
            (Setting::InstancesMax, world.instances),
            (Setting::EventsMax, self.event_count()),
            (Setting::EventBytesMax, world.ring.bytes),
            (Setting::KeysMax, self.keys.order.len() as u64),
            (Setting::KeyBytesMax, self.keys.bytes),
            (
                Setting::KeyRetentionMs,
                self.keys.oldest_age_ms(world.clock),
            ),
            (Setting::SessionsMax, self.sessions.sessions.len() as u64),
            (Setting::SinksMax, world.sinks.len() as u64),
            (Setting::DeadLettersMax, letters.max().unwrap_or_default()),
        ]
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
