//! Generates random requests: most are plausible, many are invalid.

use std::sync::Arc;

use lockstep_machine::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::machines;
use crate::model::Model;

pub const LIMITS: Limits = Limits {
    keys_max: 12,
    key_retention_ms: 400,
    sessions_max: 5,
    key_bytes_max: 2500,
    definitions_max: 4,
    versions_max: 3,
    states_max: 256,
    transitions_max: 4096,
    document_bytes_max: 100_000,
    instances_max: 10,
    metadata_entries_max: 2,
    metadata_bytes_max: 20,
    history_entries_max: 5,
    history_bytes_max: 500,
    operations_max: 4,
    events_max: 40,
    event_bytes_max: 3600,
    sinks_max: 3,
    dead_letters_max: 4,
    feature_level_max: 1000,
};

/// What the limits are changed to now and then.
const OTHER_LIMITS: Limits = Limits {
    keys_max: 6,
    sessions_max: 3,
    instances_max: 7,
    history_entries_max: 0,
    events_max: 10,
    operations_max: 3,
    sinks_max: 2,
    dead_letters_max: 2,
    ..LIMITS
};

const STATES: &[&str] = &[
    "first", "second", "third", "open", "paid", "sent", "done", "on", "off", "nowhere",
];
const EVENTS: &[&str] = &["pay", "cancel", "gift", "touch", "reopen", "explode"];
const NAMES: &[&str] = &["a", "b", "c", "d"];
const MACHINES: &[&str] = &[
    "order", "order", "order", "device", "device", "saga", "triad", "nothing",
];

pub struct Traffic {
    pub rng: StdRng,
    time: u64,
    /// Session, next number, answered below.
    clients: Vec<(u64, u64, u64)>,
    sessions: u64,
    sent: Vec<Request>,
    expirations: Vec<Expiration>,
    documents: Vec<Arc<Definition>>,
    /// Some events that sinks have seen; they may be compacted by now.
    pub events: Vec<Event>,
}

fn state_name(name: &str) -> StateName {
    StateName::new(name).unwrap()
}

