//! The part of the state that commands change: definitions, instances, timers, events and sinks. (The
//! tables of sessions and keys are not part of it.) Cloning is O(1), so a transaction works on a clone and
//! swaps it in.
//!
//! All changes go through the few methods here, which keep instances, the index by state, timers, counts and
//! events consistent.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::definition::{Compiled, Exits};
use crate::event::{Cause, Event, EventKind, Ring};
use crate::ids::{
    EventName, GlobalRevision, InstanceId, InstanceName, MachineName, Revision, SinkName,
    StateName, Timestamp, Version,
};
use crate::instance::Instance;
use crate::level::FeatureLevel;
use crate::limits::Quota;
use crate::metadata::Metadata;
use crate::rejection::Rejection;
use crate::settings::Limits;
use crate::sink::SinkRecord;

/// Number of deleted machines whose version numbers are remembered individually.
pub(crate) const RETIRED_MAX: usize = 1024;

#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) level: FeatureLevel,
    pub(crate) limits: Limits,
    pub(crate) clock: Timestamp,
    pub(crate) revision: GlobalRevision,
    /// Number of changes that the current command has made; 0 between commands.
    pub(crate) changes: u32,
    pub(crate) machines: OrdMap<MachineName, Machine>,
    pub(crate) retired: Retired,
    pub(crate) timers: OrdSet<Timer>,
    pub(crate) ring: Ring,
    /// The records of sinks; changes to them have no revision.
    pub(crate) sinks: OrdMap<SinkName, SinkRecord>,
    /// Of all machines.
    pub(crate) instances: u64,
}

/// A machine that is defined: it has at least one version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) versions: OrdMap<Version, Pinned>,
    /// The highest version number ever assigned.
    pub(crate) last_version: Version,
    pub(crate) instances: OrdMap<InstanceName, Instance>,
    /// The names of the instances in each state.
    pub(crate) by_state: OrdMap<StateName, OrdSet<InstanceName>>,
}

/// One version of a definition.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    pub(crate) compiled: Arc<Compiled>,
    /// How many instances are pinned to it.
    pub(crate) instances: u64,
}

impl Pinned {
    pub(crate) fn new(compiled: Compiled) -> Self {
        Self {
            compiled: Arc::new(compiled),
            instances: 0,
        }
    }
}

/// A timeout that will be due, in order of when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) deadline: Timestamp,
    pub(crate) machine: MachineName,
    pub(crate) name: InstanceName,
}

/// The version numbers of deleted machines, which are never reused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retired {
    /// Since which revision, and the highest version there was.
    pub(crate) machines: OrdMap<MachineName, (GlobalRevision, Version)>,
    /// The highest version of those that are no longer remembered individually: the versions of a new machine
    /// start above it. This becomes visible only after a thousand deletions.
    pub(crate) floor: Version,
}

impl Retired {
    /// The number that the next version of a machine which is not defined comes after.
    pub(crate) fn last_version(&self, machine: &MachineName) -> Version {
        self.machines
            .get(machine)
            .map_or(self.floor, |(_, version)| *version)
    }

    pub(crate) fn retire(&mut self, machine: MachineName, since: GlobalRevision, last: Version) {
        self.machines.insert(machine, (since, last));
        while self.machines.len() > RETIRED_MAX {
            // Thousands of deleted machines are rare, so a linear search is fine.
            let oldest = self.machines.iter().min_by_key(|(_, (since, _))| *since);
            let Some((name, last)) = oldest.map(|(name, (_, last))| (name.clone(), *last)) else {
                return;
            };
            self.machines.remove(&name);
            self.floor = self.floor.max(last);
        }
    }
}

/// A change of an instance's state.
pub(crate) struct Step<'a> {
    pub(crate) kind: EventKind,
    /// The version it is pinned to from now on.
    pub(crate) version: Version,
    pub(crate) to: StateName,
    pub(crate) event: Option<EventName>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) cause: Cause,
    pub(crate) metadata: &'a Metadata,
}

