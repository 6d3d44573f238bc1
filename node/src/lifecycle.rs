//! The life of a node, from the first moment of its process: in which phase it is, how far it has got, and what
//! it waits for.
//!
//! Before the service is available, the interfaces answer from this: `/livez` shows the phase, and every other request
//! is refused with its text. The service manager gets the same text.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Opens the data folder: reads and checks its log.
    OpeningLog = 0,
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

const PHASES: [Phase; 7] = [
    Phase::OpeningLog,
    Phase::RestoringSnapshot,
    Phase::Reapplying,
    Phase::Discovering,
    Phase::Joining,
    Phase::Serving,
    Phase::Stopping,
];

impl Phase {
    /// A stable name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Phase::OpeningLog => "opening_log",
            Phase::RestoringSnapshot => "restoring_snapshot",
            Phase::Reapplying => "reapplying",
            Phase::Discovering => "discovering",
            Phase::Joining => "joining",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
        }
    }

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
pub struct Lifecycle {
    phase: AtomicU8,
    /// How much of the phase is done; 0 of 0 if that is not known.
    done: AtomicU64,
    total: AtomicU64,
    detail: Mutex<Detail>,
}

#[derive(Debug)]
struct Detail {
    since: Instant,
    /// Why the node belongs to no cluster yet; empty if that is not known.
    waiting: String,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::OpeningLog as u8),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            detail: Mutex::new(Detail {
                since: Instant::now(),
                waiting: String::new(),
            }),
        }
    }
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        let number = usize::from(self.phase.load(Ordering::Acquire));
        PHASES.get(number).copied().unwrap_or(Phase::Stopping)
    }

    pub fn enter(&self, phase: Phase) {
        self.begin(phase, 0);
    }

    /// Enters a phase that has `total` bytes or entries to work through.
    pub fn begin(&self, phase: Phase, total: u64) {
        // Locked until the end: whoever reads a phase and its detail gets both of one phase.
        let mut detail = self.detail.lock();
        *detail = Detail {
            since: Instant::now(),
            waiting: String::new(),
        };
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Sets how much of `phase` is done, if the node is in that phase. Cheap: called for every log entry.
    pub fn advance(&self, phase: Phase, done: u64) {
        if self.phase.load(Ordering::Relaxed) == phase as u8 {
            self.done.store(done, Ordering::Relaxed);
        }
    }

    /// Sets why the node belongs to no cluster yet.
    pub fn set_waiting(&self, reason: &str) {
        reason.clone_into(&mut self.detail.lock().waiting);
    }

    /// Whether the node has not served yet.
    pub fn is_starting(&self) -> bool {
        self.phase() < Phase::Serving
    }

    /// Bytes or entries done, of the total, if that is known.
    fn progress(&self) -> Option<(u64, u64)> {
        let total = self.total.load(Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed).min(total);
        (total > 0).then_some((done, total))
    }

    /// The phase, its progress and its duration, for programs.
    pub fn json(&self) -> Value {
        let detail = self.detail.lock();
        let (phase, progress) = (self.phase(), self.progress());
        let mut json = json!({
            "phase": phase.name(),
            "phase_ms": u64::try_from(detail.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        if let Some((done, total)) = progress {
            json["progress"] = json!({"done": done, "total": total, "unit": phase.unit()});
        }
        if !detail.waiting.is_empty() {
            json["waiting"] = detail.waiting.as_str().into();
        }
        json
    }
}

/// Why the node is not ready, for people.
impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail.lock();
        let phase = self.phase();
        f.write_str(phase.doing())?;
        if let Some((done, total)) = self.progress() {
            write!(f, ": {done} of {total} {}", phase.unit())?;
        }
        match detail.waiting.as_str() {
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

    #[test]
    fn every_phase_is_found_by_its_number() {
        for (number, phase) in PHASES.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
        }
    }
}
