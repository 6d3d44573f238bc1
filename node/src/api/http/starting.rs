//! The interface before there is a service: `/livez` answers, and every other route is refused with the phase of
//! the start.

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tower::{ServiceExt as _, service_fn};

use crate::api::problem::Problem;
use crate::lifecycle::Lifecycle;
use crate::service::ServiceError;

/// The routes in `opened`, once there are any; until then those of a node that starts.
pub fn when_opened(lifecycle: Arc<Lifecycle>, opened: Arc<OnceLock<Router>>) -> Router {
    let starting = Router::new()
        .route("/livez", get(alive))
        .fallback(refuse)
        .with_state(lifecycle);
    Router::new().fallback_service(service_fn(move |request: Request| {
        opened.get().unwrap_or(&starting).clone().oneshot(request)
    }))
}

/// The answer of `/livez`.
pub(super) fn alive_in(lifecycle: &Lifecycle) -> Json<Value> {
    let mut answer = lifecycle.json();
    answer["status"] = json!("alive");
    Json(answer)
}

async fn alive(State(lifecycle): State<Arc<Lifecycle>>) -> Response {
    ([(CACHE_CONTROL, "no-store")], alive_in(&lifecycle)).into_response()
}

async fn refuse(State(lifecycle): State<Arc<Lifecycle>>) -> Problem {
    Problem::from(ServiceError::not_ready(&lifecycle)).with("start", lifecycle.json())
}