impl World {
    pub(crate) fn machine(&self, name: &MachineName) -> Result<&Machine, Rejection> {
        let unknown = || Rejection::UnknownMachine {
            machine: name.clone(),
        };
        self.machines.get(name).ok_or_else(unknown)
    }

    pub(crate) fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.machines
            .get(&id.machine)?
            .instances
            .get(id.instance_name())
    }

    /// The ways out of a state, by the definition that the instance is pinned to.
    pub(crate) fn exits(
        &self,
        id: &InstanceId,
        version: Version,
        state: &StateName,
    ) -> Option<&Exits> {
        let pinned = self.machines.get(&id.machine)?.versions.get(&version)?;
        pinned.compiled.exits(state)
    }

    /// The instance with its definition, or why there is none.
    pub(crate) fn find(&self, id: &InstanceId) -> Result<Found<'_>, Rejection> {
        let machine = self.machine(&id.machine)?;
        let found = || {
            let instance = machine.instances.get(id.instance_name())?;
            let compiled = &*machine.versions.get(&instance.version)?.compiled;
            Some(Found {
                machine,
                instance,
                compiled,
                exits: compiled.exits(&instance.state)?,
            })
        };
        found().ok_or_else(|| unknown(id))
    }

    pub(crate) fn check_quota(&self, quota: Quota, requested: u64) -> Result<(), Rejection> {
        let max = quota.max(&self.limits);
        if requested > max {
            Err(Rejection::QuotaExceeded {
                quota,
                requested,
                max,
            })
        } else {
            Ok(())
        }
    }

    pub(crate) fn check_metadata(&self, metadata: &Metadata) -> Result<(), Rejection> {
        if metadata.is_empty() {
            return Ok(());
        }
        self.check_quota(Quota::MetadataEntries, metadata.len() as u64)?;
        self.check_quota(Quota::MetadataBytes, metadata.bytes() as u64)
    }

    /// When a timeout of a state that is entered now is due.
    pub(crate) fn deadline(&self, exits: Option<&Exits>) -> Option<Timestamp> {
        let timeout = exits?.timeout.as_ref()?;
        Some(Timestamp(self.clock.0.saturating_add(timeout.after_ms)))
    }

    /// Adds an instance whose id is free and whose version exists. The caller records the event.
    pub(crate) fn insert(&mut self, id: &InstanceId, instance: Instance) {
        let Some(machine) = self.machines.get_mut(&id.machine) else {
            return;
        };
        let name = id.instance_name().clone();
        let (state, deadline) = (instance.state.clone(), instance.deadline);
        machine.count(instance.version, |instances| instances + 1);
        machine
            .by_state
            .entry(state)
            .or_default()
            .insert(name.clone());
        machine.instances.insert(name, instance);
        self.rearm(&id.machine, id.instance_name(), None, deadline);
        self.instances += 1;
    }

    /// Removes an instance. The caller records the event.
    pub(crate) fn remove(&mut self, id: &InstanceId) -> Result<Instance, Rejection> {
        let (machine_name, name) = (&id.machine, id.instance_name());
        let machine = self.machines.get_mut(machine_name);
        let machine = machine.ok_or_else(|| unknown(id))?;
        let instance = machine.instances.remove(name).ok_or_else(|| unknown(id))?;
        machine.count(instance.version, |instances| instances - 1);
        machine.leave(&instance.state, name);
        self.rearm(machine_name, name, instance.deadline, None);
        self.instances -= 1;
        Ok(instance)
    }

    /// Moves an instance that exists, and records the event, which is the answer.
    pub(crate) fn step(
        &mut self,
        id: &InstanceId,
        step: Step<'_>,
    ) -> Result<Arc<Event>, Rejection> {
        let Step {
            kind,
            version,
            to,
            event,
            deadline,
            cause,
            metadata,
        } = step;
        let (clock, limits) = (self.clock, self.limits);
        let (revision, position) = self.next_change();
        let machine = self.machines.get_key_value_mut(&id.machine);
        let (machine_name, machine) = machine.ok_or_else(|| unknown(id))?;
        let instance = machine.instances.get_key_value_mut(id.instance_name());
        let (name, instance) = instance.ok_or_else(|| unknown(id))?;

        let from = std::mem::replace(&mut instance.state, to.clone());
        let from_version = std::mem::replace(&mut instance.version, version);
        instance.revision = Revision(instance.revision.0.saturating_add(1));
        instance.changed_at = clock;
        let armed = std::mem::replace(&mut instance.deadline, deadline);
        let event = Arc::new(Event {
            revision,
            position,
            kind,
            machine: machine_name.clone(),
            name: Some(name.clone()),
            version,
            from_version: (kind == EventKind::Migrated).then_some(from_version),
            from: Some(from.clone()),
            to: Some(to.clone()),
            event,
            instance_revision: instance.revision,
            at: clock,
            cause,
            metadata: metadata.clone(),
        });
        instance.history.push(event.clone(), &limits);

        let name = name.clone();
        if from != to {
            machine.leave(&from, &name);
            machine.by_state.entry(to).or_default().insert(name.clone());
        }
        if from_version != version {
            machine.count(from_version, |instances| instances - 1);
            machine.count(version, |instances| instances + 1);
        }
        if armed != deadline {
            self.rearm(&event.machine, &name, armed, deadline);
        }
        self.changes += 1;
        self.ring.push(event.clone(), &limits);
        Ok(event)
    }

    /// Records a change that is not a transition, and sets its revision and position.
    pub(crate) fn record(&mut self, mut event: Event) {
        (event.revision, event.position) = self.next_change();
        self.changes += 1;
        self.ring.push(Arc::new(event), &self.limits);
    }

    /// Ends a command: its changes, if any, become one revision.
    pub(crate) fn seal(&mut self) {
        if self.changes > 0 {
            self.revision = self.next_revision();
            self.changes = 0;
        }
    }

    /// The revision of the current command's changes.
    pub(crate) fn next_revision(&self) -> GlobalRevision {
        GlobalRevision(self.revision.0.saturating_add(1))
    }

    fn next_change(&self) -> (GlobalRevision, u32) {
        (self.next_revision(), self.changes)
    }

    fn rearm(
        &mut self,
        machine: &MachineName,
        name: &InstanceName,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) {
        let timer = |deadline| Timer {
            deadline,
            machine: machine.clone(),
            name: name.clone(),
        };
        if let Some(deadline) = from {
            self.timers.remove(&timer(deadline));
        }
        if let Some(deadline) = to {
            self.timers.insert(timer(deadline));
        }
    }
}

