//! Refusals, as RFC 9457 problem details.

use std::time::Duration;

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{InvalidName, Rejection};
use serde_json::{Map, Value, json};

use crate::service::ServiceError;
use crate::telemetry::report::ReportError;

/// A refusal: what went wrong, under a stable code.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    /// Members beside the standard ones.
    extra: Map<String, Value>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl ToString) -> Self {
        Self {
            status,
            code,
            detail: detail.to_string(),
            extra: Map::new(),
            retry_after: None,
            allow: None,
        }
    }

    /// The request breaks the rules.
    pub(super) fn bad_request(code: &'static str, detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn not_found(code: &'static str, detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub(super) fn method_not_allowed(detail: impl ToString) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    pub(super) fn body_too_large(body_bytes_max: usize) -> Self {
        let detail = format!("the body is larger than {body_bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            .with("body_bytes_max", body_bytes_max)
    }

    /// Adds a member.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the `Allow` header where axum does not.
    pub(super) fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// Says when to try again.
    pub(super) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

/// Whole seconds, at least one: the header knows no less.
pub(super) fn retry_after_seconds(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).clamp(1, 3600) as u64
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert(
            "type".to_owned(),
            format!("urn:lockstep:problem:{}", self.code).into(),
        );
        body.insert(
            "title".to_owned(),
            self.status.canonical_reason().unwrap_or("Error").into(),
        );
        body.insert("status".to_owned(), self.status.as_u16().into());
        body.insert("detail".to_owned(), self.detail.into());
        body.insert("code".to_owned(), self.code.into());
        body.extend(self.extra);
        let headers = [
            (CONTENT_TYPE, "application/problem+json"),
            (CACHE_CONTROL, "no-store"),
        ];
        let mut response =
            (self.status, headers, format!("{}\n", Value::Object(body))).into_response();
        if let Some(after) = self.retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds(after)));
        }
        if let Some(allow) = self.allow {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// The HTTP status of what kept the cluster from answering.
pub(super) fn service_status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::Unavailable { .. } | ServiceError::NotReady { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ServiceError::OutcomeUnknown { .. } => StatusCode::GATEWAY_TIMEOUT,
        ServiceError::Overloaded => StatusCode::TOO_MANY_REQUESTS,
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let mut problem = Problem::new(service_status(&error), error.code(), &error);
        problem.retry_after = error.retry_after();
        problem
    }
}

/// The HTTP status of a refusal by the state machine.
pub(super) fn rejection_status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::UnknownMachine { .. } | Rejection::UnknownInstance { .. } => {
            StatusCode::NOT_FOUND
        }
        Rejection::UnknownState { .. } | Rejection::UnknownEvent { .. } | Rejection::KeyReused => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        _ => StatusCode::CONFLICT,
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let problem = Problem::new(rejection_status(&rejection), rejection.code(), &rejection);
        match rejection {
            Rejection::IllegalTransition {
                from,
                revision,
                allowed,
                ..
            } => problem
                .with("current_state", from.as_str())
                .with("current_revision", revision.0)
                .with("allowed", json!(allowed)),
            Rejection::UnknownState {
                current,
                revision,
                known,
                ..
            } => problem
                .with("current_state", current.as_str())
                .with("current_revision", revision.0)
                .with("known", json!(known)),
            Rejection::UnknownEvent {
                current, revision, ..
            }
            | Rejection::StateMismatch {
                current, revision, ..
            }
            | Rejection::RevisionMismatch {
                current, revision, ..
            } => problem
                .with("current_state", current.as_str())
                .with("current_revision", revision.0),
            _ => problem,
        }
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Problem::bad_request("invalid_name", error)
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        match &error {
            ReportError::Name { .. } => Problem::bad_request("invalid_name", error),
            ReportError::Full { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_names", error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_error_has_its_status_and_hint() {
        let waited = Duration::from_millis(5);
        for (error, status, hint) in [
            (ServiceError::Unavailable { waited }, 503, Some("1")),
            (
                ServiceError::NotReady {
                    reason: "starting".to_owned(),
                },
                503,
                Some("1"),
            ),
            (ServiceError::OutcomeUnknown { waited }, 504, None),
            (ServiceError::Overloaded, 429, Some("1")),
        ] {
            let response = Problem::from(error).into_response();
            assert_eq!(response.status(), status);
            assert_eq!(
                response
                    .headers()
                    .get(RETRY_AFTER)
                    .map(|v| v.to_str().unwrap()),
                hint
            );
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        }
    }

    #[test]
    fn the_hint_is_rounded_up_to_whole_seconds() {
        assert_eq!(retry_after_seconds(Duration::ZERO), 1);
        assert_eq!(retry_after_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(retry_after_seconds(Duration::MAX), 3600);
    }
}
