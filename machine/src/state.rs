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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Origin, SessionId, Transition, Trigger};

    const HOUR_MS: u64 = 60 * 60 * 1000;

    fn default() -> InstanceId {
        InstanceId::new("triad", "default").unwrap()
    }

    fn name(state: &str) -> StateName {
        StateName::new(state).unwrap()
    }

    fn to(state: &str) -> Transition {
        let trigger = Trigger::To(name(state));
        Transition {
            instance: default(),
            trigger,
            expect_state: None,
            expect_revision: None,
        }
    }

    fn origin(session: u64, sequence: u64, answered_below: u64) -> Origin {
        Origin {
            session: SessionId(session),
            sequence,
            answered_below,
        }
    }

    /// Applies one request under a stamp.
    fn send(
        state: &mut State,
        stamp: u64,
        origin: Origin,
        key: Option<&str>,
        it: Transition,
    ) -> Reply {
        let key = key.map(|key| IdempotencyKey::new(key).unwrap());
        let request = Request {
            origin,
            key,
            command: Command::Transition(it),
        };
        let mut replies = state.apply(&Batch {
            stamp: Timestamp(stamp),
            requests: vec![request],
        });
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    /// The code of a rejection, or "moved".
    fn code(reply: &Reply) -> &'static str {
        match &reply.outcome {
            Outcome::Transitioned(_) => "moved",
            Outcome::Rejected(rejection) => rejection.code(),
        }
    }

    fn at(state: &State) -> (String, u64) {
        let instance = state.instance(&default()).unwrap();
        (instance.state.to_string(), instance.revision.0)
    }

    fn key_limits(keys_max: u64, key_retention_ms: u64) -> State {
        State::new(Limits {
            keys_max,
            key_retention_ms,
            ..Limits::default()
        })
    }

    #[test]
    fn the_built_in_instance_walks_its_graph_and_nothing_else() {
        let legal = ["first second", "first third", "second third", "third first"];
        for from in ["first", "second", "third"] {
            for target in ["first", "second", "third"] {
                let mut state = State::default();
                if from != "first" {
                    send(&mut state, 1, origin(1, 1, 1), None, to(from));
                }
                assert_eq!(at(&state).0, from);
                let reply = send(&mut state, 1, origin(1, 2, 1), None, to(target));
                let moved = legal.contains(&format!("{from} {target}").as_str());
                assert_eq!(
                    code(&reply),
                    if moved { "moved" } else { "illegal_transition" }
                );
                assert_eq!(at(&state).0, if moved { target } else { from });
            }
        }
    }

    #[test]
    fn a_move_tells_where_from_and_when_and_a_state_where_to() {
        let mut state = State::default();
        let reply = send(&mut state, 7, origin(1, 1, 1), None, to("second"));
        let expected = Outcome::Transitioned(crate::outcome::Transitioned {
            instance: default(),
            version: Version(1),
            from: name("first"),
            to: name("second"),
            event: None,
            revision: Revision(1),
            at: Timestamp(7),
        });
        assert_eq!(
            reply,
            Reply {
                outcome: expected,
                replayed: false
            }
        );
        assert_eq!(state.allowed(&default()), [name("third")]);
        assert_eq!(state.allowed(&InstanceId::new("triad", "x").unwrap()), []);
        assert_eq!(state.instance(&default()).unwrap().changed_at, Timestamp(7));
    }

    #[test]
    fn expectations_are_checked_before_the_target() {
        let mut state = State::default();
        let nowhere = || to("nowhere");
        let both = Transition {
            expect_state: Some(name("x")),
            expect_revision: Some(Revision(9)),
            ..nowhere()
        };
        let revision = Transition {
            expect_revision: Some(Revision(9)),
            ..nowhere()
        };
        let met = Transition {
            expect_state: Some(name("first")),
            expect_revision: Some(Revision(0)),
            ..nowhere()
        };
        let stranger = Transition {
            instance: InstanceId::new("triad", "x").unwrap(),
            ..both.clone()
        };
        let nothing = Transition {
            instance: InstanceId::new("x", "x").unwrap(),
            ..both.clone()
        };
        let codes: Vec<_> = [nothing, stranger, both, revision, met]
            .into_iter()
            .enumerate()
            .map(|(i, it)| code(&send(&mut state, 1, origin(1, i as u64 + 1, 1), None, it)))
            .collect();
        assert_eq!(
            codes,
            [
                "unknown_machine",
                "unknown_instance",
                "state_mismatch",
                "revision_mismatch",
                "unknown_state"
            ]
        );
        assert_eq!(at(&state), ("first".to_owned(), 0));
    }

    #[test]
    fn time_never_goes_back() {
        let mut state = State::default();
        for (stamp, now) in [(10, 10), (4, 10), (11, 11)] {
            state.apply(&Batch {
                stamp: Timestamp(stamp),
                requests: vec![],
            });
            assert_eq!(state.now(), Timestamp(now));
        }
    }

    #[test]
    fn a_request_sent_twice_is_executed_once() {
        let mut state = State::default();
        let first = send(&mut state, 1, origin(1, 1, 1), None, to("second"));
        assert_eq!(code(&first), "moved");
        let hash = state.hash();
        assert_eq!(
            send(&mut state, 1, origin(1, 1, 1), None, to("second")),
            first
        );
        assert_eq!(at(&state), ("second".to_owned(), 1));
        assert_ne!(
            state.hash(),
            hash,
            "the session's last use is part of the state"
        );
    }

    #[test]
    fn what_is_answered_is_forgotten_and_never_runs_again() {
        let mut state = State::default();
        send(&mut state, 1, origin(1, 1, 1), None, to("second"));
        send(&mut state, 1, origin(1, 2, 1), None, to("third"));
        assert_eq!(state.remembered(), (0, 2));
        send(&mut state, 1, origin(1, 3, 3), None, to("first"));
        assert_eq!(state.remembered(), (0, 1));
        // A late copy that knows less does not take the word back.
        assert_eq!(
            code(&send(&mut state, 1, origin(1, 2, 1), None, to("second"))),
            "request_expired"
        );
        assert_eq!(at(&state), ("first".to_owned(), 3));
    }

    #[test]
    fn the_session_idle_for_longest_is_forgotten_and_cannot_run_its_old_requests() {
        let mut state = State::new(Limits {
            sessions_max: 2,
            ..Limits::default()
        });
        send(&mut state, 1, origin(1, 1, 1), None, to("second"));
        send(&mut state, 1, origin(2, 1, 1), None, to("third"));
        send(&mut state, 1, origin(1, 2, 2), None, to("first"));
        send(&mut state, 1, origin(3, 1, 1), None, to("second"));
        assert_eq!(
            state.remembered(),
            (0, 2),
            "sessions 1 and 3, one reply each"
        );
        assert_eq!(
            code(&send(&mut state, 1, origin(2, 2, 2), None, to("third"))),
            "request_expired"
        );
        assert_eq!(
            code(&send(&mut state, 1, origin(1, 3, 3), None, to("third"))),
            "moved"
        );
    }

    #[test]
    fn the_same_key_gets_the_first_outcome_again_a_refusal_too() {
        let mut state = State::default();
        let refused = send(&mut state, 1, origin(1, 1, 1), Some("k"), to("first"));
        assert_eq!(code(&refused), "illegal_transition");
        send(&mut state, 1, origin(1, 2, 1), None, to("third"));
        let again = send(&mut state, 9, origin(2, 1, 1), Some("k"), to("first"));
        assert_eq!(
            again,
            Reply {
                outcome: refused.outcome,
                replayed: true
            }
        );
        // The copy's own copy is told as the copy was.
        assert_eq!(
            send(&mut state, 9, origin(2, 1, 1), Some("k"), to("first")),
            again
        );
        assert_eq!(at(&state), ("third".to_owned(), 1));
    }

    #[test]
    fn a_key_used_for_something_else_is_refused() {
        let mut state = State::default();
        send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
        let other = Transition {
            expect_revision: Some(Revision(1)),
            ..to("second")
        };
        assert_eq!(
            code(&send(&mut state, 1, origin(1, 2, 1), Some("k"), other)),
            "idempotency_key_reused"
        );
        assert_eq!(
            code(&send(
                &mut state,
                1,
                origin(1, 3, 1),
                Some("k"),
                to("second")
            )),
            "moved"
        );
        assert_eq!(state.remembered().0, 1);
    }

    #[test]
    fn a_key_is_remembered_for_its_retention_and_not_longer() {
        let mut state = key_limits(10, HOUR_MS);
        send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
        let last = send(
            &mut state,
            1 + HOUR_MS,
            origin(1, 2, 1),
            Some("k"),
            to("second"),
        );
        assert!(last.replayed);
        let after = send(
            &mut state,
            2 + HOUR_MS,
            origin(1, 3, 1),
            Some("k"),
            to("second"),
        );
        assert_eq!(
            (code(&after), after.replayed),
            ("illegal_transition", false)
        );
    }

    #[test]
    fn the_oldest_key_makes_room_for_a_new_one() {
        let mut state = key_limits(2, HOUR_MS);
        for (sequence, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            send(
                &mut state,
                1,
                origin(1, sequence, sequence),
                Some(key),
                to("second"),
            );
        }
        assert_eq!(state.remembered().0, 2);
        assert!(send(&mut state, 1, origin(1, 5, 5), Some("b"), to("second")).replayed);
        assert!(!send(&mut state, 1, origin(1, 6, 6), Some("a"), to("second")).replayed);
    }

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut state = State::default();
        let (before, hash) = (state.clone(), state.hash());
        send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
        assert_eq!(before.hash(), hash);
        assert_ne!(state.hash(), hash);
    }

    #[test]
    fn limits_of_zero_remember_nothing_they_need_not() {
        let mut state = State::new(Limits {
            keys_max: 0,
            key_retention_ms: 0,
            sessions_max: 0,
        });
        let first = send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
        assert_eq!(
            send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second")),
            first
        );
        assert_eq!(state.remembered(), (0, 1));
    }
}
