//! Around every request: measurements, and limits on the requests that reach the service.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, IF_MATCH, ORIGIN,
    TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use tower::{Layer, Service, ServiceExt as _, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

use super::rest::Rest;
use super::routes::MACHINES;
use crate::api::Edge;
use crate::api::problem::Problem;
use lockstep_proto::ErrorCode;

/// The service enforces its deadline; this is how much later the request is abandoned.
const GRACE: Duration = Duration::from_secs(1);
/// Where a GET may change something.
pub(super) const CHANGING_GETS: [&str; 3] = ["/", "/counter", "/timer"];
/// Smallest answer that is compressed for a client that accepts it, bytes.
const COMPRESSED_BYTES_MIN: u16 = 1024;

/// Puts a [`Guarded`] around each route. One layer with all that is needed, because each layer of axum boxes
/// the future of a request and clones all layers below it.
#[derive(Clone)]
pub(super) struct Guard(Arc<Guards>);

struct Guards {
    edge: Arc<Edge>,
    /// The route as metrics show it.
    route: &'static str,
    /// How long a request to the service may take; none for routes outside the limits on the service.
    timeout: Option<Duration>,
}

/// A route with its guard: counts and times every request, bounds those to the service, and refuses what
/// pages of other origins may not send.
#[derive(Clone)]
pub(super) struct Guarded<S> {
    guards: Arc<Guards>,
    inner: S,
}

impl Guard {
    pub(super) fn new(edge: &Arc<Edge>, route: &'static str, timeout: Option<Duration>) -> Self {
        Self(Arc::new(Guards {
            edge: edge.clone(),
            route,
            timeout,
        }))
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            guards: self.0.clone(),
            inner,
        }
    }
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (guards, mut inner) = (self.guards.clone(), self.inner.clone());
        if !request.headers().contains_key(ACCEPT_ENCODING) {
            return Box::pin(async move { Ok(guards.observe(request, &mut inner).await) });
        }
        let plain = service_fn(move |request| {
            let (guards, mut inner) = (guards.clone(), inner.clone());
            async move { Ok(guards.observe(request, &mut inner).await) }
        });
        let compressing = CompressionLayer::new()
            .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE))
            .layer(plain);
        let answered = compressing.oneshot(request);
        Box::pin(async move { answered.await.map(|response| response.map(Body::new)) })
    }
}

impl Guards {
    /// Counts and times a request, under labels that a client cannot choose, and refuses a body whose
    /// declared length is too large, except of definitions, which have a limit of their own.
    async fn observe<S>(&self, request: Request, inner: &mut S) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    {
        let Self { edge, route, .. } = self;
        let began = Instant::now();
        let method = method_label(request.method());
        let mut response = match self.refusal(&request) {
            Some(problem) => problem.into_response(),
            None => self.admit(request, inner).await,
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

    fn refusal(&self, request: &Request) -> Option<Problem> {
        let limits = &self.edge.limits;
        let bytes_max = limits.body_bytes_max;
        let length = declared_length(request.headers());
        if length.is_some_and(|it| it > bytes_max as u64) && self.route != MACHINES {
            return Some(Problem::body_too_large(bytes_max));
        }
        foreign(request, &limits.cors_origins).or_else(|| unevaluated(request))
    }

    /// Bounds the number of requests in the service, and the time of each.
    async fn admit<S>(&self, request: Request, inner: &mut S) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible, Future: Send>,
    {
        let Some(timeout) = self.timeout else {
            return inner.call(request).await.unwrap_or_else(|it| match it {});
        };
        let edge = &self.edge;
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
        match tokio::time::timeout(timeout, inner.call(request)).await {
            Ok(response) => response.unwrap_or_else(|it| match it {}),
            Err(_) => {
                let detail = format!(
                    "no answer within {} ms; a write may or may not have been executed",
                    timeout.as_millis()
                );
                Problem::new(ErrorCode::OutcomeUnknown, detail).into_response()
            }
        }
    }
}

/// Refuses a body where a change has none: what it says would be ignored.
pub(super) async fn refuse_body(request: Request, next: Next) -> Result<Response, Problem> {
    if !changes(&request) {
        return Ok(next.run(request).await);
    }
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
        return Err(not_evaluated("If-Match"));
    }
    Ok(next.run(request).await)
}

/// Refuses the conditions that no change evaluates, and that no change by GET does: they would be ignored.
fn unevaluated(request: &Request) -> Option<Problem> {
    if !changes(request) {
        return None;
    }
    let conditions: &[&str] = match *request.method() {
        Method::GET => &["If-None-Match", "If-Unmodified-Since", "If-Match"],
        _ => &["If-None-Match", "If-Unmodified-Since"],
    };
    let sent = |it: &&&str| request.headers().contains_key(**it);
    conditions.iter().find(sent).map(|it| not_evaluated(it))
}

fn not_evaluated(condition: &str) -> Problem {
    let detail = format!("this operation does not evaluate {condition}; nothing was executed");
    Problem::new(ErrorCode::InvalidHeader, detail)
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

fn changes(request: &Request) -> bool {
    let uri = request.uri();
    match *request.method() {
        Method::GET if uri.path() == "/" => uri.query().is_some(),
        Method::GET => CHANGING_GETS.contains(&uri.path()),
        Method::HEAD | Method::OPTIONS => false,
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
pub(super) async fn conform(request: Request, mut router: Router) -> Response {
    let (request, rest) = Rest::of(request);
    let mut response = match violation(&request) {
        Some(problem) => problem.into_response(),
        None => router.call(request).await.unwrap_or_else(|it| match it {}),
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
