//! Parts of requests that several routes share: what a path names, and headers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::RequestPartsExt;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use lockstep_machine::{
    Command, IdempotencyKey, InstanceId, InstanceName, MachineName, Reply, Revision,
};
use lockstep_proto::ErrorCode;
use lockstep_raft::Deadline;
use openraft_rt_tokio::TokioRuntime;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};
use utoipa::{IntoParams, PartialSchema};

use super::Edge;
use super::described::{plain, text};
use super::problem::Problem;
use crate::api::count_transitions;
use crate::service::{Consistency, EventId, Freshness, View};
use crate::sink::truncated;

/// A request to the service, and when it must be answered.
pub(super) struct Call {
    pub(super) edge: Arc<Edge>,
    deadline: Deadline<TokioRuntime>,
}

impl FromRequestParts<Arc<Edge>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, edge: &Arc<Edge>) -> Result<Self, Infallible> {
        Ok(Self {
            edge: edge.clone(),
            deadline: Deadline::after(edge.local.limits.request_timeout),
        })
    }
}

impl Call {
    /// The time left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.left()
    }

    /// Executes a command.
    pub(super) async fn execute(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
    ) -> Result<Reply, Problem> {
        let reply = self.edge.service.execute(command, key, self.left()).await?;
        count_transitions(&self.edge.local.report, &reply);
        Ok(reply)
    }

    /// Maximum size of a definition in this cluster, bytes.
    pub(super) async fn document_bytes_max(&self) -> Result<usize, Problem> {
        let stale = Freshness {
            consistency: Consistency::Stale,
            min_revision: None,
        };
        let limits = self.view(stale).await?.state.limits();
        Ok(usize::try_from(limits.document_bytes_max).unwrap_or(usize::MAX))
    }

    /// The state, as fresh as requested.
    pub(super) async fn view(&self, freshness: Freshness) -> Result<View, Problem> {
        Ok(self.edge.service.view(freshness, self.left()).await?)
    }
}

/// The machine in a path.
pub(super) struct MachinePath(pub(super) MachineName);

/// The instance that a path names.
pub(super) struct InstancePath(pub(super) InstanceId);

/// The sink that a path names: cut where it is longer than any sink's name.
pub(super) struct SinkPath(pub(super) String);

/// The member that a path names, by name or id: cut where it is longer than either.
pub(super) struct MemberPath(pub(super) String);

fn invalid_path(_: PathRejection) -> Problem {
    let detail = "the path is not UTF-8 once its %-escapes are decoded";
    Problem::new(ErrorCode::InvalidPath, detail)
}

impl<S: Send + Sync> FromRequestParts<S> for MachinePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Path(machine) = parts
            .extract::<Path<String>>()
            .await
            .map_err(invalid_path)?;
        Ok(Self(MachineName::new(machine)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InstancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let path = parts.extract::<Path<(String, String)>>().await;
        let Path((machine, instance)) = path.map_err(invalid_path)?;
        Ok(Self(InstanceId::new(machine, instance)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SinkPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Path(sink) = parts
            .extract::<Path<String>>()
            .await
            .map_err(invalid_path)?;
        Ok(Self(truncated(&sink).to_owned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MemberPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Path(member) = parts
            .extract::<Path<String>>()
            .await
            .map_err(invalid_path)?;
        Ok(Self(truncated(&member).to_owned()))
    }
}

impl IntoParams for MemberPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = super::described::plain().build().into();
        let what = "The member's name, or its id";
        vec![described_in(ParameterIn::Path, "member", what, schema).build()]
    }
}

fn described_in(
    place: ParameterIn,
    name: &str,
    what: &str,
    schema: RefOr<Schema>,
) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place.clone())
        .required(match place == ParameterIn::Path {
            true => Required::True,
            false => Required::False,
        })
        .description(Some(what))
        .schema(Some(schema))
}

fn machine_parameter() -> Parameter {
    let schema = <MachineName as PartialSchema>::schema();
    described_in(ParameterIn::Path, "machine", "The machine", schema)
        .example(Some("triad".into()))
        .build()
}

impl IntoParams for MachinePath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![machine_parameter()]
    }
}

impl IntoParams for InstancePath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = <InstanceName as PartialSchema>::schema();
        let what = "The instance's name within the machine";
        let instance = described_in(ParameterIn::Path, "instance", what, schema)
            .example(Some("default".into()))
            .build();
        vec![machine_parameter(), instance]
    }
}

impl IntoParams for SinkPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = <lockstep_machine::SinkName as PartialSchema>::schema();
        vec![described_in(ParameterIn::Path, "sink", "The sink", schema).build()]
    }
}

