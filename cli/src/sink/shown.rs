//! Display of sinks.

use lockstep_client::{SinkPhase, SinkStatus};

/// Seconds behind, to the tenth.
pub(super) fn seconds(it: &SinkStatus) -> String {
    format!("{:.1}", it.lag_ms as f64 / 1e3)
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
    match it.phase() {
        SinkPhase::Absent => Some(
            "do nothing if the destination is not needed yet: the sink starts once its host is in DNS"
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
        SinkPhase::Unspecified
        | SinkPhase::Opening
        | SinkPhase::Seeding
        | SinkPhase::Following => (it.dead_letters > 0).then(letters),
    }
}
