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
use tokio::sync::Semaphore;

use super::Local;
use super::described::Malformed;
use super::problem::{Problem, ProblemBody};
use super::query::{Amount, Millis, Query, ReportName, missing, query};
use crate::telemetry::report::NAMES_MAX;
use crate::telemetry::{build, logs};

/// The answer of `/counter` and `/timer` without parameters.
const SUCCESS: &str = "success";

/// `GET /livez`: always 200 while the process runs.
#[utoipa::path(get, path = "/livez", tag = "node", responses(
    (status = 200, body = Object, description = "The process answers"),
))]
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_1: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`, in the text format of Prometheus, or of OpenMetrics for a scraper that accepts it.
#[utoipa::path(get, path = "/metrics", tag = "node", responses(
    (status = 200, content((String = "text/plain"), (String = "application/openmetrics-text")), description = "The metrics"),
))]
pub(super) async fn metrics(
    State(local): State<Arc<Local>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    local.show_use();
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|it| it.contains(OPEN_METRICS));
    let (format, text) = match headers.get_all(ACCEPT).iter().any(accepts) {
        true => (OPEN_METRICS_1, local.metrics.encode_open_metrics()),
        false => (prometheus::TEXT_FORMAT, local.metrics.encode()),
    };
    ([(CONTENT_TYPE, format)], text)
}

/// `GET /report`: counters and timers in the JSON of go-metrics. Times itself, so that the next
/// report shows how long this one took.
#[utoipa::path(get, path = "/report", tag = "node", responses(
    (status = 200, body = Object, description = "By name: `count` of a counter; `count`, `min`, `max`, `mean`, `stddev`, percentiles (nanoseconds) and rates (per second) of a timer"),
))]
pub(super) async fn report(State(local): State<Arc<Local>>) -> Response {
    let began = Instant::now();
    let response = Json(local.report.summary(began)).into_response();
    let ended = Instant::now();
    local.report.write_metrics.record(ended - began, ended);
    response
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

/// `GET /version`.
#[utoipa::path(get, path = "/version", tag = "node", responses(
    (status = 200, body = ServerVersion, description = "What is running"),
))]
pub(super) async fn version(State(local): State<Arc<Local>>) -> Json<ServerVersion> {
    Json(ServerVersion {
        version: build::version(),
        build_date: build::build_date(),
        uptime: u64::try_from(local.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
    })
}

query! {
    /// What to count.
    Count {
        /// The counter; `counterhandler.counter` without it.
        name: Option<ReportName>,
        /// How much to add; requires `name`; default 1.
        by: Option<Amount>,
    }
}

query! {
    /// What took how long.
    Time {
        /// The timer; `timerhandler.timer` without it.
        name: Option<ReportName>,
        /// Milliseconds, with `name`.
        ms: Option<Millis>,
    }
}

/// `GET|POST /counter?name=x&by=n`: adds `by`, or 1, to a counter of the report. Without
/// parameters: adds 1 to `counterhandler.counter`.
#[utoipa::path(method(get, post), path = "/counter", tag = "node", params(Count), responses(
    (status = 200, content((Object = "application/json"), (String = "text/plain")), description = "The counter's name and value; `success` without parameters"),
    Malformed,
    (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`too_many_names`: the limit on names is reached"),
))]
pub(super) async fn counter(
    State(local): State<Arc<Local>>,
    uri: Uri,
) -> Result<Response, Problem> {
    if uri.query().is_none_or(str::is_empty) {
        local.report.counter_handler.add(1);
        return Ok(SUCCESS.into_response());
    }
    let Query(Count { name, by }) = Query::of(&uri)?;
    let name = name.ok_or_else(|| missing("name"))?.0;
    let by = by.map_or(1, |it| it.0);
    let count = local.report.counter(&name)?.add(by);
    Ok(Json(json!({ "name": name, "count": count })).into_response())
}

/// `GET|POST /timer?name=x&ms=12.5`: records a duration in a timer of the report. Without
/// parameters: times itself as `timerhandler.timer`.
#[utoipa::path(method(get, post), path = "/timer", tag = "node", params(Time), responses(
    (status = 200, content((Object = "application/json"), (String = "text/plain")), description = "The timer's name and the duration; `success` without parameters"),
    Malformed,
    (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`too_many_names`: the limit on names is reached"),
))]
pub(super) async fn timer(State(local): State<Arc<Local>>, uri: Uri) -> Result<Response, Problem> {
    let began = Instant::now();
    if uri.query().is_none_or(str::is_empty) {
        let response = SUCCESS.into_response();
        let ended = Instant::now();
        local.report.timer_handler.record(ended - began, ended);
        return Ok(response);
    }
    let Query(Time { name, ms }) = Query::of(&uri)?;
    let name = name.ok_or_else(|| missing("name"))?.0;
    let took = ms.ok_or_else(|| missing("ms"))?.0;
    local.report.timer(&name)?.record(took, began);
    Ok(Json(json!({ "name": name, "ms": took.as_secs_f64() * 1e3 })).into_response())
}

impl Local {
    /// Shows how much of the limits of this interface is used.
    fn show_use(&self) {
        let taken = |max: usize, free: &Semaphore| {
            let used = max.saturating_sub(free.available_permits());
            (used as u64, max as u64)
        };
        let quota = |name, (used, limit)| self.metrics.quota(name, used, limit);
        let limits = &self.limits;
        quota(
            "http_requests",
            taken(limits.concurrency_max, &self.admission),
        );
        quota("watchers", self.watchers.taken());
        let (counters, timers) = self.report.names();
        let names_max = NAMES_MAX as u64;
        quota("report_counters", (counters as u64, names_max));
        quota("report_timers", (timers as u64, names_max));
        let lost = &self.metrics.log_lines_lost_total;
        lost.inc_by(logs::lost_lines().saturating_sub(lost.get()));
    }
}

/// Refuses `HEAD` on a route whose `GET` changes something.
pub(super) async fn refuse_head() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "HEAD is not allowed here: the request would change something; use GET or POST",
    )
    .allow("GET,POST")
}
