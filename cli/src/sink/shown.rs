//! Sinks in JSON, with the fields of HTTP's `/v1`, and advice for people.

use lockstep_client::{SinkPhase, SinkStatus};
use serde_json::{Value, json};

pub(super) fn sink(it: &SinkStatus) -> Value {
    let mut object = json!({
        "name": it.name,
        "kind": it.kind,
        "address": it.address,
        "follows": it.follows,
        "phase": it.phase.as_str(),
        "reason": it.reason,
        "since": it.since,
        "revision": it.cursor.map(|place| place.revision.0),
        "seeded_revision": it.seeded,
        "lag_events": it.lag_events,
        "lag_ms": u64::try_from(it.lag.as_millis()).unwrap_or(u64::MAX),
        "events": it.events,
        "errors": it.errors,
        "dead_letters": it.dead_letters,
        "written_at": it.written_at,
    });
    if let SinkPhase::Seeding { done, total } = it.phase {
        object["seeding"] = json!({ "done": done, "total": total });
    }
    object
}

/// Seconds behind, to the tenth.
pub(super) fn seconds(it: &SinkStatus) -> String {
    format!("{:.1}", it.lag.as_secs_f64())
}

/// Text from elsewhere, on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What to do about a sink; none where all is well.
pub(super) fn advice(it: &SinkStatus) -> Option<String> {
    let name = &it.name;
    let letters =
        || format!("`lockstep sink dead-letters {name}` shows what was rejected, and why");
    match it.phase {
        SinkPhase::Absent => Some(
            "nothing, if the destination is not needed now: the sink starts once its host has an address"
                .to_owned(),
        ),
        SinkPhase::Retrying => Some(format!(
            "the sink keeps retrying; `lockstep sink check {name}` shows which step fails"
        )),
        SinkPhase::Failing => Some(format!(
            "fix it at the destination or in the nodes' configuration, then run `lockstep sink check \
             {name}`; the sink keeps retrying"
        )),
        SinkPhase::Halted => Some(format!(
            "{}; fix the cause, then `lockstep sink replay {name} --all`, or `lockstep sink discard \
             {name} EVENT` for those that may be lost",
            letters()
        )),
        SinkPhase::Elsewhere => {
            Some("try again in a moment: an election is in progress".to_owned())
        }
        _ if it.dead_letters > 0 => Some(letters()),
        _ => None,
    }
}
