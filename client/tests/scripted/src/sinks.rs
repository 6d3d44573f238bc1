//! What a scripted node says of its sinks.

use lockstep_proto::v1;
use lockstep_proto::v1::check_step::Result as Step;
use tonic::{Code, Status};

use super::coded;
use super::plain::AT_MS;
use super::watching::{cursor, event};

/// One that follows.
pub fn following(name: &str) -> v1::SinkStatus {
    v1::SinkStatus {
        name: name.to_owned(),
        kind: "postgres".to_owned(),
        address: "postgres://lockstep@db:5432/reports".to_owned(),
        follows: vec!["order".to_owned()],
        phase: v1::SinkPhase::Following.into(),
        since_ms: AT_MS,
        cursor: Some(cursor(1204, 2)),
        seeded_revision: Some(17),
        lag_events: 3,
        lag_ms: 250,
        events: 1200,
        written_at_ms: Some(AT_MS + 1000),
        ..Default::default()
    }
}

/// One that is in trouble.
pub fn troubled(name: &str, phase: v1::SinkPhase, reason: &str) -> v1::SinkStatus {
    v1::SinkStatus {
        phase: phase.into(),
        reason: Some(reason.to_owned()),
        lag_events: 9000,
        lag_ms: 61_000,
        errors: 12,
        written_at_ms: None,
        ..following(name)
    }
}

pub fn listed(sinks: impl IntoIterator<Item = v1::SinkStatus>) -> v1::ListSinksResponse {
    v1::ListSinksResponse {
        sinks: sinks.into_iter().collect(),
        node: "node2".to_owned(),
    }
}

/// A check of two steps, of which the second came to this.
pub fn checked(second: Step) -> v1::CheckSinkResponse {
    let step = |step: &str, took_us, result| v1::CheckStep {
        step: step.to_owned(),
        took_us,
        result: Some(result),
    };
    v1::CheckSinkResponse {
        steps: vec![
            step("connect", 1500, Step::Seen("PostgreSQL 17.2".to_owned())),
            step("insert 3", 820, second),
        ],
        node: "node2".to_owned(),
    }
}

/// The dead letter of the event at a cursor.
pub fn letter(at: (u64, u32), reason: &str) -> v1::DeadLetter {
    v1::DeadLetter {
        event: Some(event(at)),
        reason: reason.to_owned(),
        attempts: 2,
        rejected_at_ms: AT_MS + 2000,
        tried_at_ms: AT_MS + 3000,
        replay_wanted: at.1 == 1,
    }
}

pub fn letters(
    letters: impl IntoIterator<Item = v1::DeadLetter>,
    next_cursor: Option<&str>,
) -> v1::ListDeadLettersResponse {
    v1::ListDeadLettersResponse {
        dead_letters: letters.into_iter().collect(),
        next_cursor: next_cursor.map(str::to_owned),
    }
}

/// No sink of that name, but others.
pub fn unknown() -> Status {
    let mut status = coded(Code::NotFound, "unknown_sink");
    let known = "mail,reports".parse().expect("it is ASCII");
    status.metadata_mut().insert("lockstep-known", known);
    status
}

pub fn unknown_letter() -> v1::Rejected {
    v1::Rejected {
        code: "unknown_dead_letter".to_owned(),
        message: "sink \"reports\" has no dead letter of event 9-0".to_owned(),
        ..Default::default()
    }
}
