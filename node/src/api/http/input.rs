//! Strict parsing of requests: query parameters, headers and JSON bodies.
//!
//! An unknown, repeated or malformed part refuses the whole request, with the nearest known name where
//! a name is wrong, so that a typing error never changes what a request means.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lockstep_machine::{
    GlobalRevision, IdempotencyKey, InstanceId, InvalidName, MachineName, Version, json,
};
use lockstep_proto::ErrorCode;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::problem::Problem;
use crate::service::{Consistency, Freshness};
use crate::sink::truncated;

/// The query's parameters: each known, each at most once.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the query of `uri`, which may have the parameters `known`.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::new(ErrorCode::InvalidQuery, error.body_text()))?;
        for (position, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(80).collect();
                let hint = hint(&name, known.iter().copied());
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                let detail = format!("unknown parameter {name:?}{hint}; known: {known}");
                return Err(Problem::new(ErrorCode::UnknownParameter, detail));
            }
            if pairs[..position].iter().any(|(earlier, _)| earlier == name) {
                let detail = format!("parameter {name:?} appears more than once");
                return Err(Problem::new(ErrorCode::RepeatedParameter, detail));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter's value, if present.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// A required parameter.
    pub(super) fn require(&self, name: &'static str) -> Result<&str, Problem> {
        self.get(name).ok_or_else(|| {
            Problem::new(
                ErrorCode::MissingParameter,
                format!("parameter {name:?} is missing"),
            )
        })
    }

    /// A parameter that is `true` or `false`; false by default.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                let detail = format!("parameter {name:?} must be true or false");
                Err(Problem::new(ErrorCode::InvalidParameter, detail))
            }
        }
    }
}

impl Parameters {
    /// A parameter that is a whole number from `min` to `max`.
    pub(super) fn number(
        &self,
        name: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => {
                let detail =
                    format!("parameter {name:?} must be a whole number from {min} to {max}");
                Err(Problem::new(ErrorCode::InvalidParameter, detail))
            }
        }
    }

    /// A parameter that is a name of some kind.
    pub(super) fn name<T: FromStr<Err = InvalidName>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        Ok(self.get(name).map(T::from_str).transpose()?)
    }

    /// The parameter `version`.
    pub(super) fn version(&self) -> Result<Option<Version>, Problem> {
        let version = self.number("version", 1, u32::MAX.into())?;
        Ok(version.and_then(|it| u32::try_from(it).ok()).map(Version))
    }

    /// The parameters `consistency` and `min_revision`.
    pub(super) fn freshness(&self) -> Result<Freshness, Problem> {
        let consistency = match self.get("consistency") {
            None | Some("linearizable") => Consistency::Linearizable,
            Some("stale") => Consistency::Stale,
            Some(_) => {
                let detail = "parameter \"consistency\" must be linearizable or stale";
                return Err(Problem::new(ErrorCode::InvalidParameter, detail));
            }
        };
        let min_revision = self.number("min_revision", 0, u64::MAX)?;
        Ok(Freshness {
            consistency,
            min_revision: min_revision.map(GlobalRevision),
        })
    }
}

/// `; did you mean ...?` where a known name is near.
fn hint<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
        .min()
        .map_or_else(String::new, |(_, known)| {
            format!("; did you mean {known:?}?")
        })
}

/// The machine in a path.
pub(super) fn machine(path: Result<Path<String>, PathRejection>) -> Result<MachineName, Problem> {
    let Path(machine) = path.map_err(invalid_path)?;
    Ok(MachineName::new(machine)?)
}

/// The instance in a path.
pub(super) fn instance(path: IdPath) -> Result<InstanceId, Problem> {
    let Path((machine, instance)) = path.map_err(invalid_path)?;
    Ok(InstanceId::new(machine, instance)?)
}

/// The sink that a path names: cut where it is longer than any sink's name.
pub(super) fn sink(path: SinkPath) -> Result<String, Problem> {
    let Path(sink) = path.map_err(invalid_path)?;
    Ok(truncated(&sink).to_owned())
}

/// The two names of an instance's path.
pub(super) type IdPath = Result<Path<(String, String)>, PathRejection>;
/// The name of a machine's path.
pub(super) type MachinePath = Result<Path<String>, PathRejection>;

