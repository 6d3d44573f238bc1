//! Errors as RFC 9457 problem details.

use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{
    DefinitionFault, DefinitionInvalid, DocumentError, InvalidMetadata, InvalidName, Rejection,
    Setting,
};
use lockstep_proto::ErrorCode;
use serde_json::{Map, Value, json};

use super::described::PROBLEM;
use crate::api::watchers::WatchRefused;
use crate::service::{DefineError, Invalid, PictureError, ServiceError, WatchEnded, WatchError};
use crate::sink::SinksError;
use crate::telemetry::report::ReportError;

/// An error with a code of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    /// Members beside the standard ones.
    extra: Map<String, Value>,
    retry_after: Option<Duration>,
    /// A header that tells what would be allowed.
    hint: Option<(&'static str, &'static str)>,
}

impl Problem {
    pub(super) fn new(code: ErrorCode, detail: impl ToString) -> Self {
        Self {
            status: status(code),
            code: code.as_str(),
            detail: detail.to_string(),
            extra: Map::new(),
            retry_after: None,
            hint: None,
        }
    }

    pub(super) fn body_too_large(body_bytes_max: usize) -> Self {
        let detail = format!("the body is larger than {body_bytes_max} bytes");
        Self::new(ErrorCode::BodyTooLarge, detail).with("body_bytes_max", body_bytes_max)
    }

    /// Adds a member.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// A member that was added; null if there is none.
    #[cfg(test)]
    pub(super) fn member(&self, name: &str) -> &Value {
        self.extra.get(name).unwrap_or(&Value::Null)
    }

    /// Adds the `Allow` header where axum does not.
    pub(super) fn allow(mut self, methods: &'static str) -> Self {
        self.hint = Some(("allow", methods));
        self
    }

    /// Adds the codings that a request body may have.
    pub(super) fn accept_encoding(mut self, codings: &'static str) -> Self {
        self.hint = Some(("accept-encoding", codings));
        self
    }

    /// Sets the `Retry-After` header, if there is a hint.
    pub(super) fn retry_after(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = after.into();
        self
    }
}

/// The HTTP status of a code.
pub(super) fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.entry().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error as it is sent. Some codes have further members: docs/ERRORS.md.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `into_response` writes")]
pub(super) struct ProblemBody {
    /// `urn:lockstep:problem:` and the code.
    r#type: String,
    title: String,
    status: u16,
    /// For humans.
    detail: String,
    /// Stable, for programs.
    code: String,
}

/// Whole seconds, at least one: the header has no finer unit.
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
        let headers = [(CONTENT_TYPE, PROBLEM), (CACHE_CONTROL, "no-store")];
        let mut response =
            (self.status, headers, format!("{}\n", Value::Object(body))).into_response();
        if let Some(after) = self.retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds(after)));
        }
        if let Some((name, value)) = self.hint {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        Problem::new(error.code(), &error).retry_after(error.retry_after())
    }
}

/// The HTTP status of a rejection: a failed operation has that of its reason.
pub(super) fn rejection_status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::OperationFailed { reason, .. } => rejection_status(reason),
        other => status(other.into()),
    }
}

/// The members that a rejection has beside its text.
fn particulars(rejection: &Rejection) -> Map<String, Value> {
    let mut all = Map::new();
    if let Some((state, revision)) = rejection.current() {
        all.insert("current_state".to_owned(), state.as_str().into());
        all.insert("current_revision".to_owned(), revision.0.into());
    }
    match rejection {
        Rejection::IllegalTransition {
            allowed, events, ..
        } => {
            all.insert("allowed".to_owned(), json!(allowed));
            all.extend(events.as_ref().map(|it| ("events".to_owned(), json!(it))));
        }
        Rejection::UnknownEvent { events, .. } => {
            all.extend(events.as_ref().map(|it| ("events".to_owned(), json!(it))));
        }
        Rejection::UnknownState { known, .. } | Rejection::UnmappedState { known, .. } => {
            all.insert("known".to_owned(), json!(known));
        }
        Rejection::UnknownVersion { newest, .. } => {
            all.insert("newest_version".to_owned(), newest.0.into());
        }
        Rejection::DefinitionInUse {
            version, instances, ..
        } => {
            all.insert("version".to_owned(), version.0.into());
            all.insert("instances".to_owned(), (*instances).into());
        }
        Rejection::QuotaExceeded { asked, max, .. } => {
            all.insert("asked".to_owned(), (*asked).into());
            all.insert("max".to_owned(), (*max).into());
        }
        Rejection::UnknownSetting { .. } => {
            let known = Setting::ALL.map(|it| it.info().name);
            all.insert("known".to_owned(), json!(known));
        }
        Rejection::InvalidSetting { setting, .. } => {
            let range = &setting.info().range;
            all.insert("min".to_owned(), (*range.start()).into());
            all.insert("max".to_owned(), (*range.end()).into());
        }
        Rejection::InvalidDefinition(DefinitionInvalid(faults)) => {
            all.insert("faults".to_owned(), faults_json(faults));
        }
        Rejection::InstanceTwice { first, second, .. } => {
            all.insert("operations".to_owned(), json!([first, second]));
        }
        Rejection::OperationFailed { position, reason } => {
            let mut inner = particulars(reason);
            inner.insert("code".to_owned(), reason.code().into());
            inner.insert("detail".to_owned(), reason.to_string().into());
            all.insert("operation".to_owned(), (*position).into());
            all.insert("reason".to_owned(), inner.into());
        }
        _ => {}
    }
    all
}

