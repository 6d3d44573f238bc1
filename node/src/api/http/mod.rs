//! The HTTP interface.
//!
//! Requests and responses are JSON; errors are RFC 9457 problem details with a stable `code`. Only the short
//! interface, `/?next=`, is plain text. Everything is bounded: bodies, time, requests served at once,
//! connections. Routes that concern only this process (`/livez`, `/readyz`, `/metrics`, ...) are
//! answered even under overload.

mod body;
mod cluster;
mod dead_letters;
mod described;
mod input;
mod instance;
mod instances;
mod json;
mod lingering;
mod local;
mod machines;
mod members;
mod middleware;
mod openapi;
mod pictures;
mod problem;
mod query;
mod rest;
mod serve;
mod settings;
mod short;
mod sinks;
mod transactions;
mod transitions;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use lockstep_proto::ErrorCode;
use tokio::sync::Semaphore;
use tonic::Status;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

use crate::api::Watchers;
use crate::cluster::members::Membership;
use crate::config;
use crate::service::Service;
use crate::sink::Sinks;
use crate::telemetry::{Metrics, Report};

use problem::Problem;

pub use serve::serve;

/// The parts of a node that the HTTP interface uses.
#[derive(Clone)]
pub struct HttpState {
    /// The use cases.
    pub service: Arc<Service>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// The node's report.
    pub report: Arc<Report>,
    /// Bounds on requests.
    pub limits: Limits,
    /// When the node started.
    pub started: Instant,
    /// The watches that are open on the node.
    pub watchers: Watchers,
    /// The members of the cluster.
    pub members: Arc<dyn Membership>,
    /// The node's sinks.
    pub sinks: Sinks,
}

/// Bounds on requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// How long a request may take in all.
    pub request_timeout: Duration,
    /// How many requests to the service are served at once.
    pub concurrency_max: usize,
}

impl From<&config::Http> for Limits {
    fn from(http: &config::Http) -> Self {
        Self {
            body_bytes_max: http.body_bytes_max,
            request_timeout: http.request_timeout,
            concurrency_max: http.concurrency_max,
        }
    }
}

/// State of the routes that do not call the service.
struct Local {
    metrics: Arc<Metrics>,
    report: Arc<Report>,
    limits: Limits,
    started: Instant,
    /// Where gRPC is served instead.
    grpc_address: String,
    /// One permit for each request to the service.
    admission: Semaphore,
    watchers: Watchers,
}

/// State of the routes that call the service.
struct Edge {
    service: Arc<Service>,
    local: Arc<Local>,
    members: Arc<dyn Membership>,
    sinks: Sinks,
}

/// Smallest answer that is compressed for a client that accepts it, bytes.
const COMPRESSED_BYTES_MIN: u16 = 1024;
/// Where definitions are sent, which may be larger than other bodies.
const MACHINES: &str = "/v1/machines";

