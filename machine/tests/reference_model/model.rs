//! The model: what each command does to definitions, instances, timers and events. It uses plain lists with
//! linear search, and is written from the specification, not from the code.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_machine::*;

use crate::sinks::Account;

/// Fewer sessions than this are allowed only while the cluster has no feature level.
const SESSIONS_MIN: u64 = 128;

#[derive(Clone)]
pub struct Place {
    pub version: u32,
    pub state: StateName,
    pub revision: u64,
    pub created: u64,
    pub changed: u64,
    pub deadline: Option<u64>,
    pub metadata: Metadata,
    pub history: Vec<Event>,
}

#[derive(Clone)]
pub struct Model {
    pub limits: Limits,
    level: FeatureLevel,
    pub now: u64,
    pub revision: u64,
    pub definitions: BTreeMap<(MachineName, u32), Arc<Definition>>,
    last_versions: BTreeMap<MachineName, u32>,
    pub places: BTreeMap<InstanceId, Place>,
    /// The recent ones, oldest first.
    pub events: Vec<Event>,
    pub events_gone: (u64, u32),
    pub sinks: BTreeMap<SinkName, Account>,
    changes: u32,
}

pub fn event_bytes(event: &Event) -> u64 {
    let mut bytes = 64 + event.machine.as_str().len();
    bytes += event.name.as_ref().map_or(0, |it| it.as_str().len());
    bytes += event.from.as_ref().map_or(0, |it| it.as_str().len());
    bytes += event.to.as_ref().map_or(0, |it| it.as_str().len());
    bytes += event.event.as_ref().map_or(0, |it| it.as_str().len());
    bytes += event
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>();
    bytes as u64
}

impl Model {
    pub fn new(limits: Limits, state: &State) -> Self {
        let triad = MachineName::new("triad").unwrap();
        let definition = state.definition(&triad, Version(1)).unwrap().clone();
        let place = Place {
            version: 1,
            state: definition.initial.clone(),
            revision: 0,
            created: 0,
            changed: 0,
            deadline: None,
            metadata: Metadata::default(),
            history: vec![],
        };
        Self {
            limits,
            level: FeatureLevel::FIRST,
            now: 0,
            revision: 0,
            definitions: [((triad.clone(), 1), Arc::new(definition))].into(),
            last_versions: [(triad, 1)].into(),
            places: [("triad/default".parse().unwrap(), place)].into(),
            events: vec![],
            events_gone: (0, 0),
            sinks: BTreeMap::new(),
            changes: 0,
        }
    }

    pub fn command(&mut self, command: &Command) -> Outcome {
        let outcome = self.dispatch(command).unwrap_or_else(Outcome::Rejected);
        if self.changes > 0 {
            self.revision += 1;
            self.changes = 0;
        }
        outcome
    }

    fn dispatch(&mut self, command: &Command) -> Result<Outcome, Rejection> {
        Ok(match command {
            Command::Transition(it) => Outcome::Transitioned(self.transition(it)?),
            Command::Define(it) => Outcome::Defined(self.define(it)?),
            Command::DeleteDefinition(it) => Outcome::DefinitionDeleted(self.forget(it)?),
            Command::Create(it) => Outcome::Created(self.create(it)?),
            Command::Delete(it) => Outcome::Deleted(self.delete(it)?),
            Command::Migrate(it) => Outcome::Migrated(self.migrate(it)?),
            Command::Transaction(it) => Outcome::Committed(self.transaction(&it.operations)?),
            Command::Expire(it) => Outcome::Expired(self.expire(it)),
            Command::UpdateSettings(it) => {
                let mut limits = self.limits;
                for (&setting, &value) in it {
                    let as_before_levels = setting == Setting::SessionsMax
                        && self.level == FeatureLevel::FIRST
                        && (1..SESSIONS_MIN).contains(&value);
                    match as_before_levels {
                        true => limits.sessions_max = value,
                        false => limits.set(setting, value)?,
                    }
                }
                self.limits = limits;
                self.trim_events();
                Outcome::SettingsUpdated(Box::new(limits))
            }
            Command::Sink(it) => Outcome::SinkChanged {
                affected: self.sink(it)?,
            },
            Command::RaiseLevel(it) => {
                self.level = self.level.max(*it);
                Outcome::LevelRaised { level: self.level }
            }
        })
    }

