//! Errors of both interfaces: RFC 9457 problem details over HTTP, statuses over gRPC.

use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{DefinitionInvalid, DocumentError, InvalidMetadata, InvalidName, Rejection};
use lockstep_proto::errors::{CODE_KEY, KNOWN_KEY, OLDEST_REVISION_KEY, RETRY_AFTER_KEY};
use lockstep_proto::{ErrorCode, Malformed, UnexpectedOutcome, v1};
use lockstep_raft::consensus::MemberError;
use serde_json::{Map, Value, json};
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::watchers::{self, Leaving};
use crate::service::{DefineError, Invalid, PictureError, ServiceError, WatchEnded, WatchError};
use crate::sink::SinksError;
use crate::telemetry::report::ReportError;

/// The media type of all errors over HTTP except those of the short interface.
pub(super) const PROBLEM: &str = "application/problem+json";

/// An error with a code of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) code: ErrorCode,
    /// Over HTTP: that of the code, with few exceptions.
    pub(super) status: StatusCode,
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
            code,
            status: status(code),
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

    pub(super) fn retry_after(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = after.into();
        self
    }

    /// Adds what the error says in headers of its response.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, retry_after_seconds(after).into());
        }
        if let Some((name, value)) = self.hint {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn status(code: ErrorCode) -> StatusCode {
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
fn retry_after_seconds(after: Duration) -> u64 {
    after.as_millis().div_ceil(1000).clamp(1, 3600) as u64
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        self.add_headers(&mut headers);
        let media_type = [(CONTENT_TYPE, PROBLEM), (CACHE_CONTROL, "no-store")];
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body = Map::new();
        let mut add = |name: &str, value: Value| body.insert(name.to_owned(), value);
        add("type", format!("urn:lockstep:problem:{}", self.code).into());
        add("title", title.into());
        add("status", self.status.as_u16().into());
        add("detail", self.detail.into());
        add("code", self.code.as_str().into());
        body.extend(self.extra);
        let text = format!("{}\n", Value::Object(body));
        (self.status, media_type, headers, text).into_response()
    }
}

/// The code and the members that a client acts on are trailers.
impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut status = Status::new(problem.code.grpc(), problem.detail);
        let trailers = status.metadata_mut();
        let code = MetadataValue::from_static(problem.code.as_str());
        trailers.insert(CODE_KEY, code);
        if let Some(after) = problem.retry_after {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            trailers.insert(RETRY_AFTER_KEY, ms.into());
        }
        if let Some(Value::Number(oldest)) = problem.extra.get("oldest_revision") {
            trailers.insert(
                OLDEST_REVISION_KEY,
                oldest.as_u64().unwrap_or_default().into(),
            );
        }
        if let (ErrorCode::UnknownSink, Some(Value::Array(known))) =
            (problem.code, problem.extra.get("known"))
        {
            let known: Vec<_> = known.iter().filter_map(Value::as_str).collect();
            // Names of sinks are letters and digits, and valid metadata.
            if let Ok(known) = MetadataValue::try_from(known.join(",")) {
                trailers.insert(KNOWN_KEY, known);
            }
        }
        status
    }
}

/// The same without trailers, where a stream has more results.
impl From<&Problem> for v1::Failure {
    fn from(problem: &Problem) -> Self {
        let retry_after = problem.retry_after.map(|it| it.as_millis());
        Self {
            code: problem.code.to_string(),
            message: problem.detail.clone(),
            retry_after_ms: retry_after.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        }
    }
}

/// Errors that are a code and a text.
macro_rules! plain {
    ($($error:ty: |$it:ident| $code:expr;)+) => {$(
        impl From<$error> for Problem {
            fn from($it: $error) -> Self {
                Problem::new($code, $it)
            }
        }
    )+};
}

plain! {
    InvalidMetadata: |it| ErrorCode::InvalidMetadata;
    InvalidName: |it| ErrorCode::InvalidName;
    Malformed: |it| ErrorCode::InvalidArgument;
    MemberError: |it| it.code();
    UnexpectedOutcome: |it| ErrorCode::UnknownOutcome;
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        Problem::new(error.code(), &error).retry_after(error.retry_after())
    }
}

/// The HTTP status of a rejection: a failed operation has that of its reason.
fn rejection_status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::OperationFailed { reason, .. } => rejection_status(reason),
        other => status(other.into()),
    }
}

