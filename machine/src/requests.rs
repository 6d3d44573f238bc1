//! Deduplication: stored outcomes, so that a request that is sent twice is executed once.
//!
//! Each request is looked up in two tables, in this order:
//!
//! - [`Sessions`], by the request's [`Origin`], for duplicates that nodes create by forwarding and
//!   retrying. This is the completion table of RIFL (Lee et al., SOSP 2015): one reply per outstanding request.
//! - [`Keys`], by the caller's [`IdempotencyKey`], for duplicates that callers create. The first outcome,
//!   even if it is a rejection, is kept for a bounded time.
//!
//! The keys are bounded in number, time and bytes. The sessions are bounded in number; each holds the replies from
//! the oldest request that its node had outstanding on, and the node bounds how far it goes ahead of that one.
//!
//! Both evict in an order that depends only on the log, so every node evicts the same entries.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use minicbor::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_128;

use crate::codec;
use crate::ids::{GlobalRevision, IdempotencyKey, Timestamp};
use crate::outcome::{Outcome, Reply};
use crate::request::{Origin, SessionId};
use crate::settings::Limits;

/// A stored reply. The outcome is behind an `Arc`, because nodes of the persistent map are copied when a
/// snapshot shares them, and copying an `Arc` is cheaper than copying an outcome with its many names.
pub(crate) type StoredReply = Reply<Arc<Outcome>>;

impl StoredReply {
    pub(crate) fn to_reply(&self) -> Reply {
        Reply {
            outcome: Outcome::clone(&self.outcome),
            replayed: self.replayed,
            revision: self.revision,
        }
    }
}

/// The sessions that requests come from, with the replies to those still outstanding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    pub(crate) sessions: OrdMap<SessionId, Session>,
    /// Counts the requests that named a session; orders their last uses.
    pub(crate) uses: u64,
}

/// One session's window of outstanding requests.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Requests below this number must never be executed again. Never decreases.
    pub(crate) answered_below: u64,
    /// The value of [`Sessions::uses`] at its last request.
    pub(crate) last_used: u64,
    /// The replies from `answered_below` on, by sequence number.
    pub(crate) replies: OrdMap<u64, StoredReply>,
}

/// What the session table knows about a request.
pub(crate) enum Seen {
    /// It was never executed: execute it, then [`Sessions::store`] its reply.
    Never,
    /// It was executed; this was the reply.
    Before(Reply),
    /// It was already answered, or its session is forgotten: whether it was executed is unknown.
    Expired,
}

impl Sessions {
    /// Looks up a request, and drops the replies that its origin says are answered.
    ///
    /// A session is remembered from its first request on; if that makes more than `sessions_max`
    /// (at least 1), the one idle for longest is forgotten.
    pub(crate) fn look_up(&mut self, origin: Origin, sessions_max: u64) -> Seen {
        let Origin {
            session: id,
            sequence,
            answered_below,
        } = origin;
        if !self.sessions.contains_key(&id) {
            // Sequence numbers start at 1. An unknown session whose request says that others are answered
            // was known and has been evicted, so this may be a duplicate of an executed request.
            if answered_below > 1 {
                return Seen::Expired;
            }
            self.make_room(sessions_max);
            self.sessions.insert(
                id,
                Session {
                    answered_below,
                    last_used: 0,
                    replies: OrdMap::new(),
                },
            );
        }
        self.uses = self.uses.saturating_add(1);
        let Some(session) = self.sessions.get_mut(&id) else {
            return Seen::Expired;
        };
        session.last_used = self.uses;
        session.forget_below(answered_below);
        if sequence < session.answered_below {
            return Seen::Expired;
        }
        match session.replies.get(&sequence) {
            Some(reply) => Seen::Before(reply.to_reply()),
            None => Seen::Never,
        }
    }

    /// Keeps the reply to a request that was [`Seen::Never`] before.
    pub(crate) fn store(&mut self, origin: Origin, reply: StoredReply) {
        if let Some(session) = self.sessions.get_mut(&origin.session) {
            session.replies.insert(origin.sequence, reply);
        }
    }