/// Every route of the HTTP interface.
pub fn router(state: HttpState) -> Router {
    let HttpState {
        service,
        metrics,
        report,
        limits,
        started,
        watchers,
        members,
        sinks,
    } = state;
    let admission = Semaphore::new(limits.concurrency_max.min(Semaphore::MAX_PERMITS));
    let local = Arc::new(Local {
        metrics,
        report,
        limits,
        started,
        grpc_address: service.status().node.member.grpc_address,
        admission,
        watchers,
    });
    let edge = Arc::new(Edge {
        service,
        local: local.clone(),
        members,
        sinks,
    });
    let served = Router::new()
        .route("/", get(short::handle).post(short::handle))
        .route(MACHINES, get(machines::list).post(machines::define))
        .route(
            "/v1/machines/{machine}",
            get(machines::show).delete(machines::delete),
        )
        .route(
            "/v1/machines/{machine}/definition",
            get(pictures::definition),
        )
        .route("/v1/machines/{machine}/graph", get(pictures::graph))
        .route(
            "/v1/machines/{machine}/instances",
            get(instances::list).post(instances::create),
        )
        .route(
            "/v1/machines/{machine}/instances/{instance}",
            get(instance::show).delete(instance::delete),
        )
        .route(
            "/v1/machines/{machine}/instances/{instance}/transitions",
            post(transitions::transition),
        )
        .route(
            "/v1/machines/{machine}/instances/{instance}/history",
            get(instance::history),
        )
        .route(
            "/v1/machines/{machine}/instances/{instance}/migrate",
            post(instance::migrate),
        )
        .route("/v1/transactions", post(transactions::commit))
        .route("/v1/cluster", get(cluster::status))
        .route(
            "/v1/cluster/settings",
            get(settings::show).patch(settings::update),
        )
        .route("/v1/cluster/members", get(members::list).post(members::add))
        .route("/v1/cluster/members/{member}", delete(members::remove))
        .route(
            "/v1/cluster/members/{member}/promote",
            post(members::promote),
        )
        .route("/v1/cluster/members/{member}/demote", post(members::demote))
        .route(
            "/v1/cluster/transfer-leadership",
            post(members::transfer_leadership),
        )
        .route("/v1/sinks", get(sinks::list))
        .route("/v1/sinks/{sink}", get(sinks::show))
        .route("/v1/sinks/{sink}/reseed", post(sinks::reseed))
        .route("/v1/sinks/{sink}/dead-letters", get(dead_letters::list))
        .route(
            "/v1/sinks/{sink}/dead-letters/replay",
            post(dead_letters::replay),
        )
        .route(
            "/v1/sinks/{sink}/dead-letters/discard",
            post(dead_letters::discard),
        )
        .with_state(edge.clone());
    // Like the others, but with the timeout of a destination's check.
    let checks = Router::new()
        .route("/v1/sinks/{sink}/check", post(sinks::check))
        .with_state(edge.clone())
        .layer(from_fn_with_state(local.clone(), middleware::admit_check));
    // Outside the limit on requests: probes must be answered under load, and a watch lasts.
    let probes = Router::new()
        .route("/readyz", get(cluster::ready))
        .route("/v1/watch", get(watch::all))
        .route("/v1/machines/{machine}/watch", get(watch::machine))
        .with_state(edge)
        .merge(checks);
    assemble(local, served, probes)
}

/// Puts the routes together: `served` under the limits on the service, `probes` outside them.
fn assemble(local: Arc<Local>, served: Router, probes: Router) -> Router {
    let own = Router::new()
        .route("/livez", get(local::alive))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", get(local::metrics))
        .route("/report", get(local::report))
        .route("/version", get(local::version))
        // Not `get` alone: axum answers HEAD with it, and a HEAD must not count.
        .route(
            "/counter",
            get(local::counter)
                .post(local::counter)
                .head(local::refuse_head),
        )
        .route(
            "/timer",
            get(local::timer)
                .post(local::timer)
                .head(local::refuse_head),
        )
        .with_state(local.clone());
    Router::new()
        .merge(served.layer(from_fn_with_state(local.clone(), middleware::admit)))
        .merge(probes)
        .merge(own)
        .fallback({
            let grpc_address = local.grpc_address.clone();
            async move |headers: HeaderMap, uri: Uri| match is_grpc(&headers) {
                true => not_grpc(&grpc_address),
                false => no_route(&uri),
            }
        })
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(local, middleware::observe))
        .layer(
            CompressionLayer::new()
                .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE)),
        )
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// Tells a gRPC client, in its own terms, that it called the wrong port.
fn not_grpc(grpc_address: &str) -> Response {
    let message = format!("this is the HTTP port of the node; its gRPC address is {grpc_address}");
    Status::unimplemented(message).into_http::<Body>()
}

fn no_route(uri: &Uri) -> Response {
    if let Some(location) = without_slash(uri) {
        return (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response();
    }
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        ErrorCode::NotFound,
        format!("nothing exists at {path:?}; see /openapi.json"),
    )
    .into_response()
}

/// The path and query without the slash at the end of the path.
fn without_slash(uri: &Uri) -> Option<HeaderValue> {
    let path = uri.path().strip_suffix('/')?;
    // Two slashes at the beginning would name another host.
    if path.is_empty() || path.starts_with("//") {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}"));
    HeaderValue::try_from(format!("{path}{}", query.unwrap_or_default())).ok()
}

/// axum adds the `Allow` header.
async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let method: String = method.as_str().chars().take(20).collect();
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        ErrorCode::MethodNotAllowed,
        format!(
            "{method} is not supported on {path:?}; the Allow header lists the supported methods"
        ),
    )
}

/// A plain text answer, one line, never to be cached.
fn text(status: StatusCode, line: impl std::fmt::Display) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, format!("{line}\n")).into_response()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod words_tests;
