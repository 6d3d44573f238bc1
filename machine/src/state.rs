//! The replicated state and its one entry point, [`State::apply`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::Batch;
use crate::definition::Definition;
use crate::ids::{InstanceId, MachineName, StateName, Timestamp, Version};
use crate::instance::Instance;
use crate::outcome::Reply;

/// Everything the cluster agrees on. Cloning is O(1): the maps share their structure.
#[derive(Debug, Clone)]
pub struct State {}

/// The bounds that decide outcomes. Part of the replicated state: every node must use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many callers' keys are remembered.
    pub keys_max: u64,
    /// For how long a caller's key is remembered, in milliseconds of cluster time.
    pub key_retention_ms: u64,
    /// How many sessions are remembered; the one idle for longest goes first.
    pub sessions_max: u64,
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
        unimplemented!()
    }
}

impl State {
    /// Applies one log entry: each request in order, each with its own reply.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        let _ = batch;
        unimplemented!()
    }

    /// Cluster time: the highest stamp applied.
    pub fn now(&self) -> Timestamp {
        unimplemented!()
    }

    /// An instance by its id.
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        let _ = id;
        unimplemented!()
    }

    /// A definition by name and version.
    pub fn definition(&self, name: &MachineName, version: Version) -> Option<&Definition> {
        let _ = (name, version);
        unimplemented!()
    }

    /// Where an instance may go from where it is, in the definition's order; empty when unknown.
    pub fn allowed(&self, id: &InstanceId) -> Vec<StateName> {
        let _ = id;
        unimplemented!()
    }

    /// Every instance with its id, in order of id.
    pub fn instances(&self) -> impl Iterator<Item = (&InstanceId, &Instance)> {
        std::iter::empty()
    }

    /// How many outcomes are kept for repeated requests: by caller's key, and by session.
    pub fn remembered(&self) -> (usize, usize) {
        unimplemented!()
    }

    /// The state as self-contained records, in a fixed order: the snapshot form.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
        std::iter::empty()
    }

    /// The hash over [`records`](State::records). Costs one pass over the state.
    pub fn hash(&self) -> StateHash {
        unimplemented!()
    }
}
