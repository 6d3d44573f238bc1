//! The life of a node, from the first moment of its process: in which phase it is, how far it has got, and what
//! it waits for.
//!
//! Before the service is available, the interfaces answer from this: `/livez` shows the phase, and every other request
//! is refused with its text. The service manager gets the same text.

use std::fmt;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opens the data folder: reads and checks its log.
    OpeningLog,
    /// Restores the state from its snapshot.
    RestoringSnapshot,
    /// Applies the entries after the snapshot that it knew to be committed.
    Reapplying,
    /// Belongs to no cluster, and looks for one.
    Discovering,
    /// Belongs to a cluster, and catches up with it.
    Joining,
    /// Serves.
    Serving,
    /// Is stopping: still serves requests, but is not ready.
    Stopping,
}

impl Phase {
    /// What is counted in it.
    fn unit(self) -> &'static str {
        match self {
            Phase::RestoringSnapshot => "bytes",
            _ => "entries",
        }
    }

    /// The reason why a node in this phase is not ready.
    fn doing(self) -> &'static str {
        match self {
            Phase::OpeningLog => "it is opening its log",
            Phase::RestoringSnapshot => "it is restoring its snapshot",
            Phase::Reapplying => "it is re-applying its log",
            Phase::Discovering => "it does not belong to a cluster yet",
            Phase::Joining => "it is still applying its log",
            Phase::Serving => "it is serving",
            Phase::Stopping => "it is stopping",
        }
    }
}

/// The life of one node, shared by all who ask for it.
#[derive(Debug)]
pub struct Lifecycle(Mutex<Now>);

#[derive(Debug)]
struct Now {
    phase: Phase,
    since: Instant,
    /// How much of the phase is done; 0 of 0 if that is not known.
    done: u64,
    total: u64,
    /// Why the node belongs to no cluster yet; empty if that is not known.
    waiting: String,
}

impl Now {
    fn begun(phase: Phase, total: u64) -> Self {
        Self {
            phase,
            since: Instant::now(),
            done: 0,
            total,
            waiting: String::new(),
        }
    }

    /// Bytes or entries done, of the total, if that is known.
    fn progress(&self) -> Option<(u64, u64)> {
        (self.total > 0).then_some((self.done.min(self.total), self.total))
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self(Mutex::new(Now::begun(Phase::OpeningLog, 0)))
    }
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        self.0.lock().phase
    }

    pub fn enter(&self, phase: Phase) {
        self.begin(phase, 0);
    }

    /// Enters a phase that has `total` bytes or entries to work through.
    pub fn begin(&self, phase: Phase, total: u64) {
        *self.0.lock() = Now::begun(phase, total);
    }

    /// Sets how much of `phase` is done, if the node is in that phase. Cheap: called for every log entry.
    pub fn advance(&self, phase: Phase, done: u64) {
        let mut now = self.0.lock();
        if now.phase == phase {
            now.done = done;
        }
    }

    /// Sets why the node belongs to no cluster yet.
    pub fn set_waiting(&self, reason: &str) {
        reason.clone_into(&mut self.0.lock().waiting);
    }

    /// Whether the node has not served yet.
    pub fn is_starting(&self) -> bool {
        self.phase() < Phase::Serving
    }

    /// The phase, its progress and its duration, for programs.
    pub fn json(&self) -> Value {
        let now = self.0.lock();
        let mut json = json!({
            "phase": now.phase,
            "phase_ms": u64::try_from(now.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        if let Some((done, total)) = now.progress() {
            json["progress"] = json!({"done": done, "total": total, "unit": now.phase.unit()});
        }
        if !now.waiting.is_empty() {
            json["waiting"] = now.waiting.as_str().into();
        }
        json
    }
}

/// Why the node is not ready, for people.
impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.0.lock();
        f.write_str(now.phase.doing())?;
        if let Some((done, total)) = now.progress() {
            write!(f, ": {done} of {total} {}", now.phase.unit())?;
        }
        match now.waiting.as_str() {
            "" => Ok(()),
            waiting => write!(f, ": {waiting}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_shows_its_progress_until_the_next_begins() {
        let life = Lifecycle::default();
        assert_eq!(life.to_string(), "it is opening its log");
        assert_eq!(life.json()["progress"], Value::Null);
        life.begin(Phase::RestoringSnapshot, 40);
        life.advance(Phase::RestoringSnapshot, 12);
        assert_eq!(
            life.to_string(),
            "it is restoring its snapshot: 12 of 40 bytes"
        );
        life.begin(Phase::Reapplying, 7);
        life.advance(Phase::RestoringSnapshot, 40);
        let json = life.json();
        assert_eq!(json["phase"], "reapplying");
        assert_eq!(
            json["progress"],
            json!({"done": 0, "total": 7, "unit": "entries"})
        );
        life.enter(Phase::Discovering);
        life.set_waiting("1 of 3 nodes have answered");
        assert!(life.is_starting());
        assert_eq!(
            life.to_string(),
            "it does not belong to a cluster yet: 1 of 3 nodes have answered"
        );
        life.enter(Phase::Serving);
        assert!(!life.is_starting());
        assert_eq!(life.json()["waiting"], Value::Null);
    }
}