/// A rejection as in a message, without the fields that do not concern it.
fn rejected(rejection: &Rejection) -> Map<String, Value> {
    let mut all = match serde_json::to_value(v1::Rejected::from(rejection)) {
        Ok(Value::Object(all)) => all,
        _ => Map::new(),
    };
    all.retain(|_, value| !value.is_null());
    if let Rejection::OperationFailed { reason, .. } = rejection {
        // The reason has them.
        all.remove("events");
        all.insert("reason".to_owned(), rejected(reason).into());
    } else if let Some(events) = rejection.events() {
        all.insert("events".to_owned(), json!(events));
    }
    if !matches!(rejection, Rejection::IllegalTransition { .. }) {
        all.remove("allowed");
    }
    all
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let mut problem = Problem::new((&rejection).into(), &rejection);
        problem.status = rejection_status(&rejection);
        problem.extra = rejected(&rejection);
        problem.extra.remove("code");
        problem.extra.remove("detail");
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
                problem.with("requested", *bytes).with("max", *max)
            }
            DocumentError::Syntax { line, column, .. } => {
                problem.with("line", *line).with("column", *column)
            }
            DocumentError::Invalid(DefinitionInvalid(faults)) => {
                let faults = faults.iter().map(v1::Fault::from);
                problem.with("faults", json!(faults.collect::<Vec<_>>()))
            }
        }
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

impl From<Leaving> for Problem {
    fn from(leaving: Leaving) -> Self {
        let code = match leaving {
            Leaving::Stopping => ErrorCode::NotReady,
            Leaving::CutOff => ErrorCode::Unavailable,
        };
        Problem::new(code, leaving).retry_after(watchers::RETRY_AFTER)
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
    use lockstep_machine::{GlobalRevision, MachineName};
    use tonic::Code;

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
            (ServiceError::TooLarge { bytes: 99 }, 413, None),
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
        let found = (problem.status.as_u16(), problem.code.as_str());
        assert_eq!(found, (404, "unknown_sink"));
        assert_eq!(problem.member("known"), &json!(["reports"]));
        let waited = Duration::from_secs(60);
        let problem = Problem::from(SinksError::CheckTimeout { waited });
        let found = (problem.status.as_u16(), problem.code.as_str());
        assert_eq!(found, (504, "sink_check_timeout"));
    }

    #[test]
    fn the_hint_is_rounded_up_to_whole_seconds() {
        assert_eq!(retry_after_seconds(Duration::ZERO), 1);
        assert_eq!(retry_after_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(retry_after_seconds(Duration::MAX), 3600);
    }

    #[test]
    fn every_service_error_has_its_status_code_and_hint() {
        let waited = Duration::from_millis(5);
        for (error, code, hint) in [
            (
                ServiceError::Unavailable { waited },
                Code::Unavailable,
                Some("1000"),
            ),
            (
                ServiceError::NotReady {
                    reason: "starting".to_owned(),
                },
                Code::Unavailable,
                Some("1000"),
            ),
            (
                ServiceError::OutcomeUnknown { waited },
                Code::DeadlineExceeded,
                None,
            ),
            (
                ServiceError::Overloaded,
                Code::ResourceExhausted,
                Some("100"),
            ),
            (
                ServiceError::DiskFull,
                Code::ResourceExhausted,
                Some("5000"),
            ),
        ] {
            let status = Status::from(Problem::from(error.clone()));
            assert_eq!(status.code(), code);
            assert_eq!(
                status.metadata().get(CODE_KEY).unwrap(),
                error.code().as_str()
            );
            assert_eq!(
                status
                    .metadata()
                    .get(RETRY_AFTER_KEY)
                    .map(|v| v.to_str().unwrap()),
                hint
            );
        }
    }

    fn text(status: &Status, key: &str) -> Option<String> {
        let value = status.metadata().get(key)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_watch_that_cannot_continue_names_the_oldest_revision() {
        let (asked, reached, oldest) = (GlobalRevision(3), GlobalRevision(3), GlobalRevision(90));
        for (ended, stable) in [
            (WatchEnded::Compacted { asked, oldest }, "compacted"),
            (WatchEnded::Lagged { reached, oldest }, "lagged"),
        ] {
            let status = Status::from(Problem::from(ended));
            assert_eq!(status.code(), Code::OutOfRange);
            assert_eq!(text(&status, CODE_KEY).as_deref(), Some(stable));
            assert_eq!(text(&status, OLDEST_REVISION_KEY).as_deref(), Some("90"));
        }
    }

    #[test]
    fn what_a_read_does_not_find_is_not_found_under_the_rejections_code() {
        let machine = MachineName::new("order").unwrap();
        let unknown = Rejection::UnknownMachine { machine };
        let undrawn = PictureError::Absent(Box::new(unknown.clone()));
        for problem in [Problem::from(unknown), undrawn.into()] {
            let status = Status::from(problem);
            assert_eq!(status.code(), Code::NotFound);
            assert_eq!(text(&status, CODE_KEY).as_deref(), Some("unknown_machine"));
        }
    }
}
