//! The invariants. Violations are collected rather than raised, because they are found inside other tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_machine::{
    DecodedBatch, IdempotencyKey, InstanceId, Origin, Outcome, Reply, RequestBody, SessionId,
    State, StateHash, StateName, Transitioned,
};

use super::counts::Counts;
use super::tokens::{Ledger, Token};
use lockstep_raft::consensus::{NodeId, Observer};

/// The transitions of the built-in machine, repeated here independently.
const MOVES: [(&str, &str); 4] = [
    ("first", "second"),
    ("first", "third"),
    ("second", "third"),
    ("third", "first"),
];

/// The state is hashed at every index that this divides.
const HASH_EVERY: u64 = 32;

/// Records everything that nodes have applied and clients have been answered.
#[derive(Clone, Default)]
pub struct Oracle(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    counts: Counts,
    violations: Vec<String>,
    /// Every transition that any node applied, by revision.
    executed: BTreeMap<u64, Executed>,
    by_origin: HashMap<(SessionId, u64), u64>,
    tokens: Ledger,
    /// Transitions acknowledged as new, by revision.
    acknowledged: BTreeMap<u64, Transitioned>,
    /// The highest revision in any response so far: later linearizable reads must not be older.
    answered: u64,
    hashes: BTreeMap<u64, (StateHash, NodeId)>,
    /// Who led, by term.
    leaders: BTreeMap<u64, NodeId>,
    /// Instances with a timeout that clients have created.
    created: Vec<InstanceId>,
}

#[derive(Debug, PartialEq)]
struct Executed {
    origin: (SessionId, u64),
    key: Option<IdempotencyKey>,
    from: StateName,
    to: StateName,
}

impl Known {
    fn violated(&mut self, what: String) {
        // The first violations are the informative ones.
        if self.violations.len() < 5 {
            self.violations.push(what);
        }
    }

    fn must(&mut self, hold: Result<(), String>) {
        if let Err(what) = hold {
            self.violated(what);
        }
    }

    fn applied(&mut self, node: NodeId, origin: Origin, body: &RequestBody, reply: &Reply) {
        let Outcome::Transitioned(made) = &reply.outcome else {
            return;
        };
        let revision = made.revision.0;
        let origin = (origin.session, origin.sequence);
        if !reply.replayed {
            let executed = Executed {
                origin,
                key: body.key.clone(),
                from: made.from.clone(),
                to: made.to.clone(),
            };
            if let Some(other) = self.executed.get(&revision) {
                if *other != executed {
                    let text = format!(
                        "node {node} executed revision {revision} as {executed:?}, another as {other:?}"
                    );
                    self.violated(text);
                }
                return;
            }
            self.check_history(revision, &executed);
            let once = self.tokens.executed(&body.command, revision);
            self.must(once);
            self.executed.insert(revision, executed);
        }
        if let Some(first) = self.by_origin.insert(origin, revision)
            && first != revision
        {
            self.violated(format!(
                "request {origin:?} came to revision {first} and to {revision}"
            ));
        }
    }

    fn check_history(&mut self, revision: u64, executed: &Executed) {
        if !MOVES.contains(&(executed.from.as_str(), executed.to.as_str())) {
            self.violated(format!(
                "revision {revision} is not a move of the machine: {executed:?}"
            ));
        }
        let before = match self.executed.get(&(revision - 1)) {
            None if revision == 1 => Some("first"),
            before => before.map(|before| before.to.as_str()),
        };
        if before != Some(executed.from.as_str()) {
            let text = format!(
                "revision {revision} begins in {}, the one before ended in {before:?}",
                executed.from
            );
            self.violated(text);
        }
    }
}