    pub fn versions(&self, machine: &MachineName) -> Vec<u32> {
        let of =
            |((name, version), _): (&(MachineName, u32), _)| (name == machine).then_some(*version);
        self.definitions.iter().filter_map(of).collect()
    }

    pub fn quota(&self, quota: Quota, requested: u64, max: u64) -> Result<(), Rejection> {
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

    fn metadata(&self, metadata: &Metadata) -> Result<(), Rejection> {
        self.quota(
            Quota::MetadataEntries,
            metadata.len() as u64,
            self.limits.metadata_entries_max,
        )?;
        self.quota(
            Quota::MetadataBytes,
            metadata.bytes() as u64,
            self.limits.metadata_bytes_max,
        )
    }

    fn event(&self, kind: EventKind, machine: &MachineName, version: u32) -> Event {
        Event {
            revision: GlobalRevision(self.revision + 1),
            position: self.changes,
            kind,
            machine: machine.clone(),
            name: None,
            version: Version(version),
            from_version: None,
            from: None,
            to: None,
            event: None,
            instance_revision: Revision(0),
            at: Timestamp(self.now),
            cause: Cause::Request,
            metadata: Metadata::default(),
        }
    }

    fn tell(&mut self, event: Event) {
        self.changes += 1;
        self.events.push(event);
        self.trim_events();
    }

    fn trim_events(&mut self) {
        while self.events.len() as u64 > self.limits.events_max
            || self.events.iter().map(event_bytes).sum::<u64>() > self.limits.event_bytes_max
        {
            let gone = self.events.remove(0);
            self.events_gone = (gone.revision.0, gone.position);
        }
    }

    fn define(&mut self, it: &Arc<Definition>) -> Result<Defined, Rejection> {
        let machine = it.name.clone();
        if machine.as_str() == "triad" {
            return Err(Rejection::BuiltIn {
                name: "triad".to_owned(),
            });
        }
        let versions = self.versions(&machine);
        let warnings = it.warnings();
        if let Some(newest) = versions.last()
            && self.definitions[&(machine.clone(), *newest)] == *it
        {
            return Ok(Defined {
                machine,
                version: Version(*newest),
                created: false,
                warnings,
            });
        }
        it.validate(&Limits::default())
            .map_err(Rejection::InvalidDefinition)?;
        let machines = self.definitions.keys().map(|(name, _)| name);
        let machines: std::collections::BTreeSet<_> = machines.collect();
        let asked = machines.len() as u64 + u64::from(versions.is_empty());
        if versions.is_empty() {
            self.quota(Quota::Definitions, asked, self.limits.definitions_max)?;
        } else {
            self.quota(Quota::Definitions, 0, self.limits.definitions_max)?;
        }
        self.quota(
            Quota::Versions,
            versions.len() as u64 + 1,
            self.limits.versions_max,
        )?;
        let version = self.last_versions.get(&machine).copied().unwrap_or(0) + 1;
        self.last_versions.insert(machine.clone(), version);
        self.definitions
            .insert((machine.clone(), version), it.clone());
        self.tell(self.event(EventKind::Defined, &machine, version));
        Ok(Defined {
            machine,
            version: Version(version),
            created: true,
            warnings,
        })
    }

    fn forget(&mut self, it: &DeleteDefinition) -> Result<DefinitionDeleted, Rejection> {
        let machine = it.machine.clone();
        if machine.as_str() == "triad" {
            return Err(Rejection::BuiltIn {
                name: "triad".to_owned(),
            });
        }
        let mut versions = self.versions(&machine);
        let Some(newest) = versions.last().copied() else {
            return Err(Rejection::UnknownMachine { machine });
        };
        if let Some(version) = it.version {
            if !versions.contains(&version.0) {
                return Err(Rejection::UnknownVersion {
                    machine,
                    version,
                    newest: Version(newest),
                });
            }
            versions = vec![version.0];
        }
        for version in &versions {
            let uses = |(id, place): &(&InstanceId, &Place)| {
                id.machine == machine && place.version == *version
            };
            let instances = self.places.iter().filter(uses).count() as u64;
            if instances > 0 {
                let version = Version(*version);
                return Err(Rejection::DefinitionInUse {
                    machine,
                    version,
                    instances,
                });
            }
        }
        for version in &versions {
            self.definitions.remove(&(machine.clone(), *version));
            self.tell(self.event(EventKind::DefinitionDeleted, &machine, *version));
        }
        let versions = versions.into_iter().map(Version).collect();
        Ok(DefinitionDeleted { machine, versions })
    }

    /// The version asked for, or the newest.
    fn version(&self, machine: &MachineName, wanted: Option<Version>) -> Result<u32, Rejection> {
        let versions = self.versions(machine);
        let machine = machine.clone();
        let Some(newest) = versions.last().copied() else {
            return Err(Rejection::UnknownMachine { machine });
        };
        match wanted {
            None => Ok(newest),
            Some(version) if versions.contains(&version.0) => Ok(version.0),
            Some(version) => Err(Rejection::UnknownVersion {
                machine,
                version,
                newest: Version(newest),
            }),
        }
    }

    /// The deadline and target of the timeout of a state that is entered now.
    fn timeout(&self, machine: &MachineName, version: u32, state: &StateName) -> Option<Timeout> {
        let definition = &self.definitions[&(machine.clone(), version)];
        definition
            .states
            .iter()
            .find(|it| it.name == *state)?
            .timeout
            .clone()
    }

    fn create(&mut self, it: &Create) -> Result<Created, Rejection> {
        let id = it.instance.clone();
        let version = self.version(&id.machine, it.version)?;
        if let Some(there) = self.places.get(&id) {
            let (current, revision) = (there.state.clone(), Revision(there.revision));
            return Err(Rejection::InstanceExists {
                instance: id,
                current,
                revision,
            });
        }
        self.metadata(&it.metadata)?;
        self.quota(
            Quota::Instances,
            self.places.len() as u64 + 1,
            self.limits.instances_max,
        )?;
        let state = self.definitions[&(id.machine.clone(), version)]
            .initial
            .clone();
        let timeout = self.timeout(&id.machine, version, &state);
        let place = Place {
            version,
            state: state.clone(),
            revision: 0,
            created: self.now,
            changed: self.now,
            deadline: timeout.map(|it| self.now + it.after_ms),
            metadata: it.metadata.clone(),
            history: vec![],
        };
        self.places.insert(id.clone(), place);
        self.tell(Event {
            name: Some(id.instance_name().clone()),
            to: Some(state.clone()),
            metadata: it.metadata.clone(),
            ..self.event(EventKind::Created, &id.machine, version)
        });
        let (version, at) = (Version(version), Timestamp(self.now));
        Ok(Created {
            instance: id,
            version,
            state,
            at,
        })
    }

    /// The instance, if it is what the caller takes it for.
    fn find(
        &self,
        id: &InstanceId,
        state: Option<&StateName>,
        revision: Option<Revision>,
    ) -> Result<Place, Rejection> {
        if self.versions(&id.machine).is_empty() {
            return Err(Rejection::UnknownMachine {
                machine: id.machine.clone(),
            });
        }
        let instance = id.clone();
        let Some(place) = self.places.get(id) else {
            return Err(Rejection::UnknownInstance { instance });
        };
        let (current, at) = (place.state.clone(), Revision(place.revision));
        match (state, revision) {
            (Some(expected), _) if *expected != current => {
                let expected = expected.clone();
                Err(Rejection::StateMismatch {
                    instance,
                    expected,
                    current,
                    revision: at,
                })
            }
            (_, Some(expected)) if expected != at => Err(Rejection::RevisionMismatch {
                instance,
                expected,
                current,
                revision: at,
            }),
            _ => Ok(place.clone()),
        }
    }

    fn delete(&mut self, it: &Delete) -> Result<Deleted, Rejection> {
        let id = it.instance.clone();
        if id.to_string() == "triad/default" {
            return Err(Rejection::BuiltIn {
                name: id.to_string(),
            });
        }
        let place = self.find(&id, it.expect_state.as_ref(), it.expect_revision)?;
        self.metadata(&it.metadata)?;
        self.places.remove(&id);
        let (state, revision) = (place.state, Revision(place.revision));
        self.tell(Event {
            name: Some(id.instance_name().clone()),
            from: Some(state.clone()),
            instance_revision: revision,
            metadata: it.metadata.clone(),
            ..self.event(EventKind::Deleted, &id.machine, place.version)
        });
        Ok(Deleted {
            instance: id,
            state,
            revision,
            at: Timestamp(self.now),
        })
    }

    /// Moves an instance, and records the event.
    fn step(
        &mut self,
        id: &InstanceId,
        to: &StateName,
        event: Event,
        deadline: Option<u64>,
    ) -> Event {
        let place = self.places.get_mut(id).unwrap();
        let event = Event {
            name: Some(id.instance_name().clone()),
            from: Some(place.state.clone()),
            to: Some(to.clone()),
            instance_revision: Revision(place.revision + 1),
            ..event
        };
        place.state = to.clone();
        place.version = event.version.0;
        place.revision += 1;
        place.changed = self.now;
        place.deadline = deadline;
        place.history.push(event.clone());
        while place.history.len() as u64 > self.limits.history_entries_max
            || place.history.iter().map(event_bytes).sum::<u64>() > self.limits.history_bytes_max
        {
            place.history.remove(0);
        }
        self.tell(event.clone());
        event
    }

    fn transition(&mut self, it: &Transition) -> Result<Transitioned, Rejection> {
        let id = &it.instance;
        let place = self.find(id, it.expect_state.as_ref(), it.expect_revision)?;
        let (current, revision) = (place.state.clone(), Revision(place.revision));
        let definition = self.definitions[&(id.machine.clone(), place.version)].clone();
        let mut ways = vec![];
        for way in &definition.transitions {
            let here = match &way.from {
                MoveFrom::Any => definition
                    .states
                    .iter()
                    .any(|it| it.name == current && !it.is_final),
                MoveFrom::States(states) => states.contains(&current),
            };
            if here {
                ways.push((way.to.clone(), way.event.clone()));
            }
        }
        let (instance, machine) = (id.clone(), id.machine.clone());
        let (to, event) = match &it.trigger {
            Trigger::Event(event) => match ways.iter().find(|way| way.1.as_ref() == Some(event)) {
                Some(way) => way.clone(),
                None => {
                    let event = event.clone();
                    return Err(Rejection::UnknownEvent {
                        instance,
                        event,
                        current,
                        revision,
                        events: None,
                    });
                }
            },
            Trigger::To(to) if ways.iter().any(|way| way.0 == *to) => (to.clone(), None),
            Trigger::To(to) => {
                let known: Vec<_> = definition.states.iter().map(|it| it.name.clone()).collect();
                let to = to.clone();
                if !known.contains(&to) {
                    let state = to;
                    return Err(Rejection::UnknownState {
                        machine,
                        state,
                        known,
                        current,
                        revision,
                    });
                }
                let mut allowed = vec![];
                for (to, _) in ways {
                    if !allowed.contains(&to) {
                        allowed.push(to);
                    }
                }
                let from = current;
                return Err(Rejection::IllegalTransition {
                    instance,
                    from,
                    to,
                    allowed,
                    revision,
                    events: None,
                });
            }
        };
        self.metadata(&it.metadata)?;
        let deadline = self
            .timeout(&machine, place.version, &to)
            .map(|it| self.now + it.after_ms);
        let made = Event {
            event: event.clone(),
            metadata: it.metadata.clone(),
            ..self.event(EventKind::Transitioned, &machine, place.version)
        };
        let made = self.step(id, &to, made, deadline);
        Ok(Transitioned {
            instance,
            version: made.version,
            from: current,
            to,
            event,
            revision: made.instance_revision,
            at: made.at,
        })
    }

    fn migrate(&mut self, it: &Migrate) -> Result<Migrated, Rejection> {
        let id = &it.instance;
        let place = self.find(id, it.expect_state.as_ref(), it.expect_revision)?;
        let version = self.version(&id.machine, it.version)?;
        let (instance, current, revision) =
            (id.clone(), place.state.clone(), Revision(place.revision));
        if version == place.version {
            let version = Version(version);
            return Err(Rejection::AlreadyAtVersion {
                instance,
                version,
                current,
                revision,
            });
        }
        let to = it.states.get(&current).unwrap_or(&current).clone();
        let states = &self.definitions[&(id.machine.clone(), version)].states;
        let known: Vec<_> = states.iter().map(|it| it.name.clone()).collect();
        if !known.contains(&to) {
            let (version, state) = (Version(version), to);
            return Err(Rejection::UnmappedState {
                instance,
                version,
                state,
                known,
                current,
                revision,
            });
        }
        self.metadata(&it.metadata)?;
        let before = self
            .timeout(&id.machine, place.version, &current)
            .map(|it| it.after_ms);
        let after = self
            .timeout(&id.machine, version, &to)
            .map(|it| it.after_ms);
        let deadline = match after {
            after if to == current && after == before => place.deadline,
            after => after.map(|after| self.now + after),
        };
        let made = Event {
            from_version: Some(Version(place.version)),
            metadata: it.metadata.clone(),
            ..self.event(EventKind::Migrated, &id.machine, version)
        };
        let made = self.step(id, &to, made, deadline);
        Ok(Migrated {
            instance,
            from_version: Version(place.version),
            version: made.version,
            from: current,
            to,
            revision: made.instance_revision,
            at: made.at,
        })
    }

    fn transaction(&mut self, operations: &[Operation]) -> Result<Vec<OperationResult>, Rejection> {
        if operations.is_empty() {
            return Err(Rejection::EmptyTransaction);
        }
        self.quota(
            Quota::Operations,
            operations.len() as u64,
            self.limits.operations_max,
        )?;
        let changes = |it: &Operation| !matches!(it, Operation::Check(_));
        for (second, operation) in operations.iter().enumerate() {
            let earlier = operations[..second].iter().filter(|_| changes(operation));
            let same = |it: &&Operation| changes(it) && it.instance() == operation.instance();
            if let Some(first) = earlier.clone().position(|it| same(&it)) {
                let (instance, second) = (operation.instance().clone(), second as u32);
                return Err(Rejection::InstanceTwice {
                    instance,
                    first: first as u32,
                    second,
                });
            }
        }
        let before = self.clone();
        let mut results = vec![];
        for (position, operation) in operations.iter().enumerate() {
            let result = match operation {
                Operation::Create(it) => self.create(it).map(OperationResult::Created),
                Operation::Transition(it) => self.transition(it).map(OperationResult::Transitioned),
                Operation::Delete(it) => self.delete(it).map(OperationResult::Deleted),
                Operation::Check(it) => before.check(it).map(|()| OperationResult::Checked),
            };
            match result {
                Ok(result) => results.push(result),
                Err(reason) => {
                    *self = before;
                    let (position, reason) = (position as u32, Box::new(reason));
                    return Err(Rejection::OperationFailed { position, reason });
                }
            }
        }
        Ok(results)
    }

    fn check(&self, it: &Precondition) -> Result<(), Rejection> {
        let id = &it.instance;
        match &it.expect {
            Expectation::Missing => match self.places.get(id) {
                None => Ok(()),
                Some(there) => Err(Rejection::InstanceExists {
                    instance: id.clone(),
                    current: there.state.clone(),
                    revision: Revision(there.revision),
                }),
            },
            Expectation::Exists => self.find(id, None, None).map(drop),
            Expectation::InState(state) => self.find(id, Some(state), None).map(drop),
            Expectation::AtRevision(revision) => self.find(id, None, Some(*revision)).map(drop),
        }
    }

    fn expire(&mut self, expirations: &[Expiration]) -> Expired {
        let mut expired = Expired {
            fired: 0,
            late_ms_max: 0,
        };
        for Expiration {
            instance: id,
            revision,
            deadline,
        } in expirations
        {
            let Some(place) = self.places.get(id).cloned() else {
                continue;
            };
            let is_it = place.revision == revision.0 && place.deadline == Some(deadline.0);
            if !is_it || self.now < deadline.0 {
                continue;
            }
            let late_ms = self.now - deadline.0;
            let to = self
                .timeout(&id.machine, place.version, &place.state)
                .unwrap()
                .to;
            let next = self
                .timeout(&id.machine, place.version, &to)
                .map(|it| self.now + it.after_ms);
            let made = self.event(EventKind::Transitioned, &id.machine, place.version);
            self.step(
                id,
                &to,
                Event {
                    cause: Cause::Timeout { late_ms },
                    ..made
                },
                next,
            );
            expired.fired += 1;
            expired.late_ms_max = expired.late_ms_max.max(late_ms);
        }
        expired
    }
}
