//! The interface before there is a service: health answers NOT_SERVING, and every other call is refused. A request
//! that is not gRPC is refused at all times.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Version;
use axum::response::Response;
use lockstep_proto::ErrorCode;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, health_reporter};
use tower::{ServiceExt as _, service_fn};

use super::{compressed, set_health};
use crate::api::is_grpc;
use crate::api::problem::Problem;
use crate::lifecycle::Lifecycle;
use crate::service::ServiceError;

/// Health, and the services in `opened` once there are any. The reporter sets the health: see [`set_health`].
/// A request that is not gRPC is told `http_address`.
pub async fn when_opened(
    lifecycle: Arc<Lifecycle>,
    opened: Arc<OnceLock<Router>>,
    http_address: &str,
) -> (Routes, HealthReporter) {
    let (reporter, health) = health_reporter();
    set_health(&reporter, false).await;
    let starting = Router::new().fallback(refuse).with_state(lifecycle);
    let detail = format!("this is the gRPC port of the node; its HTTP address is {http_address}");
    let wrong_port = Problem::new(ErrorCode::NotFound, detail);
    let wrong_port = Router::new().fallback(async move || wrong_port.clone());
    let routes = Routes::new(compressed!(health)).into_axum_router();
    let routes = routes.fallback_service(service_fn(move |request: Request| {
        // HTTP/1 loses the trailers with the status of a call.
        let router = match request.version() == Version::HTTP_2 && is_grpc(request.headers()) {
            true => opened.get().unwrap_or(&starting),
            false => &wrong_port,
        };
        router.clone().oneshot(request)
    }));
    (routes.into(), reporter)
}

async fn refuse(State(lifecycle): State<Arc<Lifecycle>>) -> Response {
    let refusal = Problem::from(ServiceError::not_ready(&lifecycle));
    Status::from(refusal).into_http::<Body>()
}
