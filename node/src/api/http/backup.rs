//! `/v1/cluster/backup`: the state of the cluster as a file.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use lockstep_proto::ErrorCode;

use super::query::Query;
use crate::api::call::Call;
use crate::api::problem::Problem;

pub(super) async fn backup(call: Call, Query(()): Query<()>) -> Result<Response, Problem> {
    let backup = call.edge.service.backup(call.left()).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (
            CONTENT_DISPOSITION,
            "attachment; filename=\"lockstep.backup\"",
        ),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(backup)).into_response())
}

/// axum answers HEAD with the handler of GET.
pub(super) async fn refuse_head() -> Problem {
    let detail = "HEAD is not allowed here: it would write a backup, and send nothing of it";
    Problem::new(ErrorCode::MethodNotAllowed, detail).allow("GET")
}
