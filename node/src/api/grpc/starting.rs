//! The interface before there is a service: health answers NOT_SERVING, and every other call is refused.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, health_reporter};
use tower::{ServiceExt as _, service_fn};

use super::{compressed, set_health};
use crate::api::problem::Problem;
use crate::lifecycle::Lifecycle;
use crate::service::ServiceError;

/// Health, and the services in `opened` once there are any. The reporter sets the health: see [`set_health`].
pub async fn when_opened(
    lifecycle: Arc<Lifecycle>,
    opened: Arc<OnceLock<Router>>,
) -> (Routes, HealthReporter) {
    let (reporter, health) = health_reporter();
    set_health(&reporter, false).await;
    let starting = Router::new().fallback(refuse).with_state(lifecycle);
    let routes = Routes::new(compressed!(health)).into_axum_router();
    let routes = routes.fallback_service(service_fn(move |request: Request| {
        opened.get().unwrap_or(&starting).clone().oneshot(request)
    }));
    (routes.into(), reporter)
}

async fn refuse(State(lifecycle): State<Arc<Lifecycle>>) -> Response {
    let refusal = Problem::from(ServiceError::not_ready(&lifecycle));
    Status::from(refusal).into_http::<Body>()
}
