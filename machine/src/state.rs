//! The replicated state and its one entry point, [`State::apply`].

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use xxhash_rust::xxh3::Xxh3;

use crate::command::Command;
use crate::definition::{Compiled, Definition, triad};
use crate::execute::{BUILT_IN_INSTANCE, execute};
use crate::ids::{InstanceId, MachineName, Timestamp, Version};
use crate::instance::Instance;
use crate::level::FeatureLevel;
use crate::metadata::Metadata;
use crate::outcome::{Outcome, Reply};
use crate::rejection::Rejection;
use crate::request::{DecodedBatch, DecodedBody, Origin, RequestBody};
use crate::requests::{Fingerprint, FirstUse, Keys, Seen, Sessions, StoredReply};
use crate::settings::Limits;
use crate::snapshot::{self, SNAPSHOT_FORMAT};
use crate::world::{Machine, Pinned, World};

/// Everything the cluster agrees on. Cloning is O(1): the maps share their structure.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) world: World,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
}

/// A hash over the whole state. Nodes that have applied the same entries have the same hash if the format is
/// the same; hashes of different formats cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateHash {
    /// The format of the records that were hashed, [`SNAPSHOT_FORMAT`] in this build.
    pub format: u8,
    /// xxh3, 128 bits.
    pub value: u128,
}

/// Format and value, so that the text of two formats never looks like a divergence: `4:cec4...`.
impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.format, self.value)
    }
}

impl Default for State {
    /// The state before the first log entry: the built-in machine `triad` and its instance
    /// `triad/default`.
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl State {
    /// The state before the first log entry, under other limits than the default ones.
    pub fn new(limits: Limits) -> Self {
        // The built-in machine exists regardless of the limits.
        let triad = Compiled::new(triad(), &Limits::default());
        let triad = triad.expect("the built-in definition is valid");
        let machine = triad.definition.name.clone();
        let id = InstanceId::new(machine.as_str(), BUILT_IN_INSTANCE)
            .expect("the literal is a valid instance name");
        let version = Version(1);
        let initial = triad.initial().clone();
        let instance = Instance::new(version, initial, Timestamp(0), Metadata::default());
        let built_in = Machine {
            versions: OrdMap::unit(version, Pinned::new(triad)),
            last_version: version,
            ..Machine::default()
        };
        let mut world = World {
            limits,
            machines: OrdMap::unit(machine, built_in),
            ..World::default()
        };
        world.insert(&id, instance);
        Self {
            world,
            keys: Keys::default(),
            sessions: Sessions::default(),
        }
    }

    /// Applies one log entry: each request in order, each with its own reply.
    ///
    /// A request that was applied before changes nothing and gets its first reply again, for as
    /// long as its [`Origin`] says that it is outstanding. A copy under the same caller's key gets
    /// the first outcome again, marked as replayed, until the key is forgotten. A request whose
    /// body is malformed is rejected like one that cannot be executed.
    pub fn apply_decoded(&mut self, batch: &DecodedBatch<'_>) -> Vec<Reply> {
        let world = &mut self.world;
        world.clock = world.clock.max(batch.stamp);
        self.keys
            .forget_expired(world.clock, world.limits.key_retention_ms);
        let apply = |(origin, request): &(_, Option<_>)| self.apply_once(*origin, request.as_ref());
        batch.requests.iter().map(apply).collect()
    }

    /// Applies a request, or answers it from the tables; without one, its body is malformed.
    fn apply_once(&mut self, origin: Origin, request: Option<&DecodedBody<'_>>) -> Reply {
        match self
            .sessions
            .look_up(origin, self.world.limits.sessions_max)
        {
            Seen::Before(reply) => reply,
            Seen::Expired => self.rejected(Rejection::RequestExpired).to_reply(),
            Seen::Never => {
                let stored = match request {
                    Some(request) => self.execute_request(request),
                    None => self.rejected(Rejection::MalformedRequest),
                };
                let reply = stored.to_reply();
                self.sessions.store(origin, stored);
                reply
            }
        }
    }

    fn execute_request(&mut self, request: &DecodedBody<'_>) -> StoredReply {
        let RequestBody { command, key } = &request.body;
        let Some(key) = key else {
            return self.execute_once(command);
        };
        let fingerprint = Fingerprint::of(request.command_bytes);
        if let Some(first) = self.keys.first.get(key) {
            if first.fingerprint == fingerprint {
                return StoredReply {
                    outcome: first.outcome.clone(),
                    replayed: true,
                    revision: first.revision,
                };
            }
            return self.rejected(Rejection::KeyReused);
        }
        let reply = self.execute_once(command);
        let first = FirstUse {
            fingerprint,
            outcome: reply.outcome.clone(),
            stored_at: self.world.clock,
            revision: reply.revision,
        };
        self.keys.store(key.clone(), first, &self.world.limits);
        reply
    }

    fn execute_once(&mut self, command: &Command) -> StoredReply {
        let outcome = execute(&mut self.world, command);
        if let Outcome::SettingsUpdated(_) = outcome {
            self.keys.shrink(&self.world.limits);
            self.sessions.shrink(self.world.limits.sessions_max);
        }
        self.reply(outcome)
    }

    fn reply(&self, outcome: Outcome) -> StoredReply {
        StoredReply {
            outcome: Arc::new(outcome),
            replayed: false,
            revision: self.world.revision,
        }
    }

    fn rejected(&self, reason: Rejection) -> StoredReply {
        self.reply(Outcome::Rejected(reason))
    }

    /// The outcome that a command would have now. Changes nothing.
    pub fn dry_run(&self, command: &Command) -> Outcome {
        execute(&mut self.world.clone(), command)
    }

    /// Cluster time: the highest stamp applied.
    pub fn now(&self) -> Timestamp {
        self.world.clock
    }

    /// The feature level: what every member can apply.
    pub fn level(&self) -> FeatureLevel {
        self.world.level
    }

    /// The cluster settings.
    pub fn limits(&self) -> Limits {
        self.world.limits
    }

    /// An instance by its id.
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.world.instance(id)
    }

    /// A definition by name and version.
    pub fn definition(&self, name: &MachineName, version: Version) -> Option<&Definition> {
        let pinned = self.world.machines.get(name)?.versions.get(&version)?;
        Some(&pinned.compiled.definition)
    }

    /// Adds the allowed events to the rejection of a transition. Returns false if this state lacks the
    /// instance, or has an earlier revision of it.
    pub fn name_events(&self, rejection: &mut Rejection) -> bool {
        let Some((_, revision)) = rejection.current() else {
            return true;
        };
        let Some((id, state, events)) = rejection.events_mut() else {
            return true;
        };
        let Some(instance) = self.instance(id).filter(|it| it.revision >= revision) else {
            return false;
        };
        let exits = self.world.exits(id, instance.version, state);
        *events = exits.map(|exits| exits.events().cloned().collect());
        true
    }

    /// How many outcomes are kept for repeated requests: by caller's key, and by session.
    pub fn remembered(&self) -> (usize, usize) {
        (self.keys.order.len(), self.sessions.replies())
    }

    /// The state as self-contained records, in a fixed order: the snapshot form.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
        snapshot::records(self.clone())
    }

    /// The hash over [`records`](State::records): xxh3 (128 bits) of each record after its length
    /// as a little-endian `u64`. Costs one pass over the state.
    pub fn hash(&self) -> StateHash {
        let mut hash = Xxh3::new();
        for record in self.records() {
            hash.update(&(record.len() as u64).to_le_bytes());
            hash.update(&record);
        }
        StateHash {
            format: SNAPSHOT_FORMAT,
            value: hash.digest128(),
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
