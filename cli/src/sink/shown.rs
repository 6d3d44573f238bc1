//! Sinks in JSON, with the names and forms of HTTP's `/v1`, and in words.

use lockstep_client::{DeadLetter, SinkPhase, SinkStatus, Timestamp};
use serde_json::{Value, json};

use crate::shape;

pub(super) fn sink(it: &SinkStatus) -> Value {
    let mut object = json!({
        "name": it.name,
        "kind": it.kind,
        "address": it.address,
        "follows": it.follows,
        "phase": it.phase.as_str(),
        "reason": it.reason,
        "since": shape::at(it.since),
        "revision": it.cursor.map(|place| place.revision.0),
        "seeded_revision": it.seeded,
        "lag_events": it.lag_events,
        "lag_ms": u64::try_from(it.lag.as_millis()).unwrap_or(u64::MAX),
        "events": it.events,
        "errors": it.errors,
        "dead_letters": it.dead_letters,
        "written_at": shape::at(it.written_at.unwrap_or(Timestamp(0))),
    });
    if let SinkPhase::Seeding { done, total } = it.phase {
        object["seeding"] = json!({ "done": done, "total": total });
    }
    object
}

pub(super) fn dead_letter(it: &DeadLetter) -> Value {
    json!({
        "place": shape::place(it.event.cursor()),
        "event": shape::event(&it.event),
        "reason": it.reason,
        "attempts": it.attempts,
        "buried_at": shape::at(it.buried_at),
        "tried_at": shape::at(it.tried_at),
        "replay_wanted": it.replay_wanted,
    })
}

/// Seconds behind, to the tenth.
pub(super) fn seconds(it: &SinkStatus) -> String {
    format!("{:.1}", it.lag.as_secs_f64())
}

/// Text that others wrote, on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What to do about what a sink is doing; none where all is well.
pub(super) fn advice(it: &SinkStatus) -> Option<String> {
    let name = &it.name;
    let letters = || format!("`lockstep sink dead-letters {name}` shows what was refused, and why");
    match it.phase {
        SinkPhase::Absent => Some(
            "nothing, if that system is not wanted now: the sink begins by itself once its host has \
             an address"
                .to_owned(),
        ),
        SinkPhase::Retrying => Some(format!(
            "it is tried again by itself; `lockstep sink check {name}` shows how far one gets now"
        )),
        SinkPhase::Failing => Some(format!(
            "mend that at the far side or in the nodes' configuration, then see `lockstep sink check \
             {name}`; it is tried again by itself"
        )),
        SinkPhase::Halted => Some(format!(
            "{}; mend that, then `lockstep sink replay {name} --all`, or `lockstep sink discard \
             {name} EVENT` what may be lost",
            letters()
        )),
        SinkPhase::Elsewhere => {
            Some("ask again in a moment: who leads is changing just now".to_owned())
        }
        _ if it.dead_letters > 0 => Some(letters()),
        _ => None,
    }
}