/// The header `name`: none of those that this interface reads may appear twice.
pub(super) fn header<'a>(
    headers: &'a HeaderMap,
    name: &str,
    code: ErrorCode,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Problem::new(code, format!("{name} appears more than once"))),
    }
}

/// The caller's own key, from the header `Idempotency-Key`: plain, or in quotes as the IETF draft has it.
#[derive(Debug)]
pub(super) struct Key(pub(super) Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

impl Key {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        const INVALID: ErrorCode = ErrorCode::InvalidIdempotencyKey;
        let Some(value) = header(headers, "Idempotency-Key", INVALID)? else {
            return Ok(Self(None));
        };
        let value = String::from_utf8_lossy(value.as_bytes());
        let key = match quoted(&value) {
            Some(content) => IdempotencyKey::new(content),
            None => IdempotencyKey::new(value),
        };
        key.map(|key| Self(Some(key)))
            .map_err(|error| Problem::new(INVALID, error))
    }
}

/// The content of a quoted string, where `\` stands before a quote or another `\` (RFC 9651).
fn quoted(text: &str) -> Option<String> {
    let mut inner = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut content = String::with_capacity(text.len());
    while let Some(next) = inner.next() {
        content.push(match next {
            '\\' => inner.next().filter(|it| matches!(it, '"' | '\\'))?,
            '"' => return None,
            other => other,
        });
    }
    Some(content)
}

impl IntoParams for Key {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "1 to 128 printable ASCII characters, plain or in quotes. Repeating a request with the same key returns the first outcome";
        // No space at either end: HTTP does not carry it.
        let schema = text(r"^[!-~]([ -~]*[!-~])?$", 1, 128).build().into();
        vec![described_in(ParameterIn::Header, "Idempotency-Key", what, schema).build()]
    }
}

/// The revision that the instance must be at, from the header `If-Match`: the `ETag` of a read. None
/// without the header, and for `*`, since every request names an instance that must exist.
///
/// A proxy that compresses a response marks its `ETag` as weak: `W/"7"`. That is still the revision.
pub(super) struct IfMatch(Option<Revision>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        const INVALID: ErrorCode = ErrorCode::InvalidParameter;
        let Some(value) = header(&parts.headers, "If-Match", INVALID)? else {
            return Ok(Self(None));
        };
        if value == "*" {
            return Ok(Self(None));
        }
        let revision = value.to_str().ok().and_then(|text| {
            let text = text.trim();
            let text = text.strip_prefix("W/").unwrap_or(text);
            let digits = text.strip_prefix('"')?.strip_suffix('"')?;
            digits.parse().ok().map(Revision)
        });
        let rule = "If-Match must be \"*\" or the ETag of one read, a revision in quotes";
        let revision = revision.ok_or_else(|| Problem::new(INVALID, rule))?;
        Ok(Self(Some(revision)))
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "The ETag of a read: reject unless the instance is still at that revision";
        let schema = plain()
            .pattern(Some(r#"^(\*|(W/)?"[0-9]{1,19}")$"#))
            .build()
            .into();
        vec![described_in(ParameterIn::Header, "If-Match", what, schema).build()]
    }
}

impl IfMatch {
    /// Adds the revision to what the body expects.
    pub(super) fn add_to(&self, expect_revision: &mut Option<Revision>) -> Result<(), Problem> {
        expect("expect_revision", expect_revision, self.0)
    }

    /// Answers a revision that does not match as RFC 9110 wants it for this header.
    pub(super) fn refusal(&self, mut problem: Problem) -> Problem {
        if self.0.is_some() && problem.code == ErrorCode::RevisionMismatch.as_str() {
            problem.status = StatusCode::PRECONDITION_FAILED;
        }
        problem
    }
}

/// Adds an expectation from another part of the request to that of the body.
pub(super) fn expect<T: PartialEq>(
    name: &str,
    expected: &mut Option<T>,
    other: Option<T>,
) -> Result<(), Problem> {
    match (&expected, other) {
        (_, None) => {}
        (None, other) => *expected = other,
        (Some(one), Some(other)) if *one == other => {}
        (Some(_), Some(_)) => {
            let detail = format!("the request has two different values for {name:?}");
            return Err(Problem::new(ErrorCode::InvalidParameter, detail));
        }
    }
    Ok(())
}

/// The id of the last event received, from the header `Last-Event-ID`.
pub(super) struct LastEvent(pub(super) Option<EventId>);

impl<S: Send + Sync> FromRequestParts<S> for LastEvent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        const INVALID: ErrorCode = ErrorCode::InvalidLastEventId;
        let last = header(&parts.headers, "Last-Event-ID", INVALID)?;
        let Some(last) = last.filter(|last| !last.is_empty()) else {
            return Ok(Self(None));
        };
        let id = last.to_str().ok().and_then(|last| last.parse().ok());
        let id = id.ok_or_else(|| {
            let detail = "Last-Event-ID must be the id of an event: revision-position-cluster";
            Problem::new(INVALID, detail)
        })?;
        Ok(Self(Some(id)))
    }
}

