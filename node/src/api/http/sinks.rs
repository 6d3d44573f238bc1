//! `/v1/sinks`: the sinks and their status.

use axum::Json;
use axum::http::StatusCode;
use lockstep_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::SinkPath;
use super::query::Query;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::sink::CHECK_MAX;

/// One sink.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownSinkBody {
    #[serde(flatten)]
    sink: v1::SinkStatus,
    /// The node that runs it and reports this.
    node: String,
}

pub(super) async fn list(
    call: Call,
    Query(()): Query<()>,
) -> Result<Json<v1::ListSinksResponse>, Problem> {
    let listed = call.edge.sinks.list(call.hop, call.left()).await?;
    Ok(Json(listed))
}

pub(super) async fn show(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<Json<ShownSinkBody>, Problem> {
    let (sink, node) = call.edge.sinks.status(&sink, call.left()).await?;
    Ok(Json(ShownSinkBody { sink, node }))
}

pub(super) async fn check(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<Json<v1::CheckSinkResponse>, Problem> {
    let checked = call.edge.sinks.check(&sink, call.hop, CHECK_MAX).await?;
    Ok(Json(checked))
}

pub(super) async fn reseed(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(()): Query<()>,
) -> Result<(StatusCode, Json<v1::SeedRequested>), Problem> {
    call.edge.sinks.reseed(&sink, call.left()).await?;
    Ok((StatusCode::ACCEPTED, Json(v1::SeedRequested { sink })))
}
