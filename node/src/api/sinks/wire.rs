//! What a sink's status says, as it travels: HTTP tells the same, also of another node's sinks.

use std::time::Duration;

use lockstep_proto::v1;

use crate::sink::{CheckStep, Phase, SinkStatus};

pub(super) fn status(it: &SinkStatus) -> v1::SinkStatus {
    let seeding = match it.phase {
        Phase::Backfilling { done, total } => Some(v1::SeedProgress { done, total }),
        _ => None,
    };
    v1::SinkStatus {
        name: it.name.clone(),
        kind: it.kind.to_owned(),
        address: it.address.clone(),
        follows: it.follows.clone(),
        phase: phase(it.phase).into(),
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

fn phase(phase: Phase) -> v1::SinkPhase {
    match phase {
        Phase::Elsewhere => v1::SinkPhase::Elsewhere,
        Phase::Absent => v1::SinkPhase::Absent,
        Phase::Opening => v1::SinkPhase::Opening,
        Phase::Backfilling { .. } => v1::SinkPhase::Seeding,
        Phase::Following => v1::SinkPhase::Following,
        Phase::Retrying => v1::SinkPhase::Retrying,
        Phase::Failing => v1::SinkPhase::Failing,
        Phase::Halted => v1::SinkPhase::Halted,
    }
}

pub(super) fn step(it: CheckStep) -> v1::CheckStep {
    use v1::check_step::Result;
    v1::CheckStep {
        step: it.step,
        took_us: microseconds(it.took),
        result: Some(match it.result {
            Ok(seen) => Result::Seen(seen),
            Err(failed) => Result::Failed(failed),
        }),
    }
}

fn microseconds(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{EventCursor, GlobalRevision, Timestamp};

    fn seeding() -> SinkStatus {
        SinkStatus {
            name: "reports".to_owned(),
            kind: "postgres",
            address: "postgres://lockstep@db:5432/reports".to_owned(),
            follows: vec!["order".to_owned()],
            phase: Phase::Backfilling { done: 3, total: 9 },
            reason: Some("the events behind its place are no longer kept".to_owned()),
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
    fn a_status_is_told_in_full() {
        let expected = v1::SinkStatus {
            name: "reports".to_owned(),
            kind: "postgres".to_owned(),
            address: "postgres://lockstep@db:5432/reports".to_owned(),
            follows: vec!["order".to_owned()],
            phase: v1::SinkPhase::Seeding.into(),
            seeding: Some(v1::SeedProgress { done: 3, total: 9 }),
            reason: Some("the events behind its place are no longer kept".to_owned()),
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
        assert_eq!(status(&seeding()), expected);
    }

    #[test]
    fn every_phase_travels_under_its_own_name() {
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
            let told = super::phase(phase);
            let name = format!("SINK_PHASE_{}", phase.name().to_uppercase());
            assert_eq!(told.as_str_name(), name);
        }
    }

    #[test]
    fn a_step_says_what_was_seen_or_what_went_wrong() {
        use v1::check_step::Result;
        let step = |result| {
            super::step(CheckStep {
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
