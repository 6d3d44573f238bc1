//! What a client asks for, and how it travels through the log.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{EventName, InstanceId, InvalidName, Revision, StateName, Timestamp};

/// One log entry's worth of requests, under one leader's stamp.
///
/// The requests are applied in order, each with its own outcome: one that is rejected changes
/// nothing for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The proposing leader's clock. [`State::apply`](crate::State::apply) never lets time go back.
    pub stamp: Timestamp,
    /// The requests, oldest first.
    pub requests: Vec<Request>,
}

/// A command with what makes it safe to send twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which node took the request in, and as its how-manieth.
    pub origin: Origin,
    /// The caller's own key, when it gave one.
    pub key: Option<IdempotencyKey>,
    /// What to do.
    pub command: Command,
}

/// A run of a node process, as the source of a numbered sequence of requests.
///
/// Drawn at random when a node starts: a restarted node is a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Where a request entered the cluster: the request id of RIFL (Lee et al., SOSP 2015).
///
/// The state keeps one outcome per request that is still outstanding, not one per request of the
/// last minutes: everything below `answered_below` is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session of the node that took the request in.
    pub session: SessionId,
    /// The request's number in that session; the first is 1.
    pub sequence: u64,
    /// All requests of the session below this number are answered and will not be sent again.
    pub answered_below: u64,
}

/// What the state machine can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Move an instance along one transition.
    Transition(Transition),
}

impl Command {
    /// The command's name in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Command::Transition(_) => "transition",
        }
    }
}

/// Moves an instance along one transition, if its definition and the caller's expectations allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transition {
    /// The instance to move.
    pub instance: InstanceId,
    /// Where to, or by what.
    pub trigger: Trigger,
    /// Refuse unless the instance is in this state.
    pub expect_state: Option<StateName>,
    /// Refuse unless the instance is at this revision.
    pub expect_revision: Option<Revision>,
}

/// What names the transition to take.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The state to go to.
    To(StateName),
    /// The event that happened.
    Event(EventName),
}

/// A caller's own name for a request: the same key gets the first outcome again.
///
/// 1 to 128 printable ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key accepted, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Parses a key.
    pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
        let value = value.as_ref();
        let reason = if value.is_empty() {
            "it is empty"
        } else if value.len() > Self::LEN_MAX {
            "it is longer than 128 bytes"
        } else if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            "only printable ASCII characters are allowed"
        } else {
            return Ok(Self(value.into()));
        };
        Err(InvalidName {
            kind: "idempotency key",
            value: value.chars().take(80).collect(),
            reason,
        })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
