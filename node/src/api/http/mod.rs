//! The HTTP interface.
//!
//! Requests and responses are JSON; errors are RFC 9457 problem details with a stable `code`. Only the short
//! interface, `/?next=`, is plain text. Everything is bounded: bodies, time, requests served at once,
//! connections. Routes that concern only this process (`/livez`, `/readyz`, `/metrics`, ...) are
//! answered even under overload.

mod backup;
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
mod operation;
mod pictures;
mod query;
mod rest;
mod routes;
mod serve;
mod settings;
mod short;
mod sinks;
mod starting;
mod transactions;
mod transitions;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::handler::HandlerWithoutStateExt as _;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lockstep_proto::ErrorCode;
use tonic::Status;
use tower::Layer as _;

use super::problem::Problem;
use super::{Edge, is_grpc};
use crate::sink::CHECK_MAX;
use middleware::Guard;
use routes::Routes;

pub use serve::serve;
pub use starting::when_opened;

pub fn router(edge: Arc<Edge>) -> Router {
    assemble(edge, routes::served())
}

/// Puts the routes together: `served` under the limits on the service.
fn assemble(edge: Arc<Edge>, served: Routes) -> Router {
    let timeout = edge.limits.request_timeout;
    let grpc_address = edge.service.status().node.member.grpc_address;
    let unmatched = async move |headers: HeaderMap, uri: Uri| match is_grpc(&headers) {
        true => not_grpc(&grpc_address),
        false => no_route(&uri),
    };
    let unmatched = Guard::new(&edge, "other", None).layer(unmatched.into_service());
    Router::new()
        .merge(served.router(&edge, Some(timeout)))
        .merge(routes::checks().router(&edge, Some(CHECK_MAX)))
        .merge(routes::probes().router(&edge, None))
        .merge(routes::own().router(&edge, None))
        .fallback_service(unmatched)
        .with_state(edge)
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
    // Two slashes at the beginning would name another host; browsers read a backslash as a slash.
    if path.is_empty() || path.starts_with("//") || path.starts_with("/\\") {
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

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod words_tests;