fn unknown(id: &InstanceId) -> Rejection {
    Rejection::UnknownInstance {
        instance: id.clone(),
    }
}

/// An instance with what it is pinned to.
pub(crate) struct Found<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) instance: &'a Instance,
    pub(crate) compiled: &'a Compiled,
    pub(crate) exits: &'a Exits,
}

impl Machine {
    /// The requested version, or the newest.
    pub(crate) fn version(
        &self,
        name: &MachineName,
        version: Option<Version>,
    ) -> Result<(Version, &Compiled), Rejection> {
        let unknown = || Rejection::UnknownMachine {
            machine: name.clone(),
        };
        let (newest, last) = self.versions.get_max().ok_or_else(unknown)?;
        let Some(version) = version else {
            return Ok((*newest, &last.compiled));
        };
        match self.versions.get(&version) {
            Some(pinned) => Ok((version, &pinned.compiled)),
            None => Err(Rejection::UnknownVersion {
                machine: name.clone(),
                version,
                newest: *newest,
            }),
        }
    }

    fn leave(&mut self, state: &StateName, name: &InstanceName) {
        // An empty set stays: it will be needed again, and there are no more than states.
        if let Some(names) = self.by_state.get_mut(state) {
            names.remove(name);
        }
    }

    /// Forgets the states that no instance is in, once a version that had them is deleted.
    pub(crate) fn forget_empty_states(&mut self) {
        self.by_state = self
            .by_state
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(state, names)| (state.clone(), names.clone()))
            .collect();
    }

    fn count(&mut self, version: Version, change: impl FnOnce(u64) -> u64) {
        if let Some(pinned) = self.versions.get_mut(&version) {
            pinned.instances = change(pinned.instances);
        }
    }
}
