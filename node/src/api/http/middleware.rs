//! Around every request: measurements, and limits on the requests that reach the service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::rest::Rest;
use super::{Local, MACHINES};
use crate::sink::CHECK_MAX;
use lockstep_proto::ErrorCode;

/// The service enforces its deadline; this is how much later the request is abandoned.
const GRACE: Duration = Duration::from_secs(1);

/// Counts and times every request, under labels that a client cannot choose, and refuses bodies whose
/// declared length is too large: all but definitions, which have a limit of their own.
pub(super) async fn observe(
    State(local): State<Arc<Local>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = method_label(request.method());
    // Cloning shares the text.
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let body_bytes_max = local.limits.body_bytes_max;
    let too_large = |length| route != MACHINES && length > body_bytes_max as u64;
    let mut response = match declared_length(request.headers()) {
        Some(length) if too_large(length) => {
            Problem::body_too_large(body_bytes_max).into_response()
        }
        _ => next.run(request).await,
    };
    // Responses become stale at once, so they must not be cached.
    let cached = response.headers_mut().entry(CACHE_CONTROL);
    cached.or_insert(HeaderValue::from_static("no-store"));
    let now = Instant::now();
    let took = now.duration_since(began);
    let metrics = &local.metrics;
    metrics
        .http_requests_total
        .with_label_values(&[route, method, response.status().as_str()])
        .inc();
    metrics
        .http_request_seconds
        .with_label_values(&[route, method])
        .observe(took.as_secs_f64());
    local.report.http_requests.record(took, now);
    response
}

/// Bounds the number of requests in the service, and the time of each.
pub(super) async fn admit(
    State(local): State<Arc<Local>>,
    request: Request,
    next: Next,
) -> Response {
    let timeout = local.limits.request_timeout;
    admit_for(timeout, &local, request, next).await
}

/// The same for requests that wait for a destination, which take longer.
pub(super) async fn admit_check(
    State(local): State<Arc<Local>>,
    request: Request,
    next: Next,
) -> Response {
    admit_for(CHECK_MAX, &local, request, next).await
}

async fn admit_for(timeout: Duration, local: &Local, request: Request, next: Next) -> Response {
    let Ok(_permit) = local.admission.try_acquire() else {
        local.metrics.overload_total.inc();
        let detail = format!(
            "this node already serves {} requests; nothing was executed; retry later",
            local.limits.concurrency_max
        );
        return Problem::new(ErrorCode::TooManyRequests, detail)
            .retry_after(Duration::from_secs(1))
            .into_response();
    };
    let timeout = timeout.saturating_add(GRACE);
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!(
                "no answer within {} ms; a write may or may not have been executed",
                timeout.as_millis()
            );
            Problem::new(ErrorCode::OutcomeUnknown, detail).into_response()
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A client may send any token as a method; the label comes from a fixed set.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Refuses what HTTP does not allow and hyper lets pass, and closes connections that cannot carry another
/// request. Around the router of real connections.
pub(super) async fn conform(request: Request, next: Next) -> Response {
    let (request, rest) = Rest::of(request);
    let mut response = match violation(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    if let Some(rest) = rest
        && !rest.discard().await
    {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

fn violation(request: &Request) -> Option<Problem> {
    let headers = request.headers();
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        let detail = format!("the request has {hosts} Host headers; an HTTP/1.1 request needs one");
        return Some(Problem::new(ErrorCode::InvalidHeader, detail));
    }
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !headers.get_all(TRANSFER_ENCODING).iter().all(chunked) {
        let detail =
            "the only supported Transfer-Encoding is chunked; compress with Content-Encoding: gzip";
        return Some(Problem::new(ErrorCode::UnsupportedTransferEncoding, detail));
    }
    None
}
