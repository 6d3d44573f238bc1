//! The status of a sink.

use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, Timestamp};
use lockstep_proto::v1;

use super::CheckStep;

/// A sink as this node sees it. Its progress is known only to the node that runs it, the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `postgres`, `mongo` or `webhook`.
    pub kind: &'static str,
    /// The destination's address, without secrets.
    pub address: String,
    /// What it follows: `machine` or `machine/prefix`; everything if empty.
    pub follows: Vec<String>,
    /// What it is doing.
    pub phase: Phase,
    /// Why it is not following.
    pub reason: Option<String>,
    /// Start of this phase, by the node's clock.
    pub since: Timestamp,
    /// The last event that was delivered or skipped.
    pub cursor: Option<EventCursor>,
    /// The revision of the last backfill.
    pub seeded: Option<GlobalRevision>,
    /// Kept events after `cursor`.
    pub lag_events: u64,
    /// Age of the oldest of them.
    pub lag: Duration,
    /// Events delivered since it started on this node.
    pub events: u64,
    /// Errors since it started on this node.
    pub errors: u64,
    /// Its dead letters.
    pub dead_letters: u64,
    /// The last write, by the node's clock.
    pub written_at: Option<Timestamp>,
}

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Another node leads and runs it.
    Elsewhere,
    /// It is optional, and its host name does not resolve.
    Absent,
    /// It is connecting.
    Opening,
    /// It writes all current states.
    Backfilling {
        /// Instances written.
        done: u64,
        /// Instances in all.
        total: u64,
    },
    /// It delivers events.
    Following,
    /// The destination is unavailable; the sink retries.
    Retrying,
    /// The destination rejects the sink, which keeps retrying; an operator must fix it.
    Failing,
    /// There is no room for another dead letter: an operator must replay or discard some.
    Halted,
}

impl Phase {
    /// Its name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Elsewhere => "elsewhere",
            Phase::Absent => "absent",
            Phase::Opening => "opening",
            Phase::Backfilling { .. } => "seeding",
            Phase::Following => "following",
            Phase::Retrying => "retrying",
            Phase::Failing => "failing",
            Phase::Halted => "halted",
        }
    }
}

impl From<&SinkStatus> for v1::SinkStatus {
    fn from(it: &SinkStatus) -> Self {
        let seeding = match it.phase {
            Phase::Backfilling { done, total } => Some(v1::SeedProgress { done, total }),
            _ => None,
        };
        Self {
            name: it.name.clone(),
            kind: it.kind.to_owned(),
            address: it.address.clone(),
            follows: it.follows.clone(),
            phase: v1::SinkPhase::from(it.phase).into(),
            seeding,
            reason: it.reason.clone(),
            since_ms: it.since.0,
            cursor: it.cursor.map(Into::into),
            seeded_revision: it.seeded.map(|revision| revision.0),
            lag_events: it.lag_events,
            lag_ms: u64::try_from(it.lag.as_millis()).unwrap_or(u64::MAX),
            events: it.events,
            errors: it.errors,
            dead_letters: it.dead_letters,
            written_at_ms: it.written_at.map(|at| at.0),
        }
    }
}

impl From<Phase> for v1::SinkPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Elsewhere => Self::Elsewhere,
            Phase::Absent => Self::Absent,
            Phase::Opening => Self::Opening,
            Phase::Backfilling { .. } => Self::Seeding,
            Phase::Following => Self::Following,
            Phase::Retrying => Self::Retrying,
            Phase::Failing => Self::Failing,
            Phase::Halted => Self::Halted,
        }
    }
}

impl From<CheckStep> for v1::CheckStep {
    fn from(it: CheckStep) -> Self {
        use v1::check_step::Result;
        Self {
            step: it.step,
            took_us: u64::try_from(it.took.as_micros()).unwrap_or(u64::MAX),
            result: Some(match it.result {
                Ok(seen) => Result::Seen(seen),
                Err(failed) => Result::Failed(failed),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backfilling() -> SinkStatus {
        SinkStatus {
            name: "reports".to_owned(),
            kind: "postgres",
            address: "postgres://lockstep@db:5432/reports".to_owned(),
            follows: vec!["order".to_owned()],
            phase: Phase::Backfilling { done: 3, total: 9 },
            reason: Some("the events after its checkpoint were compacted".to_owned()),
            since: Timestamp(1000),
            cursor: Some(EventCursor {
                revision: GlobalRevision(7),
                position: 2,
            }),
            seeded: Some(GlobalRevision(5)),
            lag_events: 12,
            lag: Duration::from_millis(3400),
            events: 40,
            errors: 2,
            dead_letters: 1,
            written_at: Some(Timestamp(2000)),
        }
    }

    #[test]
    fn a_status_is_encoded_with_all_fields() {
        let expected = v1::SinkStatus {
            name: "reports".to_owned(),
            kind: "postgres".to_owned(),
            address: "postgres://lockstep@db:5432/reports".to_owned(),
            follows: vec!["order".to_owned()],
            phase: v1::SinkPhase::Seeding.into(),
            seeding: Some(v1::SeedProgress { done: 3, total: 9 }),
            reason: Some("the events after its checkpoint were compacted".to_owned()),
            since_ms: 1000,
            cursor: Some(v1::Place {
                revision: 7,
                position: 2,
            }),
            seeded_revision: Some(5),
            lag_events: 12,
            lag_ms: 3400,
            events: 40,
            errors: 2,
            dead_letters: 1,
            written_at_ms: Some(2000),
        };
        assert_eq!(v1::SinkStatus::from(&backfilling()), expected);
    }

    #[test]
    fn every_phase_is_encoded_under_its_name() {
        for phase in [
            Phase::Elsewhere,
            Phase::Absent,
            Phase::Opening,
            Phase::Backfilling { done: 0, total: 0 },
            Phase::Following,
            Phase::Retrying,
            Phase::Failing,
            Phase::Halted,
        ] {
            let encoded = v1::SinkPhase::from(phase);
            let name = format!("SINK_PHASE_{}", phase.name().to_uppercase());
            assert_eq!(encoded.as_str_name(), name);
        }
    }

    #[test]
    fn a_step_reports_what_was_seen_or_what_failed() {
        use v1::check_step::Result;
        let step = |result| {
            v1::CheckStep::from(CheckStep {
                step: "insert 3".to_owned(),
                took: Duration::from_micros(1500),
                result,
            })
        };
        let seen = step(Ok("3 rows".to_owned()));
        assert_eq!((seen.step.as_str(), seen.took_us), ("insert 3", 1500));
        assert_eq!(seen.result, Some(Result::Seen("3 rows".to_owned())));
        let failed = step(Err("no rights".to_owned()));
        assert_eq!(failed.result, Some(Result::Failed("no rights".to_owned())));
    }
}