impl IntoParams for LastEvent {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "The id of the last event received; takes precedence over from_revision";
        let pattern = r"^[0-9]{1,19}-[0-9]{1,9}(-[0-9a-f]{1,64})?$";
        let schema = text(pattern, 3, 94).build().into();
        vec![described_in(ParameterIn::Header, "Last-Event-ID", what, schema).build()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_key_is_one_printable_header() {
        let key = |headers: &HeaderMap| Key::of(headers).map(|Key(key)| key);
        let mut headers = HeaderMap::new();
        assert_eq!(key(&headers).unwrap(), None);
        headers.append("idempotency-key", HeaderValue::from_static("k-1"));
        assert_eq!(key(&headers).unwrap().unwrap().as_str(), "k-1");
        headers.append("idempotency-key", HeaderValue::from_static("k-2"));
        let code = "invalid_idempotency_key";
        assert_eq!(key(&headers).unwrap_err().code, code);
        for same in [r#""k-1""#, r#""\k-1""#, r#""a\"b\\c""#] {
            headers.insert("idempotency-key", HeaderValue::from_static(same));
            let expected = match same {
                r#""k-1""# => "k-1",
                r#""\k-1""# => same,
                _ => r#"a"b\c"#,
            };
            assert_eq!(key(&headers).unwrap().unwrap().as_str(), expected);
        }
        headers.insert("idempotency-key", HeaderValue::from_static(r#""""#));
        assert_eq!(key(&headers).unwrap_err().code, code);
        headers.insert("idempotency-key", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(key(&headers).unwrap_err().code, code);
    }

    #[tokio::test]
    async fn if_match_is_the_etag_of_one_read() {
        let read = async |values: &[&str]| {
            let mut request = axum::http::Request::get("/");
            for value in values {
                request = request.header("if-match", *value);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let read = IfMatch::from_request_parts(&mut parts, &()).await;
            read.map(|IfMatch(revision)| revision)
                .map_err(|problem| problem.code)
        };
        assert_eq!(read(&[]).await, Ok(None));
        assert_eq!(read(&["*"]).await, Ok(None));
        for tag in ["\"7\"", "W/\"7\""] {
            assert_eq!(read(&[tag]).await, Ok(Some(Revision(7))));
        }
        for bad in [
            &["7"][..],
            &["w/\"7\""],
            &["\"7\", \"8\""],
            &["\"7\"", "\"7\""],
            &[""],
        ] {
            assert_eq!(read(bad).await, Err("invalid_parameter"), "{bad:?}");
        }
    }

    #[test]
    fn what_is_expected_twice_must_agree() {
        let both = |body, header| {
            let mut expected = body;
            IfMatch(header)
                .add_to(&mut expected)
                .map(|()| expected)
                .map_err(|problem| problem.code)
        };
        let (one, other) = (Some(Revision(1)), Some(Revision(2)));
        assert_eq!(both(None, one), Ok(one));
        assert_eq!(both(one, None), Ok(one));
        assert_eq!(both(one, one), Ok(one));
        assert_eq!(both(one, other), Err("invalid_parameter"));
    }

    #[tokio::test]
    async fn the_last_event_is_named_by_its_id() {
        let last = async |value: &str| {
            let request = axum::http::Request::get("/").header("last-event-id", value);
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let last = LastEvent::from_request_parts(&mut parts, &()).await;
            last.map(|LastEvent(id)| id.map(|id| id.to_string()))
                .map_err(|problem| problem.code)
        };
        assert_eq!(last("").await, Ok(None));
        for good in ["9-1", "9-4294967295", "9-1-3584844cf6683eb5"] {
            assert_eq!(last(good).await, Ok(Some(good.to_owned())));
        }
        let long = format!("9-1-{}", "a".repeat(65));
        for bad in [
            "9",
            "-1",
            "9-4294967296",
            "a-b",
            "9-1-",
            "9-1-x",
            "9-1-1-1",
            &long,
        ] {
            assert_eq!(last(bad).await, Err("invalid_last_event_id"), "{bad}");
        }
    }
}