/// The name of a sink's path.
pub(super) type SinkPath = Result<Path<String>, PathRejection>;

fn invalid_path(error: PathRejection) -> Problem {
    Problem::new(ErrorCode::InvalidPath, error.body_text())
}

/// The caller's own key, from the header `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::new(
            ErrorCode::InvalidIdempotencyKey,
            "Idempotency-Key appears more than once",
        ));
    }
    let value = String::from_utf8_lossy(value.as_bytes());
    let key = IdempotencyKey::new(value)
        .map_err(|e| Problem::new(ErrorCode::InvalidIdempotencyKey, e))?;
    Ok(Some(key))
}

/// Reads a JSON body of at most `bytes_max` bytes that arrives within `timeout`.
pub(super) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<T, Problem> {
    if !is_json(headers) {
        return Err(unsupported(
            "the body must be JSON, with Content-Type: application/json",
        ));
    }
    parse(&collect(body, bytes_max, timeout).await?)
}

/// The route does not read this content type.
pub(super) fn unsupported(detail: &str) -> Problem {
    Problem::new(ErrorCode::UnsupportedMediaType, detail)
}

/// Reads a whole body of at most `bytes_max` bytes that arrives within `timeout`.
pub(super) async fn collect(
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let collecting = Limited::new(body, bytes_max).collect();
    let Ok(collected) = tokio::time::timeout(timeout, collecting).await else {
        let detail = format!("the body did not arrive within {} ms", timeout.as_millis());
        return Err(Problem::new(ErrorCode::RequestTimeout, detail));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(bytes_max)),
        Err(_) => Err(Problem::new(
            ErrorCode::IncompleteBody,
            "the body ended early or was not framed correctly",
        )),
    }
}

/// The media type of the body, without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|essence| {
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

/// Decodes JSON; serde's own text carries line and column.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    read_object(bytes).map_err(|error| {
        let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        let code = match error.classify() {
            // Not an object, but still valid JSON.
            Category::Data => ErrorCode::InvalidBody,
            _ if is_json => ErrorCode::InvalidBody,
            Category::Io | Category::Syntax | Category::Eof => ErrorCode::MalformedJson,
        };
        let mut detail: String = error.to_string().chars().take(400).collect();
        detail.push_str(&nearest_field(&detail));
        if bytes.is_empty() {
            detail = "the body is empty; a JSON object is expected".to_owned();
        }
        Problem::new(code, detail)
            .with("line", error.line())
            .with("column", error.column())
    })
}

fn read_object<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = json::object(&mut reader)?;
    reader.end()?;
    Ok(read)
}