impl Traffic {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            time: 1000,
            clients: (1..=7).map(|session| (session, 1, 1)).collect(),
            sessions: 7,
            sent: vec![],
            expirations: vec![],
            documents: machines::all(),
            events: vec![],
        }
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())].clone()
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn batch(&mut self, model: &Model) -> Batch {
        self.time += self.rng.random_range(0..30);
        if self.chance(1) {
            self.time += 500;
        }
        let back = if self.chance(10) {
            self.rng.random_range(0..1000)
        } else {
            0
        };
        let count = self.rng.random_range(0..=8);
        let requests = (0..count).map(|_| self.request(model)).collect();
        Batch {
            stamp: Timestamp(self.time.saturating_sub(back)),
            requests,
        }
    }

    fn request(&mut self, model: &Model) -> Request {
        if !self.sent.is_empty() && self.chance(12) {
            // The very same again, or with the newer word on what is answered.
            let at = self.rng.random_range(0..self.sent.len());
            let mut again = self.sent[at].clone();
            if self.chance(40) {
                // A caller asks again: as another request, with the same key if it had one.
                again.origin = self.origin();
                return again;
            }
            if self.chance(30) {
                again.origin.answered_below += self.rng.random_range(0..3);
            }
            return again;
        }
        let request = Request {
            origin: self.origin(),
            key: self.key(),
            command: self.command(model),
        };
        if self.sent.len() == 40 {
            let at = self.rng.random_range(0..40);
            self.sent.swap_remove(at);
        }
        self.sent.push(request.clone());
        request
    }

    fn origin(&mut self) -> Origin {
        // The first clients speak more often, so that the last ones are forgotten.
        let at = self.rng.random_range(0..7) * self.rng.random_range(0..7) / 6;
        if self.chance(1) {
            self.sessions += 1;
            self.clients[at] = (self.sessions, 1, self.rng.random_range(0..=1));
        }
        let confused = self.chance(10);
        let (session, next, answered_below) = &mut self.clients[at];
        let session = SessionId(*session);
        if confused {
            let sequence = (*next + 5).saturating_sub(self.rng.random_range(0..12));
            return Origin {
                session,
                sequence,
                answered_below: *answered_below,
            };
        }
        let sequence = *next;
        *next += 1;
        if sequence > *answered_below + 1 && self.rng.random_bool(0.4) {
            *answered_below = self.rng.random_range(*answered_below..sequence);
        }
        Origin {
            session,
            sequence,
            answered_below: *answered_below,
        }
    }

    fn key(&mut self) -> Option<IdempotencyKey> {
        if self.chance(75) {
            return None;
        }
        let key = format!("key {}", self.rng.random_range(0..30));
        Some(IdempotencyKey::new(key).unwrap())
    }

    fn command(&mut self, model: &Model) -> Command {
        match self.rng.random_range(0..100) {
            0..=41 => Command::Transition(self.transition(model)),
            42..=49 => Command::Sink(Box::new(self.sink(model))),
            50..=63 => Command::Create(self.create(model)),
            64..=70 => Command::Delete(self.delete(model)),
            71..=76 => Command::Migrate(self.migrate(model)),
            77..=85 => {
                let count = self.rng.random_range(0..=5);
                let operations = (0..count).map(|_| self.operation(model)).collect();
                Command::Transaction(Transaction { operations })
            }
            86..=92 => Command::Expire(self.expirations(model)),
            93..=96 => Command::Define(self.pick(&self.documents.clone())),
            97..=98 => {
                let machine = MachineName::new(self.pick(MACHINES)).unwrap();
                Command::DeleteDefinition(DeleteDefinition {
                    version: self.version(model, &machine),
                    machine,
                })
            }
            99 if self.chance(20) => Command::RaiseLevel(FeatureLevel::NEWEST),
            _ => {
                let limits = if self.chance(70) {
                    LIMITS
                } else {
                    OTHER_LIMITS
                };
                let named = Setting::ALL.into_iter().filter(|_| self.chance(40));
                // The time that keys are remembered is shorter than it may be set to.
                Command::UpdateSettings(named.map(|it| (it, limits.get(it))).collect())
            }
        }
    }

    fn version(&mut self, model: &Model, machine: &MachineName) -> Option<Version> {
        if self.chance(50) {
            return None;
        }
        let versions = model.versions(machine);
        if versions.is_empty() || self.chance(10) {
            return Some(Version(self.rng.random_range(0..9)));
        }
        Some(Version(self.pick(&versions)))
    }

    /// Mostly one that is there.
    fn instance(&mut self, model: &Model) -> InstanceId {
        if self.chance(85) {
            let ids: Vec<_> = model.places.keys().cloned().collect();
            return self.pick(&ids);
        }
        InstanceId::new(self.pick(MACHINES), self.pick(NAMES)).unwrap()
    }

    fn metadata(&mut self) -> Metadata {
        let entries: &[(&str, &str)] = match self.rng.random_range(0..20) {
            0..=15 => &[],
            16..=17 => &[("who", "ann")],
            18 => &[("who", "ann"), ("a long key", "and so on")],
            _ => &[("a", "1"), ("b", "2"), ("c", "3")],
        };
        Metadata::new(entries.iter().copied()).unwrap()
    }

    fn expectations(
        &mut self,
        model: &Model,
        id: &InstanceId,
    ) -> (Option<StateName>, Option<Revision>) {
        let place = model.places.get(id);
        let state = match self.rng.random_range(0..10) {
            0..=7 => None,
            8 => place.map(|it| it.state.clone()),
            _ => Some(state_name(self.pick(STATES))),
        };
        let revision = place.map_or(0, |it| it.revision);
        let revision = match self.rng.random_range(0..10) {
            0..=7 => None,
            8 => Some(revision),
            _ => Some(self.rng.random_range(0..=revision + 1)),
        };
        (state, revision.map(Revision))
    }

    fn transition(&mut self, model: &Model) -> Transition {
        let instance = self.instance(model);
        let place = model.places.get(&instance).cloned();
        let definition = place.as_ref().and_then(|it| {
            model
                .definitions
                .get(&(instance.machine.clone(), it.version))
        });
        let legal: Vec<(StateName, Option<EventName>)> = definition
            .into_iter()
            .flat_map(|it| it.steps())
            .filter(|(from, _)| place.as_ref().is_some_and(|it| it.state == **from))
            .map(|(_, it)| (it.to.clone(), it.event.clone()))
            .collect();
        let trigger = if !legal.is_empty() && self.chance(65) {
            match self.pick(&legal) {
                (_, Some(event)) if self.chance(50) => Trigger::Event(event),
                (to, _) => Trigger::To(to),
            }
        } else if self.chance(70) {
            Trigger::To(state_name(self.pick(STATES)))
        } else {
            Trigger::Event(EventName::new(self.pick(EVENTS)).unwrap())
        };
        let (expect_state, expect_revision) = self.expectations(model, &instance);
        let metadata = self.metadata();
        Transition {
            instance,
            trigger,
            expect_state,
            expect_revision,
            metadata,
        }
    }

    fn create(&mut self, model: &Model) -> Create {
        let instance = InstanceId::new(self.pick(MACHINES), self.pick(NAMES)).unwrap();
        let version = self.version(model, &instance.machine);
        Create {
            instance,
            version,
            metadata: self.metadata(),
        }
    }

    fn delete(&mut self, model: &Model) -> Delete {
        let instance = self.instance(model);
        let (expect_state, expect_revision) = self.expectations(model, &instance);
        Delete {
            instance,
            expect_state,
            expect_revision,
            metadata: self.metadata(),
        }
    }

    fn migrate(&mut self, model: &Model) -> Migrate {
        let instance = self.instance(model);
        let (expect_state, expect_revision) = self.expectations(model, &instance);
        let version = self.version(model, &instance.machine);
        let count = self.rng.random_range(0..4);
        let mapping = |it: &mut Self| (state_name(it.pick(STATES)), state_name(it.pick(STATES)));
        let states = (0..count).map(|_| mapping(self)).collect();
        Migrate {
            instance,
            version,
            states,
            expect_state,
            expect_revision,
            metadata: self.metadata(),
        }
    }

    fn operation(&mut self, model: &Model) -> Operation {
        match self.rng.random_range(0..10) {
            0..=4 => Operation::Transition(self.transition(model)),
            5..=6 => Operation::Create(self.create(model)),
            7 => Operation::Delete(self.delete(model)),
            _ => {
                let instance = self.instance(model);
                let expect = match self.rng.random_range(0..8) {
                    0..=4 => Expectation::Exists,
                    5 => Expectation::Missing,
                    6 => Expectation::InState(state_name(self.pick(STATES))),
                    _ => Expectation::AtRevision(Revision(self.rng.random_range(0..4))),
                };
                Operation::Check(Precondition { instance, expect })
            }
        }
    }

    /// What is pending, due or not, and what was pending some time ago.
    fn expirations(&mut self, model: &Model) -> Vec<Expiration> {
        let pending = model.places.iter().filter_map(|(id, place)| {
            let (instance, revision) = (id.clone(), Revision(place.revision));
            Some(Expiration {
                instance,
                revision,
                deadline: Timestamp(place.deadline?),
            })
        });
        let mut list: Vec<_> = pending.collect();
        if self.chance(30) {
            list.append(&mut self.expirations);
        }
        if self.chance(30) {
            self.expirations = list.clone();
        }
        if self.chance(10) && !list.is_empty() {
            list[0].deadline.0 -= 1;
        }
        list
    }
}