impl Oracle {
    /// What a process that starts is to report to.
    pub fn watcher(&self, node: NodeId) -> Arc<Watcher> {
        Arc::new(Watcher {
            node,
            oracle: self.clone(),
        })
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// Counts something that happened.
    pub fn count(&self, what: &'static str) {
        self.known(|known| known.counts.add(what, 1));
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.known(|known| known.counts.clone())
    }

    /// Records a violation.
    pub fn violated(&self, what: String) {
        self.known(|known| known.violated(what));
    }

    /// Fails if anything did not hold so far.
    pub fn check(&self) {
        let violations = self.known(|known| std::mem::take(&mut known.violations));
        assert!(violations.is_empty(), "{}", violations.join("\n  "));
    }

    /// The highest revision in any response so far.
    pub fn known_revision(&self) -> u64 {
        self.known(|known| known.answered)
    }

    /// A client was answered that its request, begun when clients knew `known_before`, was executed. `repeats`
    /// is the revision that an earlier answer to the same key named.
    pub fn acknowledged(
        &self,
        token: &Token,
        known_before: u64,
        reply: &Reply,
        repeats: Option<u64>,
        expected: Option<u64>,
    ) {
        let Outcome::Transitioned(made) = &reply.outcome else {
            return;
        };
        let revision = made.revision.0;
        self.known(|known| {
            known.counts.add("acknowledged", 1);
            known.counts.add("replayed", u64::from(reply.replayed));
            let once = known.tokens.acknowledged(token, revision);
            known.must(once);
            let same = known
                .executed
                .get(&revision)
                .is_some_and(|e| e.from == made.from && e.to == made.to);
            if !same {
                known.violated(format!(
                    "revision {revision} was acknowledged but never executed like that: {made:?}"
                ));
            }
            if repeats.is_some_and(|first| first != revision) {
                known.violated(format!(
                    "a key came to revision {repeats:?}, and to {revision} when repeated"
                ));
            }
            if expected.is_some_and(|expected| expected + 1 != revision) {
                known.violated(format!(
                    "revision {revision} was made although {expected:?} was expected"
                ));
            }
            if !reply.replayed && repeats.is_none() {
                if revision <= known_before {
                    known.violated(format!(
                        "revision {revision} was made after clients knew {known_before}"
                    ));
                }
                if known.acknowledged.insert(revision, made.clone()).is_some() {
                    known.violated(format!(
                        "revision {revision} was acknowledged to two requests"
                    ));
                }
            }
            known.answered = known.answered.max(revision);
        });
    }

    /// A client was answered with a revision, as part of a linearizable answer begun when clients knew `known_before`.
    pub fn saw(&self, known_before: u64, revision: u64, state: &StateName, what: &str) {
        self.known(|known| {
            if revision < known_before {
                known.violated(format!(
                    "{what} saw revision {revision} after clients knew {known_before}"
                ));
            }
            if revision > 0
                && known
                    .executed
                    .get(&revision)
                    .is_none_or(|executed| executed.to != *state)
            {
                known.violated(format!(
                    "{what} saw state {state} at revision {revision}, which is not so"
                ));
            }
            known.answered = known.answered.max(revision);
        });
    }

    /// A node leads in a term.
    pub fn leads(&self, term: u64, node: NodeId) {
        self.known(|known| {
            let first = *known.leaders.entry(term).or_insert(node);
            if first != node {
                known.violated(format!("nodes {first} and {node} both led in term {term}"));
            }
        });
    }

    /// A client was answered that this instance, which has a timeout, was created.
    pub fn created(&self, instance: InstanceId) {
        self.known(|known| known.created.push(instance));
    }

    /// Every instance with a timeout.
    pub fn all_created(&self) -> Vec<InstanceId> {
        self.known(|known| known.created.clone())
    }

    /// A client was answered that its request was not executed, and never will be.
    pub fn refused(&self, token: &Token) {
        self.known(|known| {
            let never = known.tokens.refused(token);
            known.must(never);
        });
    }

    /// At the end, every node is at this revision.
    pub fn ended(&self, revision: u64) {
        self.known(|known| {
            let executed = known.executed.last_key_value().map_or(0, |(revision, _)| *revision);
            if revision != executed || revision != known.executed.len() as u64 || revision < known.answered {
                let text = format!(
                    "the cluster ended at revision {revision}; {executed} was executed, clients know {}",
                    known.answered
                );
                known.violated(text);
            }
        });
    }
}

/// Reports what one process applies.
pub struct Watcher {
    node: NodeId,
    oracle: Oracle,
}

impl Observer for Watcher {
    fn applied(
        &self,
        index: u64,
        batch: &DecodedBatch<'_>,
        replies: &[Reply],
        state: &State,
        _: Duration,
    ) {
        self.oracle.known(|known| {
            for ((origin, body), reply) in batch.requests().zip(replies) {
                match body {
                    Some(body) => known.applied(self.node, origin, body, reply),
                    None => known.violated(format!("request {origin:?} is malformed")),
                }
            }
            if !index.is_multiple_of(HASH_EVERY) {
                return;
            }
            let hash = state.hash();
            let (other, node) = *known.hashes.entry(index).or_insert((hash, self.node));
            known
                .counts
                .add("hashes compared", u64::from(node != self.node));
            if other != hash {
                let text = format!(
                    "at log index {index} nodes {node} and {} differ: {other}, {hash}",
                    self.node
                );
                known.violated(text);
            }
        });
    }

    fn snapshot_built(&self, _: u64, _: Duration) {
        self.oracle.count("snapshots built");
    }

    fn snapshot_installed(&self, _: u64) {
        self.oracle.count("snapshots installed");
    }
}