/// The nearest known name, which serde's message about an unknown field leaves out.
fn nearest_field(detail: &str) -> String {
    let Some((_, rest)) = detail.split_once("unknown field `") else {
        return String::new();
    };
    // Odd places are between backticks: the wrong name, then the known ones.
    let mut names = rest.split('`').step_by(2);
    let wrong = names.next().unwrap_or_default();
    hint(wrong, names.filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn parameters(uri: &str) -> Result<Parameters, &'static str> {
        Parameters::parse(&uri.parse().unwrap(), &["a", "b"]).map_err(|problem| problem.code)
    }

    #[test]
    fn parameters_are_known_and_not_repeated() {
        assert_eq!(parameters("/?a=1&b=%20").unwrap().get("b"), Some(" "));
        assert_eq!(parameters("/?").unwrap().get("a"), None);
        assert_eq!(parameters("/?a=1&a=1").unwrap_err(), "repeated_parameter");
        assert_eq!(parameters("/?c=1").unwrap_err(), "unknown_parameter");
        assert_eq!(
            parameters("/?a=1").unwrap().require("b").unwrap_err().code,
            "missing_parameter"
        );
        assert_eq!(
            parameters("/?a=1").unwrap().flag("a").unwrap_err().code,
            "invalid_parameter"
        );
    }

    #[test]
    fn a_wrong_name_gets_the_nearest_known_one() {
        let uri = "/?consistancy=stale".parse().unwrap();
        let problem = Parameters::parse(&uri, &["consistency", "limit"]).unwrap_err();
        assert!(problem.detail.contains("did you mean \"consistency\"?"));
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Known {
            #[expect(dead_code, reason = "only its name counts")]
            expect_state: Option<String>,
        }
        let problem = super::parse::<Known>(br#"{"exspect_state":"a"}"#).unwrap_err();
        assert_eq!(problem.code, "invalid_body");
        assert!(
            problem.detail.contains("did you mean \"expect_state\"?"),
            "{}",
            problem.detail
        );
    }

    #[test]
    fn freshness_is_read_strictly() {
        let freshness = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            Parameters::parse(&uri, &["consistency", "min_revision"])
                .and_then(|it| it.freshness())
                .map_err(|problem| problem.code)
        };
        assert_eq!(freshness(""), Ok(Freshness::default()));
        assert_eq!(
            freshness("consistency=stale&min_revision=7"),
            Ok(Freshness {
                consistency: Consistency::Stale,
                min_revision: Some(GlobalRevision(7)),
            })
        );
        assert_eq!(freshness("consistency=fresh"), Err("invalid_parameter"));
        assert_eq!(freshness("min_revision=-1"), Err("invalid_parameter"));
    }

    #[test]
    fn a_key_is_one_printable_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(idempotency_key(&headers).unwrap(), None);
        headers.append("idempotency-key", HeaderValue::from_static("k-1"));
        assert_eq!(idempotency_key(&headers).unwrap().unwrap().as_str(), "k-1");
        headers.append("idempotency-key", HeaderValue::from_static("k-2"));
        assert_eq!(
            idempotency_key(&headers).unwrap_err().code,
            "invalid_idempotency_key"
        );
        headers.insert("idempotency-key", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(
            idempotency_key(&headers).unwrap_err().code,
            "invalid_idempotency_key"
        );
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: u8,
        b: u8,
    }

    async fn read(content_type: &'static str, body: &str) -> Result<Pair, Problem> {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        json(
            &headers,
            Body::from(body.to_owned()),
            16,
            Duration::from_secs(5),
        )
        .await
    }

    #[tokio::test]
    async fn a_body_is_json_whole_and_not_too_large() {
        assert_eq!(
            read("application/json; charset=utf-8", "{\"a\":1,\"b\":2}")
                .await
                .unwrap(),
            Pair { a: 1, b: 2 }
        );
        assert_eq!(read("text/plain", "{}").await.unwrap_err().status, 415);
        let problem = read("application/json", "{\"a\":\n 2").await.unwrap_err();
        assert_eq!(
            (problem.code, problem.status.as_u16()),
            ("malformed_json", 400)
        );
        assert!(problem.detail.contains("line 2"), "{}", problem.detail);
        for (body, code) in [
            ("{\"a\":\"x\"}", "invalid_body"),
            ("{\"a\":1,\"a\":2}", "invalid_body"),
            ("[1,2]", "invalid_body"),
            ("7", "invalid_body"),
            ("", "malformed_json"),
            ("{\"a\":1,\"b\":2}}", "malformed_json"),
            ("[[[[[[[[", "invalid_body"),
        ] {
            let problem = read("application/json", body).await.unwrap_err();
            assert_eq!(problem.code, code, "{body}");
        }
        assert_eq!(
            read("application/json", "{\"a\":1, \"b\":2}   ")
                .await
                .unwrap_err()
                .status,
            413
        );
    }

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        #[derive(serde::Deserialize)]
        struct Body {
            n: Option<Version>,
        }
        let read = |text: &str| serde_json::from_str::<Body>(text).map(|it| it.n.map(|n| n.0));
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read(r#"{"n":null}"#).unwrap(), None);
        for text in ["7", "7.0", "0.7e1", "70e-1"] {
            let read = read(&format!("{{\"n\":{text}}}"));
            assert_eq!(read.unwrap(), Some(7), "{text}");
        }
        for text in ["7.5", "-1", "-0.5", "4294967296", "1e20", "\"7\"", "true"] {
            let read = read(&format!("{{\"n\":{text}}}"));
            assert!(read.is_err(), "{text}: {read:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_times_out() {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let body = Body::from_stream(never);
        let problem = json::<Pair>(&headers, body, 16, Duration::from_millis(10))
            .await
            .unwrap_err();
        assert_eq!(problem.status, 408);
    }
}
