//! `/v1/sinks`: the sinks and their status.

use axum::Json;
use axum::http::StatusCode;
use lockstep_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::described::{Full, Malformed, Missing, Refused, Unanswered};
use super::input::{Call, SinkPath};
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use crate::sink::{CHECK_MAX, Hop};

/// One sink.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownSinkBody {
    #[serde(flatten)]
    sink: v1::SinkStatus,
    /// The node that runs it and reports this.
    node: String,
}

/// A requested backfill.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReseedBody {
    /// The sink that will run a backfill.
    sink: String,
}

/// Every sink that is configured, as the leader sees it.
#[utoipa::path(
    get, path = "/v1/sinks", operation_id = "list_sinks", tag = "sinks",
    responses(
        (status = 200, body = v1::ListSinksResponse, description = "The sinks"),
        Malformed, Unanswered,
    ),
)]
pub(super) async fn list(
    call: Call,
    Query(()): Query<()>,
) -> Result<Json<v1::ListSinksResponse>, Problem> {
    let listed = call.edge.sinks.list(Hop::First, call.left()).await?;
    Ok(Json(listed))
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
    let (sink, node) = call.edge.sinks.status(&sink, call.left()).await?;
    Ok(Json(ShownSinkBody { sink, node }))
}

/// Tests a sink's destination in a separate table or collection: inserts rows, reads one back, drops the table.
/// May take up to a minute.
#[utoipa::path(
    post, path = "/v1/sinks/{sink}/check", operation_id = "check_sink", tag = "sinks",
    params(SinkPath),
    responses(
        (status = 200, body = v1::CheckSinkResponse, description = "The steps, even if one of them failed"),
        Malformed, Missing,
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "The cluster has no leader, or this node is too busy", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 504, body = ProblemBody, content_type = "application/problem+json", description = "`sink_check_timeout`: the check did not finish within a minute"),
    ),
)]
pub(super) async fn check(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<Json<v1::CheckSinkResponse>, Problem> {
    let checked = call.edge.sinks.check(&sink, Hop::First, CHECK_MAX).await?;
    Ok(Json(checked))
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