    /// Forgets the sessions idle for longest until there are no more than allowed (at least 1).
    pub(crate) fn shrink(&mut self, sessions_max: u64) {
        self.make_room(sessions_max.max(1).saturating_add(1));
    }

    /// Makes room for one more session. Sessions are new only when a node starts, so a linear search is fine.
    fn make_room(&mut self, sessions_max: u64) {
        while !self.sessions.is_empty() && self.sessions.len() as u64 >= sessions_max {
            let idle = self
                .sessions
                .iter()
                .min_by_key(|(_, session)| session.last_used);
            let Some(id) = idle.map(|(id, _)| *id) else {
                return;
            };
            self.sessions.remove(&id);
        }
    }

    /// How many replies are kept.
    pub(crate) fn replies(&self) -> usize {
        self.sessions
            .values()
            .map(|session| session.replies.len())
            .sum()
    }
}

impl Session {
    fn forget_below(&mut self, answered_below: u64) {
        self.answered_below = self.answered_below.max(answered_below);
        while let Some(&(sequence, _)) = self.replies.get_min() {
            if sequence >= self.answered_below {
                return;
            }
            self.replies.remove(&sequence);
        }
    }
}

/// The callers' keys, with the first outcome of each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) first: OrdMap<IdempotencyKey, FirstUse>,
    /// The same keys, oldest first.
    pub(crate) order: Vector<IdempotencyKey>,
    /// Total size of the keys and their outcomes.
    pub(crate) bytes: u64,
}

/// The first use of a key.
#[derive(Debug, Clone)]
pub(crate) struct FirstUse {
    /// Fingerprint of the command: a different command with the same key is rejected.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) stored_at: Timestamp,
    pub(crate) revision: GlobalRevision,
}

impl FirstUse {
    /// What it counts against the bound in bytes: its key, its outcome and a fixed part.
    fn bytes(&self, key: &IdempotencyKey) -> u64 {
        64 + key.as_str().len() as u64 + codec::encoded_len(&*self.outcome)
    }
}

/// A hash over the bytes of a command, as the accepting node encoded it: every node of every build
/// computes the same. It stays comparable when commands gain optional fields, which are not written
/// where they are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Fingerprint {
    /// The version of the hash. Fingerprints of different versions never match.
    #[n(0)]
    version: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    hash: [u8; 16],
}

impl Fingerprint {
    /// Version 1: xxh3 (128 bits), big-endian.
    pub(crate) fn of(command: &[u8]) -> Self {
        Self {
            version: 1,
            hash: xxh3_128(command).to_be_bytes(),
        }
    }
}

impl Keys {
    /// Stores the first use of a key, and evicts the oldest keys if a limit is exceeded.
    pub(crate) fn store(&mut self, key: IdempotencyKey, first: FirstUse, limits: &Limits) {
        self.bytes += first.bytes(&key);
        self.order.push_back(key.clone());
        self.first.insert(key, first);
        self.shrink(limits);
    }

    /// Forgets the oldest until the bounds hold.
    pub(crate) fn shrink(&mut self, limits: &Limits) {
        while self.order.len() as u64 > limits.keys_max || self.bytes > limits.key_bytes_max {
            self.forget_oldest();
        }
    }

    /// Forgets the keys stored longer than `retention_ms` ago.
    pub(crate) fn forget_expired(&mut self, now: Timestamp, retention_ms: u64) {
        while let Some(first) = self.order.front().and_then(|key| self.first.get(key)) {
            if now.0.saturating_sub(first.stored_at.0) <= retention_ms {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(key) = self.order.pop_front()
            && let Some(first) = self.first.remove(&key)
        {
            self.bytes -= first.bytes(&key);
        }
    }

    /// How long ago the oldest was stored; 0 if there is none.
    pub(crate) fn oldest_age_ms(&self, now: Timestamp) -> u64 {
        let oldest = self.order.front().and_then(|key| self.first.get(key));
        oldest.map_or(0, |first| now.0.saturating_sub(first.stored_at.0))
    }
}
