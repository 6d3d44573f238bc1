//! Parts of requests that several routes share: what a path names, and headers.

use std::convert::Infallible;
use std::sync::Arc;

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use lockstep_machine::{IdempotencyKey, InstanceId, InstanceName, MachineName, Revision, SinkName};
use lockstep_proto::ErrorCode;
use utoipa::PartialSchema;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};

use super::described::{MALFORMED, MISSING, REFUSED, UNMATCHED, plain, text};
use super::operation::{Description, Input};
use crate::api::Edge;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::service::EventId;
use crate::sink::truncated;

impl FromRequestParts<Arc<Edge>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, edge: &Arc<Edge>) -> Result<Self, Infallible> {
        Ok(Self::within(edge, edge.limits.request_timeout))
    }
}

pub(super) fn parameter(
    place: ParameterIn,
    name: &str,
    required: bool,
    what: &str,
    schema: RefOr<Schema>,
) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(match required {
            true => Required::True,
            false => Required::False,
        })
        .description(Some(what.trim()))
        .schema(Some(schema))
}

/// Declares what a path names: the texts that axum takes from it, how they are read, and the parameters
/// with an example where there is one in every cluster.
macro_rules! paths {
    ($(
        $(#[$doc:meta])+
        $type:ident($inner:ty) = $texts:ty => |$text:pat_param| $read:expr,
        { $($name:literal: $what:literal, $schema:expr $(, $example:literal)?;)+ }
    )+) => {$(
        $(#[$doc])+
        pub(super) struct $type(pub(super) $inner);

        impl<S: Send + Sync> FromRequestParts<S> for $type {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                let path = parts.extract::<Path<$texts>>().await;
                let Path($text) = path.map_err(|_| {
                    let detail = "the path is not UTF-8 once its %-escapes are decoded";
                    Problem::new(ErrorCode::InvalidPath, detail)
                })?;
                Ok(Self($read))
            }
        }

        impl Input for $type {
            fn describe(description: &mut Description) {
                description.refuses(MALFORMED).refuses(MISSING);
                $(
                    let it = parameter(ParameterIn::Path, $name, true, $what, $schema);
                    $(let it = it.example(Some($example.into()));)?
                    description.parameter(it.build());
                )+
            }
        }
    )+};
}

paths! {
    /// The machine in a path.
    MachinePath(MachineName) = String => |machine| MachineName::new(machine)?, {
        "machine": "The machine", MachineName::schema(), "triad";
    }
    /// The instance that a path names.
    InstancePath(InstanceId) = (String, String) => |(machine, name)| InstanceId::new(machine, name)?, {
        "machine": "The machine", MachineName::schema(), "triad";
        "instance": "The instance's name within the machine", InstanceName::schema(), "default";
    }
    /// The sink that a path names: cut where it is longer than any sink's name.
    SinkPath(String) = String => |sink| truncated(&sink).to_owned(), {
        "sink": "The sink", SinkName::schema();
    }
    /// The member that a path names, by name or id: cut where it is longer than either.
    MemberPath(String) = String => |member| truncated(&member).to_owned(), {
        "member": "The member's name, or its id", plain().build().into();
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

/// Declares headers: how their value is read, and what is said of them.
macro_rules! headers {
    ($(
        $(#[$doc:meta])+
        $type:ident($inner:ty) = $name:literal, $what:literal, $schema:expr, $refusals:expr,
        $code:ident, $read:expr;
    )+) => {$(
        $(#[$doc])+
        #[derive(Debug)]
        pub(super) struct $type(pub(super) Option<$inner>);

        impl $type {
            pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
                let read: fn(&HeaderValue) -> Result<Option<$inner>, Problem> = $read;
                let value = header(headers, $name, ErrorCode::$code)?;
                value.map_or(Ok(None), read).map(Self)
            }
        }

        impl<S: Send + Sync> FromRequestParts<S> for $type {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                Self::of(&parts.headers)
            }
        }

        impl Input for $type {
            fn describe(description: &mut Description) {
                description.refuses(MALFORMED).refuses($refusals);
                let schema = $schema.build().into();
                let it = parameter(ParameterIn::Header, $name, false, $what, schema);
                description.parameter(it.build());
            }
        }
    )+};
}

headers! {
    /// The caller's own key: plain, or in quotes as the IETF draft has it.
    Key(IdempotencyKey) = "Idempotency-Key",
        "1 to 128 printable ASCII characters, plain or in quotes. Repeating a request with the same key returns the first outcome",
        // No space at either end: HTTP does not carry it.
        text(r"^[!-~]([ -~]*[!-~])?$", 1, 128), REFUSED, InvalidIdempotencyKey, |value| {
            let value = String::from_utf8_lossy(value.as_bytes());
            let key = match quoted(&value) {
                Some(content) => IdempotencyKey::new(content),
                None => IdempotencyKey::new(value),
            };
            key.map(Some).map_err(|error| Problem::new(ErrorCode::InvalidIdempotencyKey, error))
        };
    /// The revision that the instance must be at: the `ETag` of a read. None for `*`, since every request
    /// names an instance that must exist.
    ///
    /// A proxy that compresses a response marks its `ETag` as weak: `W/"7"`. That is still the revision.
    IfMatch(Revision) = "If-Match",
        "The ETag of a read: reject unless the instance is still at that revision",
        plain().pattern(Some(r#"^(\*|(W/)?"[0-9]{1,19}")$"#)), UNMATCHED, InvalidParameter, |value| {
            if value == "*" {
                return Ok(None);
            }
            let revision = value.to_str().ok().and_then(|text| {
                let text = text.trim();
                let text = text.strip_prefix("W/").unwrap_or(text);
                let digits = text.strip_prefix('"')?.strip_suffix('"')?;
                digits.parse().ok().map(Revision)
            });
            let rule = "If-Match must be \"*\" or the ETag of one read, a revision in quotes";
            let invalid = || Problem::new(ErrorCode::InvalidParameter, rule);
            revision.map(Some).ok_or_else(invalid)
        };
    /// The id of the last event received.
    LastEvent(EventId) = "Last-Event-ID",
        "The id of the last event received; takes precedence over from_revision",
        text(r"^[0-9]{1,19}-([0-9]{1,9}|4294967295)(-[0-9a-f]{1,64})?$", 3, 95), &[], InvalidLastEventId, |value| {
            if value.is_empty() {
                return Ok(None);
            }
            let id = value.to_str().ok().and_then(|last| last.parse().ok());
            let rule = "Last-Event-ID must be the id of an event: revision-position-cluster";
            let invalid = || Problem::new(ErrorCode::InvalidLastEventId, rule);
            id.map(Some).ok_or_else(invalid)
        };
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

impl IfMatch {
    /// Adds the revision to what the body expects.
    pub(super) fn add_to(&self, expect_revision: &mut Option<Revision>) -> Result<(), Problem> {
        expect("expect_revision", expect_revision, self.0)
    }

    /// Answers a revision that does not match as RFC 9110 wants it for this header.
    pub(super) fn refusal(&self, mut problem: Problem) -> Problem {
        if self.0.is_some() && problem.code == ErrorCode::RevisionMismatch {
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
                .map_err(|problem| problem.code.as_str())
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
                .map_err(|problem| problem.code.as_str())
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
                .map_err(|problem| problem.code.as_str())
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
