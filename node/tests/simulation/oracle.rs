//! The invariants. Violations are collected rather than raised, because they are found inside other tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_machine::{
    DecodedBatch, IdempotencyKey, Origin, Outcome, Reply, RequestBody, SessionId, State, StateHash,
    StateName, Transitioned,
};

use lockstep_raft::consensus::{NodeId, Observer};

/// The transitions of the built-in machine, repeated here independently.
const MOVES: [(&str, &str); 4] = [
    ("first", "second"),
    ("first", "third"),
    ("second", "third"),
    ("third", "first"),
];

/// The state is hashed at every index that this divides.
const HASH_EVERY: u64 = 8;

/// The counts of a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub acknowledged: u64,
    pub replayed: u64,
    pub rejected: u64,
    pub unknown: u64,
    pub unavailable: u64,
    pub reads: u64,
    pub hashes_compared: u64,
    pub snapshots_built: u64,
    pub snapshots_installed: u64,
    pub snapshots_stale: u64,
    pub crashes: u64,
    pub transfers: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.replayed += other.replayed;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.unavailable += other.unavailable;
        self.reads += other.reads;
        self.hashes_compared += other.hashes_compared;
        self.snapshots_built += other.snapshots_built;
        self.snapshots_installed += other.snapshots_installed;
        self.snapshots_stale += other.snapshots_stale;
        self.crashes += other.crashes;
        self.transfers += other.transfers;
    }
}

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
    by_key: HashMap<IdempotencyKey, u64>,
    /// Transitions acknowledged as new, by revision.
    acknowledged: BTreeMap<u64, Transitioned>,
    /// The highest revision in any response so far: later linearizable reads must not be older.
    told: u64,
    hashes: BTreeMap<u64, (StateHash, NodeId)>,
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
            if let Some(key) = body.key.clone()
                && let Some(first) = self.by_key.insert(key.clone(), revision)
            {
                self.violated(format!(
                    "key {key} was executed twice: as revisions {first} and {revision}"
                ));
            }
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

    /// Changes the counts.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.known(|known| change(&mut known.counts));
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.known(|known| known.counts)
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

    /// The highest revision that any client knows now.
    pub fn told(&self) -> u64 {
        self.known(|known| known.told)
    }

    /// A client was told that its request, begun when clients knew `told`, was executed. `repeats`
    /// is the revision that an earlier answer to the same key named.
    pub fn acknowledged(
        &self,
        told: u64,
        reply: &Reply,
        repeats: Option<u64>,
        expected: Option<u64>,
    ) {
        let Outcome::Transitioned(made) = &reply.outcome else {
            return;
        };
        let revision = made.revision.0;
        self.known(|known| {
            known.counts.acknowledged += 1;
            known.counts.replayed += u64::from(reply.replayed);
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
                if revision <= told {
                    known.violated(format!(
                        "revision {revision} was made after clients knew {told}"
                    ));
                }
                if known.acknowledged.insert(revision, made.clone()).is_some() {
                    known.violated(format!(
                        "revision {revision} was acknowledged to two requests"
                    ));
                }
            }
            known.told = known.told.max(revision);
        });
    }

    /// A client was told a revision, as part of a linearizable answer begun when clients knew `told`.
    pub fn saw(&self, told: u64, revision: u64, state: &StateName, what: &str) {
        self.known(|known| {
            if revision < told {
                known.violated(format!(
                    "{what} saw revision {revision} after clients knew {told}"
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
            known.told = known.told.max(revision);
        });
    }

    /// A client was told that its request with this key, tried once only, changed nothing.
    pub fn never_executed(&self, key: &IdempotencyKey) {
        self.known(|known| {
            if let Some(revision) = known.by_key.get(key) {
                let text =
                    format!("{key} was said not to be executed, but it is revision {revision}");
                known.violated(text);
            }
        });
    }

    /// At the end, every node is at this revision.
    pub fn ended(&self, revision: u64) {
        self.known(|known| {
            let executed = known.executed.last_key_value().map_or(0, |(revision, _)| *revision);
            if revision != executed || revision != known.executed.len() as u64 || revision < known.told {
                let text = format!(
                    "the cluster ended at revision {revision}; {executed} was executed, {} was told",
                    known.told
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
            known.counts.hashes_compared += u64::from(node != self.node);
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
        self.oracle.count(|counts| counts.snapshots_built += 1);
    }

    fn snapshot_installed(&self, _: u64) {
        self.oracle.count(|counts| counts.snapshots_installed += 1);
    }
}
