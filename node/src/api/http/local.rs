//! Routes that concern this process alone: liveness, metrics, report, version.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use lockstep_proto::ErrorCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::query::{Amount, Millis, Query, ReportName, missing, query};
use super::starting::alive_in;
use crate::api::Edge;
use crate::api::problem::Problem;
use crate::telemetry::report::NAMES_MAX;
use crate::telemetry::{build, logs};

/// The answer of `/counter` and `/timer` without parameters.
const SUCCESS: &str = "success";

pub(super) async fn alive(State(edge): State<Arc<Edge>>) -> Json<Value> {
    alive_in(edge.service.lifecycle())
}

const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_1: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(edge): State<Arc<Edge>>, headers: HeaderMap) -> Response {
    edge.show_use();
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|it| it.contains(OPEN_METRICS));
    let (format, text) = match headers.get_all(ACCEPT).iter().any(accepts) {
        true => (OPEN_METRICS_1, edge.metrics.encode_open_metrics()),
        false => (prometheus::TEXT_FORMAT, edge.metrics.encode()),
    };
    ([(CONTENT_TYPE, format)], text).into_response()
}

/// Times itself, so that the next report shows how long this one took.
pub(super) async fn report(State(edge): State<Arc<Edge>>) -> Json<Value> {
    let began = Instant::now();
    let summary = Json(edge.report.summary(began));
    let ended = Instant::now();
    edge.report.write_metrics.record(ended - began, ended);
    summary
}

/// The answer of `/version`.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServerVersion {
    version: &'static str,
    /// The date of the commit that was built, RFC 3339.
    build_date: &'static str,
    /// Nanoseconds since the node started.
    uptime: u64,
}

pub(super) async fn version(State(edge): State<Arc<Edge>>) -> Json<ServerVersion> {
    Json(ServerVersion {
        version: build::version(),
        build_date: build::build_date(),
        uptime: u64::try_from(edge.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
    })
}

query! {
    Count {
        /// The counter; `counterhandler.counter` without it.
        name: Option<ReportName>,
        /// How much to add; requires `name`; default 1.
        by: Option<Amount>,
    }
}

query! {
    Time {
        /// The timer; `timerhandler.timer` without it.
        name: Option<ReportName>,
        /// Milliseconds, with `name`.
        ms: Option<Millis>,
    }
}

/// Without parameters: adds 1 to `counterhandler.counter`.
pub(super) async fn counter(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    Query(Count { name, by }): Query<Count>,
) -> Result<Response, Problem> {
    if uri.query().is_none_or(str::is_empty) {
        edge.report.counter_handler.add(1);
        return Ok(SUCCESS.into_response());
    }
    let name = name.ok_or_else(|| missing("name"))?.0;
    let by = by.map_or(1, |it| it.0);
    let count = edge.report.counter(&name)?.add(by);
    Ok(Json(json!({ "name": name, "count": count })).into_response())
}

/// Without parameters: times itself as `timerhandler.timer`.
pub(super) async fn timer(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    Query(Time { name, ms }): Query<Time>,
) -> Result<Response, Problem> {
    let began = Instant::now();
    if uri.query().is_none_or(str::is_empty) {
        let response = SUCCESS.into_response();
        let ended = Instant::now();
        edge.report.timer_handler.record(ended - began, ended);
        return Ok(response);
    }
    let name = name.ok_or_else(|| missing("name"))?.0;
    let took = ms.ok_or_else(|| missing("ms"))?.0;
    edge.report.timer(&name)?.record(took, began);
    Ok(Json(json!({ "name": name, "ms": took.as_secs_f64() * 1e3 })).into_response())
}

impl Edge {
    /// Shows how much of the limits of this interface is used.
    fn show_use(&self) {
        let quota = |name, (used, limit)| self.metrics.quota(name, used, limit);
        let max = self.limits.concurrency_max;
        let used = max.saturating_sub(self.admission.available_permits());
        quota("http_requests", (used as u64, max as u64));
        quota("watchers", self.watchers.taken());
        let (counters, timers) = self.report.names();
        let names_max = NAMES_MAX as u64;
        quota("report_counters", (counters as u64, names_max));
        quota("report_timers", (timers as u64, names_max));
        let lost = &self.metrics.log_lines_lost_total;
        lost.inc_by(logs::lost_lines().saturating_sub(lost.get()));
    }
}

/// On a route whose `GET` changes something.
pub(super) async fn refuse_head() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "HEAD is not allowed here: the request would change something; use GET or POST",
    )
    .allow("GET,POST")
}
