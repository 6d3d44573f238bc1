//! Around every request: measurements, and limits on the requests that reach the service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, IF_MATCH, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;

use super::rest::Rest;
use super::routes::MACHINES;
use crate::api::Edge;
use crate::api::problem::Problem;
use lockstep_proto::ErrorCode;

/// The service enforces its deadline; this is how much later the request is abandoned.
const GRACE: Duration = Duration::from_secs(1);

/// Counts and times every request, under labels that a client cannot choose, and refuses bodies whose
/// declared length is too large: all but definitions, which have a limit of their own.
pub(super) async fn observe(
    State(edge): State<Arc<Edge>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = method_label(request.method());
    // Cloning shares the text.
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let body_bytes_max = edge.limits.body_bytes_max;
    let too_large = |length| route != MACHINES && length > body_bytes_max as u64;
    let mut response = match declared_length(request.headers()) {
        Some(length) if too_large(length) => {
            Problem::body_too_large(body_bytes_max).into_response()
        }
        _ => match foreign(&request, &edge.limits.cors_origins) {
            Some(problem) => problem.into_response(),
            None => next.run(request).await,
        },
    };
    // Responses become stale at once, so they must not be cached.
    let cached = response.headers_mut().entry(CACHE_CONTROL);
    cached.or_insert(HeaderValue::from_static("no-store"));
    let now = Instant::now();
    let took = now.duration_since(began);
    let metrics = &edge.metrics;
    metrics
        .http_requests_total
        .with_label_values(&[route, method, response.status().as_str()])
        .inc();
    metrics
        .http_request_seconds
        .with_label_values(&[route, method])
        .observe(took.as_secs_f64());
    edge.report.http_requests.record(took, now);
    response
}

/// Bounds the number of requests in the service, and the time of each.
pub(super) async fn admit(
    State((edge, timeout)): State<(Arc<Edge>, Duration)>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_permit) = edge.admission.try_acquire() else {
        edge.metrics.overload_total.inc();
        let detail = format!(
            "this node already serves {} requests; nothing was executed; retry later",
            edge.limits.concurrency_max
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

/// Refuses a body where an operation has none: what it says would be ignored.
pub(super) async fn refuse_body(request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, mut body) = request.into_parts();
    while !body.is_end_stream() {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) if frame.data_ref().is_none_or(|data| data.is_empty()) => {}
            Some(_) => {
                let detail = "this operation has no request body; nothing was executed";
                return Err(Problem::new(ErrorCode::InvalidBody, detail));
            }
        }
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Refuses `If-Match` where an operation has no revision to compare: it would be ignored.
pub(super) async fn refuse_condition(request: Request, next: Next) -> Result<Response, Problem> {
    if request.headers().contains_key(IF_MATCH) {
        let detail = "this operation does not evaluate If-Match; nothing was executed";
        return Err(Problem::new(ErrorCode::InvalidHeader, detail));
    }
    Ok(next.run(request).await)
}

/// Refuses a change for a page of another origin, unless that origin is `allowed`. A browser asks before
/// most such requests (CORS), but submits forms and plain text and loads images without asking.
///
/// Pages cannot forge the headers that this relies on. `Sec-Fetch-Site` is sent only to https and to
/// localhost; without it, an `Origin` other than the requested host is foreign. A client other than a
/// browser sends neither.
fn foreign(request: &Request, allowed: &[String]) -> Option<Problem> {
    if !changes(request) {
        return None;
    }
    let headers = request.headers();
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let is_own = match (headers.get("sec-fetch-site"), origin) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, None) => true,
        (None, Some(origin)) => {
            let host = headers.get(HOST).map(HeaderValue::as_bytes);
            let authority = || request.uri().authority().map(|it| it.as_str().as_bytes());
            let scheme_end = origin.windows(3).position(|it| it == b"://");
            let named = scheme_end.map(|at| &origin[at + 3..]);
            named.is_some_and(|it| {
                host.or_else(authority)
                    .is_some_and(|host| it.eq_ignore_ascii_case(host))
            })
        }
    };
    let is_allowed = |it: &String| it == "*" || Some(it.as_bytes()) == origin;
    if is_own || allowed.iter().any(is_allowed) {
        return None;
    }
    let origin = String::from_utf8_lossy(origin.unwrap_or(b"another origin"));
    let origin: String = origin.chars().take(200).collect();
    let detail = format!(
        "this request would change something, and a page of {origin} sent it; nothing was executed; to allow it, add the origin to http.cors_origins"
    );
    Some(Problem::new(ErrorCode::OriginNotAllowed, detail))
}

/// Whether a request may change something.
fn changes(request: &Request) -> bool {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => request.uri().query().is_some(),
        (&Method::GET, "/counter" | "/timer") => true,
        (&Method::GET | &Method::HEAD | &Method::OPTIONS, _) => false,
        _ => true,
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
