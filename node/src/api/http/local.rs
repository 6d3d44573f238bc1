//! Routes that only look at this process: alive, metrics, report, version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Local;
use super::described::{Amount, Malformed, ReportName};
use super::input::Parameters;
use super::problem::{Problem, ProblemBody};
use crate::telemetry::build;
use crate::telemetry::report::{DURATION_MAX, NAMES_MAX, Summary};

/// `GET /livez`: that this answers is the answer.
#[utoipa::path(get, path = "/livez", tag = "node", responses(
    (status = 200, body = Object, description = "The process answers"),
))]
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

/// `GET /metrics`, in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "node", responses(
    (status = 200, body = String, content_type = "text/plain", description = "Prometheus text format"),
))]
pub(super) async fn metrics(State(local): State<Arc<Local>>) -> impl IntoResponse {
    local.show_use();
    (
        [(CONTENT_TYPE, prometheus::TEXT_FORMAT)],
        local.metrics.encode(),
    )
}

/// `GET /report`.
#[utoipa::path(get, path = "/report", tag = "node", responses(
    (status = 200, body = Object, description = "Counters and timers"),
))]
pub(super) async fn report(State(local): State<Arc<Local>>) -> Json<Summary> {
    Json(local.report.summary(Instant::now()))
}

/// The answer of `/version`, with the field names that its readers know.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    version: &'static str,
    build_date: &'static str,
    uptime: String,
}

/// `GET /version`.
#[utoipa::path(get, path = "/version", tag = "node", responses(
    (status = 200, body = Version, description = "What is running"),
))]
pub(super) async fn version(State(local): State<Arc<Local>>) -> Json<Version> {
    let seconds = Duration::from_secs(local.started.elapsed().as_secs());
    Json(Version {
        version: build::version(),
        build_date: build::build_date(),
        uptime: humantime::format_duration(seconds).to_string(),
    })
}

/// `GET|POST /counter?name=x&by=n`: adds `by`, or 1, to a counter of the report.
#[utoipa::path(method(get, post), path = "/counter", tag = "node", params(("name" = ReportName, Query, description = "The counter"), ("by" = Option<Amount>, Query, description = "How much to add; 1 without it")), responses(
    (status = 200, body = Object, description = "Counted"),
    Malformed,
    (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`too_many_names`: there are as many names as there may be"),
))]
pub(super) async fn counter(
    State(local): State<Arc<Local>>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let parameters = Parameters::parse(&uri, &["name", "by"])?;
    let name = parameters.require("name")?;
    let by = match parameters.get("by") {
        None => 1,
        Some(text) => text.parse::<u64>().map_err(|_| {
            Problem::bad_request(
                "invalid_parameter",
                "parameter \"by\" must be a whole number, 0 or more",
            )
        })?,
    };
    let count = local.report.counter(name)?.add(by);
    Ok(Json(json!({ "name": name, "count": count })))
}

/// `GET|POST /timer?name=x&ms=12.5`: gives a duration to a timer of the report.
#[utoipa::path(method(get, post), path = "/timer", tag = "node", params(("name" = ReportName, Query, description = "The timer"), ("ms" = f64, Query, minimum = 0, maximum = 3600000, description = "Milliseconds")), responses(
    (status = 200, body = Object, description = "Recorded"),
    Malformed,
    (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`too_many_names`: there are as many names as there may be"),
))]
pub(super) async fn timer(
    State(local): State<Arc<Local>>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let parameters = Parameters::parse(&uri, &["name", "ms"])?;
    let name = parameters.require("name")?;
    let took = parse_ms(parameters.require("ms")?)?;
    let now = Instant::now();
    let timer = local.report.timer(name, now)?;
    timer.record(took, now);
    Ok(Json(
        json!({ "name": name, "ms": took.as_secs_f64() * 1e3 }),
    ))
}

impl Local {
    /// The bounds that this interface keeps, as of now.
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
    }
}

/// `HEAD` on a route whose `GET` changes something.
pub(super) async fn refuse_head() -> Problem {
    Problem::method_not_allowed("HEAD is not possible here: the request would change something")
        .allow("GET,POST")
}

fn parse_ms(text: &str) -> Result<Duration, Problem> {
    let max = DURATION_MAX.as_secs_f64() * 1e3;
    match text.parse::<f64>() {
        // NaN and the infinities are in no range.
        Ok(ms) if (0.0..=max).contains(&ms) => Ok(Duration::from_secs_f64(ms / 1e3)),
        _ => {
            let detail =
                format!("parameter \"ms\" must be a number of milliseconds from 0 to {max}");
            Err(Problem::bad_request("invalid_parameter", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_finite_and_bounded() {
        assert_eq!(parse_ms("12.5").unwrap(), Duration::from_micros(12_500));
        assert_eq!(parse_ms("0").unwrap(), Duration::ZERO);
        assert_eq!(parse_ms("3600000").unwrap(), DURATION_MAX);
        for bad in ["", "-1", "NaN", "inf", "3600000.1", "1e400", "ten"] {
            assert_eq!(
                parse_ms(bad).unwrap_err().code,
                "invalid_parameter",
                "{bad:?}"
            );
        }
    }
}
