//! `/v1/sinks`: the sinks and their status.

use axum::Json;
use axum::http::StatusCode;
use lockstep_machine::{SinkName, Timestamp};
use lockstep_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::described::{Full, Malformed, Missing, Refused, Unanswered};
use super::input::{Call, SinkPath};
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use crate::sink::{CHECK_MAX, Hop, SinkStatus, phase_name};

/// A sink, as seen by the node that runs it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SinkBody {
    #[schema(value_type = SinkName)]
    name: String,
    /// postgres, mongo or webhook.
    kind: String,
    /// The destination's address, without secrets.
    address: String,
    /// What it follows: `machine` or `machine/prefix`; everything if empty.
    follows: Vec<String>,
    /// elsewhere, absent, opening, seeding, following, retrying, failing or halted.
    phase: String,
    /// Progress of a backfill, while one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    seeding: Option<SeedingBody>,
    /// Why it is not following; null if it is.
    reason: Option<String>,
    /// Start of this phase: RFC 3339, by the node's clock.
    since: Timestamp,
    /// The revision of the sink's checkpoint.
    revision: Option<u64>,
    /// The revision of the last backfill.
    seeded_revision: Option<u64>,
    /// Kept events after the checkpoint.
    lag_events: u64,
    /// Age of the oldest of them, in milliseconds.
    lag_ms: u64,
    /// Events delivered since the sink started on this node.
    events: u64,
    /// Errors since the sink started on this node.
    errors: u64,
    /// Events and states that the destination rejected permanently.
    dead_letters: u64,
    /// The last write, by the node's clock.
    written_at: Option<Timestamp>,
}

/// Progress of a backfill.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SeedingBody {
    /// Instances written.
    done: u64,
    /// Instances in all.
    total: u64,
}

/// The sinks, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SinksBody {
    sinks: Vec<SinkBody>,
    /// The node that runs them and reports this.
    node: String,
}

/// One sink.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownSinkBody {
    #[serde(flatten)]
    sink: SinkBody,
    /// The node that runs it and reports this.
    node: String,
}

/// A test of a destination.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckBody {
    /// Whether every step succeeded.
    ok: bool,
    /// In order; nothing follows a step that failed.
    steps: Vec<StepBody>,
    /// The node that ran the test.
    node: String,
}

/// One step of a test.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StepBody {
    /// What was done.
    step: String,
    /// How long it took.
    took_ms: f64,
    ok: bool,
    /// What was seen, or what failed.
    detail: String,
}

/// A requested backfill.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReseedBody {
    /// The sink that will run a backfill.
    sink: String,
}

/// A sink of this node, for `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct PhaseBody {
    name: String,
    phase: String,
}

impl From<SinkStatus> for PhaseBody {
    fn from(it: SinkStatus) -> Self {
        let phase = phase_name(it.phase());
        Self {
            name: it.name,
            phase,
        }
    }
}

/// Every sink that is configured, as the leader sees it.
#[utoipa::path(
    get, path = "/v1/sinks", operation_id = "list_sinks", tag = "sinks",
    responses(
        (status = 200, body = SinksBody, description = "The sinks"),
        Malformed, Unanswered,
    ),
)]
pub(super) async fn list(call: Call, Query(()): Query<()>) -> Result<Json<SinksBody>, Problem> {
    let listed = call.edge.leaders.list(Hop::First, call.left()).await?;
    Ok(Json(SinksBody {
        sinks: listed.sinks.into_iter().map(SinkBody::from).collect(),
        node: listed.node,
    }))
}