/// The faults or warnings of a definition.
pub(super) fn faults_json(faults: &[DefinitionFault]) -> Value {
    let fault = |it: &DefinitionFault| json!({ "path": it.path, "code": it.code.name(), "message": it.message });
    faults.iter().map(fault).collect()
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let mut problem = Problem::new((&rejection).into(), &rejection);
        problem.status = rejection_status(&rejection);
        problem.extra = particulars(&rejection);
        problem
    }
}

impl From<Box<Rejection>> for Problem {
    fn from(rejection: Box<Rejection>) -> Self {
        (*rejection).into()
    }
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        let code = match &error {
            DocumentError::TooLarge { .. } => ErrorCode::DefinitionTooLarge,
            DocumentError::Syntax { .. } => ErrorCode::MalformedDocument,
            DocumentError::Invalid(_) => ErrorCode::InvalidDefinition,
        };
        let problem = Problem::new(code, &error);
        match &error {
            DocumentError::TooLarge { bytes, max } => {
                problem.with("asked", *bytes).with("max", *max)
            }
            DocumentError::Syntax { line, column, .. } => {
                problem.with("line", *line).with("column", *column)
            }
            DocumentError::Invalid(DefinitionInvalid(faults)) => {
                problem.with("faults", faults_json(faults))
            }
        }
    }
}

impl From<InvalidMetadata> for Problem {
    fn from(error: InvalidMetadata) -> Self {
        Problem::new(ErrorCode::InvalidMetadata, error)
    }
}

impl From<SinksError> for Problem {
    fn from(error: SinksError) -> Self {
        let problem = Problem::new(error.code(), &error);
        match error {
            SinksError::Unknown { known, .. } => problem.with("known", json!(known)),
            SinksError::CheckTimeout { .. } => problem,
            SinksError::Service(error) => error.into(),
            SinksError::Rejected(rejection) => rejection.into(),
        }
    }
}

impl From<WatchEnded> for Problem {
    fn from(ended: WatchEnded) -> Self {
        Problem::new(ended.code(), ended).with("oldest_revision", ended.oldest().0)
    }
}

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Self {
        let problem = Problem::new(error.code(), &error);
        match error {
            WatchError::Service(error) => error.into(),
            WatchError::AnotherCluster { own, reached, .. } => {
                problem.with("cluster_id", own).with("revision", reached.0)
            }
            WatchError::UnknownState { known, .. } => problem.with("known", json!(known)),
            WatchError::UnknownMachine { .. } => problem,
        }
    }
}

impl From<WatchRefused> for Problem {
    fn from(refused: WatchRefused) -> Self {
        match refused {
            WatchRefused::Ended(ended) => ended.into(),
            WatchRefused::Unstarted(error) => error.into(),
            other => Problem::new(other.code(), &other).retry_after(other.retry_after()),
        }
    }
}

impl From<DefineError> for Problem {
    fn from(error: DefineError) -> Self {
        match error {
            DefineError::Service(error) => error.into(),
            DefineError::Document { error, .. } => error.into(),
        }
    }
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Absent(unknown) => unknown.into(),
            other => Problem::new(other.code(), other),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Name { fault, .. } => fault.into(),
            Invalid::Value { field, reason } => Problem::new(
                ErrorCode::InvalidParameter,
                format!("parameter {field:?} {reason}"),
            ),
            Invalid::Cursor => Problem::new(ErrorCode::InvalidCursor, invalid),
        }
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Problem::new(ErrorCode::InvalidName, error)
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        match &error {
            ReportError::Name(_) => Problem::new(ErrorCode::InvalidName, error),
            ReportError::Full { .. } => Problem::new(ErrorCode::TooManyNames, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::GlobalRevision;

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
            (ServiceError::DiskFull, 503, Some("5")),
            (
                ServiceError::RevisionAhead {
                    asked: GlobalRevision(9),
                    reached: GlobalRevision(8),
                },
                409,
                None,
            ),
            (
                ServiceError::Behind {
                    asked: GlobalRevision(9),
                    reached: GlobalRevision(8),
                    waited,
                },
                503,
                Some("1"),
            ),
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
            assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM);
        }
    }

    #[test]
    fn an_unknown_sink_lists_the_known_ones_and_a_slow_check_is_a_gateway_timeout() {
        let problem = Problem::from(SinksError::Unknown {
            name: "report".to_owned(),
            known: vec!["reports".to_owned()],
        });
        let found = (problem.status.as_u16(), problem.code);
        assert_eq!(found, (404, "unknown_sink"));
        assert_eq!(problem.member("known"), &json!(["reports"]));
        let waited = Duration::from_secs(60);
        let problem = Problem::from(SinksError::CheckTimeout { waited });
        let found = (problem.status.as_u16(), problem.code);
        assert_eq!(found, (504, "sink_check_timeout"));
    }

    #[test]
    fn the_hint_is_rounded_up_to_whole_seconds() {
        assert_eq!(retry_after_seconds(Duration::ZERO), 1);
        assert_eq!(retry_after_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(retry_after_seconds(Duration::MAX), 3600);
    }
}
