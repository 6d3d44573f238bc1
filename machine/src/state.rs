//! The replicated state and its one entry point, [`State::apply`].

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::command::{Batch, Command, IdempotencyKey, Request};
use crate::definition::{Compiled, Definition, triad};
use crate::ids::{InstanceId, MachineName, Revision, StateName, Timestamp, Version};
use crate::instance::Instance;
use crate::outcome::{Outcome, Rejection, Reply};
use crate::requests::{Fingerprint, FirstUse, Keys, Seen, Sessions, StoredReply};
use crate::{snapshot, transition};

/// Everything the cluster agrees on. Cloning is O(1): the maps share their structure.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) limits: Limits,
    pub(crate) clock: Timestamp,
    pub(crate) definitions: OrdMap<MachineName, OrdMap<Version, Arc<Compiled>>>,
    pub(crate) instances: OrdMap<InstanceId, Instance>,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
}

/// The bounds that decide outcomes. Part of the replicated state: every node must use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many callers' keys are remembered.
    pub keys_max: u64,
    /// For how long a caller's key is remembered, in milliseconds of cluster time.
    pub key_retention_ms: u64,
    /// How many sessions are remembered (at least 1); the one idle for longest goes first.
    pub sessions_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys_max: 100_000,
            key_retention_ms: 24 * 60 * 60 * 1000,
            sessions_max: 1024,
        }
    }
}

/// A hash over the whole state: equal on every node that applied the same log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateHash(pub u128);

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
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
        let triad = Compiled::new(triad()).expect("the built-in definition is valid");
        let machine = triad.definition().name.clone();
        let id = InstanceId::new(machine.as_str(), "default")
            .expect("the literal is a valid instance name");
        let version = Version(1);
        let instance = Instance {
            version,
            state: triad.definition().initial.clone(),
            revision: Revision(0),
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
        };
        Self {
            limits,
            clock: Timestamp(0),
            definitions: OrdMap::unit(machine, OrdMap::unit(version, Arc::new(triad))),
            instances: OrdMap::unit(id, instance),
            keys: Keys::default(),
            sessions: Sessions::default(),
        }
    }

    /// Applies one log entry: each request in order, each with its own reply.
    ///
    /// A request that was applied before changes nothing and gets its first reply again, for as
    /// long as its [`Origin`](crate::Origin) says that it is outstanding. A copy under the same
    /// caller's key gets the first outcome again, marked as replayed, until the key is forgotten.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        self.clock = self.clock.max(batch.stamp);
        self.keys
            .forget_expired(self.clock, self.limits.key_retention_ms);
        batch
            .requests
            .iter()
            .map(|request| self.apply_request(request))
            .collect()
    }

    fn apply_request(&mut self, request: &Request) -> Reply {
        match self
            .sessions
            .look_up(request.origin, self.limits.sessions_max)
        {
            Seen::Before(reply) => reply,
            Seen::Expired => Reply {
                outcome: Outcome::Rejected(Rejection::RequestExpired),
                replayed: false,
            },
            Seen::Never => {
                let stored = match &request.key {
                    Some(key) => self.execute_keyed(key, &request.command),
                    None => self.execute_once(&request.command),
                };
                let reply = stored.to_reply();
                self.sessions.store(request.origin, stored);
                reply
            }
        }
    }

    fn execute_keyed(&mut self, key: &IdempotencyKey, command: &Command) -> StoredReply {
        let fingerprint = Fingerprint::of(command);
        if let Some(first) = self.keys.get(key) {
            if first.fingerprint == fingerprint {
                return StoredReply {
                    outcome: first.outcome.clone(),
                    replayed: true,
                };
            }
            let reused = Outcome::Rejected(Rejection::KeyReused);
            return StoredReply {
                outcome: Arc::new(reused),
                replayed: false,
            };
        }
        let reply = self.execute_once(command);
        let outcome = reply.outcome.clone();
        let first = FirstUse {
            fingerprint,
            outcome,
            stored_at: self.clock,
        };
        self.keys.store(key.clone(), first, self.limits.keys_max);
        reply
    }

    fn execute_once(&mut self, command: &Command) -> StoredReply {
        let outcome = match command {
            Command::Transition(command) => transition::execute(self, command),
        };
        StoredReply {
            outcome: Arc::new(outcome),
            replayed: false,
        }
    }

    /// Cluster time: the highest stamp applied.
    pub fn now(&self) -> Timestamp {
        self.clock
    }

    /// The bounds this state keeps.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// An instance by its id.
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.instances.get(id)
    }

    /// A definition by name and version.
    pub fn definition(&self, name: &MachineName, version: Version) -> Option<&Definition> {
        self.compiled(name, version).map(Compiled::definition)
    }

    /// Where an instance may go from where it is, in the definition's order; empty when unknown.
    pub fn allowed(&self, id: &InstanceId) -> Vec<StateName> {
        let exits = self.instance(id).and_then(|instance| {
            self.compiled(&id.machine, instance.version)?
                .exits(&instance.state)
        });
        exits
            .map(|exits| exits.allowed().to_vec())
            .unwrap_or_default()
    }

    /// Every instance with its id, in order of id.
    pub fn instances(&self) -> impl Iterator<Item = (&InstanceId, &Instance)> {
        self.instances.iter()
    }

    /// How many outcomes are kept for repeated requests: by caller's key, and by session.
    pub fn remembered(&self) -> (usize, usize) {
        (self.keys.len(), self.sessions.replies())
    }

    /// The state as self-contained records, in a fixed order: the snapshot form.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
        snapshot::records(self.clone())
    }

    /// The hash over [`records`](State::records): xxh3 (128 bits) of each record behind its length
    /// as a little-endian `u64`. Costs one pass over the state.
    pub fn hash(&self) -> StateHash {
        let mut hash = Xxh3::new();
        for record in self.records() {
            hash.update(&(record.len() as u64).to_le_bytes());
            hash.update(&record);
        }
        StateHash(hash.digest128())
    }

    pub(crate) fn has_machine(&self, name: &MachineName) -> bool {
        self.definitions.contains_key(name)
    }

    pub(crate) fn compiled(&self, name: &MachineName, version: Version) -> Option<&Compiled> {
        self.definitions.get(name)?.get(&version).map(Arc::as_ref)
    }

    pub(crate) fn instance_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.instances.get_mut(id)
    }
}