/// One sink, as the leader sees it.
#[utoipa::path(
    get, path = "/v1/sinks/{sink}", operation_id = "show_sink", tag = "sinks",
    params(SinkPath),
    responses(
        (status = 200, body = ShownSinkBody, description = "The sink"),
        Malformed, Missing, Unanswered,
    ),
)]
pub(super) async fn show(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<Json<ShownSinkBody>, Problem> {
    let (sink, node) = call.edge.leaders.status(&sink, call.left()).await?;
    let sink = sink.into();
    Ok(Json(ShownSinkBody { sink, node }))
}

/// Tests the destination of a sink with a table or collection of its own: inserts several rows, finds one,
/// drops the table. May take a minute.
#[utoipa::path(
    post, path = "/v1/sinks/{sink}/check", operation_id = "check_sink", tag = "sinks",
    params(SinkPath),
    responses(
        (status = 200, body = CheckBody, description = "The steps, even if one of them failed"),
        Malformed, Missing,
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "The cluster has no leader, or this node is too busy", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 504, body = ProblemBody, content_type = "application/problem+json", description = "`sink_check_timeout`: the test did not finish within a minute"),
    ),
)]
pub(super) async fn check(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<Json<CheckBody>, Problem> {
    let checked = call
        .edge
        .leaders
        .check(&sink, Hop::First, CHECK_MAX)
        .await?;
    Ok(Json(checked.into()))
}

/// Requests a backfill: writes all current states to the destination again.
#[utoipa::path(
    post, path = "/v1/sinks/{sink}/reseed", operation_id = "reseed_sink", tag = "sinks",
    params(SinkPath),
    responses(
        (status = 202, body = ReseedBody, description = "Requested; it runs as soon as the destination is available"),
        Malformed, Missing, Refused, Full, Unanswered,
    ),
)]
pub(super) async fn reseed(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<(StatusCode, Json<ReseedBody>), Problem> {
    call.edge.sinks.reseed(&sink, call.left()).await?;
    Ok((StatusCode::ACCEPTED, Json(ReseedBody { sink })))
}

impl From<SinkStatus> for SinkBody {
    fn from(it: SinkStatus) -> Self {
        let phase = phase_name(it.phase());
        Self {
            name: it.name,
            kind: it.kind,
            address: it.address,
            follows: it.follows,
            phase,
            seeding: it.seeding.map(|it| SeedingBody {
                done: it.done,
                total: it.total,
            }),
            reason: it.reason,
            since: Timestamp(it.since_ms),
            revision: it.cursor.map(|place| place.revision),
            seeded_revision: it.seeded_revision,
            lag_events: it.lag_events,
            lag_ms: it.lag_ms,
            events: it.events,
            errors: it.errors,
            dead_letters: it.dead_letters,
            written_at: it.written_at_ms.map(Timestamp),
        }
    }
}

impl From<v1::CheckSinkResponse> for CheckBody {
    fn from(it: v1::CheckSinkResponse) -> Self {
        let steps: Vec<_> = it.steps.into_iter().map(StepBody::from).collect();
        Self {
            // No steps prove nothing.
            ok: !steps.is_empty() && steps.iter().all(|step| step.ok),
            steps,
            node: it.node,
        }
    }
}

impl From<v1::CheckStep> for StepBody {
    fn from(it: v1::CheckStep) -> Self {
        use v1::check_step::Result;
        let (ok, detail) = match it.result {
            Some(Result::Seen(seen)) => (true, seen),
            Some(Result::Failed(failed)) => (false, failed),
            None => (false, "the node reported no result".to_owned()),
        };
        Self {
            step: it.step,
            took_ms: it.took_us as f64 / 1e3,
            ok,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(phase: v1::SinkPhase) -> SinkStatus {
        SinkStatus {
            name: "reports".to_owned(),
            kind: "postgres".to_owned(),
            address: "postgres://lockstep@db:5432/reports".to_owned(),
            phase: phase.into(),
            since_ms: 1_700_000_000_000,
            lag_events: 12,
            lag_ms: 3400,
            ..Default::default()
        }
    }

    #[test]
    fn unknown_fields_of_a_status_are_null() {
        let shown = ShownSinkBody {
            sink: status(v1::SinkPhase::Opening).into(),
            node: "node2".to_owned(),
        };
        assert_eq!(
            serde_json::to_value(shown).unwrap(),
            json!({
                "name": "reports", "kind": "postgres",
                "address": "postgres://lockstep@db:5432/reports", "follows": [],
                "phase": "opening", "reason": null, "since": "2023-11-14T22:13:20.000Z",
                "revision": null, "seeded_revision": null, "lag_events": 12, "lag_ms": 3400,
                "events": 0, "errors": 0, "dead_letters": 0, "written_at": null, "node": "node2"
            })
        );
    }

    #[test]
    fn a_backfill_shows_its_progress() {
        let body = SinkBody::from(SinkStatus {
            seeding: Some(v1::SeedProgress { done: 3, total: 9 }),
            cursor: Some(v1::Place {
                revision: 7,
                position: 2,
            }),
            ..status(v1::SinkPhase::Seeding)
        });
        let body = serde_json::to_value(body).unwrap();
        assert_eq!(body["seeding"], json!({ "done": 3, "total": 9 }));
        assert_eq!(
            (&body["phase"], &body["revision"]),
            (&json!("seeding"), &json!(7))
        );
        let newer = SinkStatus {
            phase: 99,
            ..status(v1::SinkPhase::Opening)
        };
        assert_eq!(SinkBody::from(newer).phase, "unspecified");
    }

    #[test]
    fn a_check_is_ok_if_every_step_succeeded() {
        use v1::check_step::Result;
        let step = |result| v1::CheckStep {
            step: "connect".to_owned(),
            took_us: 1500,
            result,
        };
        let check = |steps| {
            let node = "node2".to_owned();
            CheckBody::from(v1::CheckSinkResponse { steps, node })
        };
        let seen = || step(Some(Result::Seen("PostgreSQL 17".to_owned())));
        let good = check(vec![seen(), seen()]);
        assert!(good.ok);
        assert_eq!((good.steps[0].took_ms, good.steps[0].ok), (1.5, true));
        let failed = step(Some(Result::Failed("no rights".to_owned())));
        let bad = check(vec![seen(), failed]);
        assert!(!bad.ok && !bad.steps[1].ok);
        assert_eq!(bad.steps[1].detail, "no rights");
        assert!(!check(vec![step(None)]).ok);
        assert!(!check(vec![]).ok);
    }
}
