//! Bodies: JSON read into the machine's own types, within the limits of the interface.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::RequestPartsExt;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lockstep_machine::json::{explain_json, known_path};
use lockstep_machine::{Definition, InstanceId};
use lockstep_proto::ErrorCode;
use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_path_to_error::Segment;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::described::{MALFORMED, UNREAD};
use super::input::{InstancePath, header};
use super::operation::{Description, Input};
use crate::api::Edge;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::service::{Consistency, Freshness, Language};

pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Edge>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Arc<Edge>) -> Result<Self, Problem> {
        parse(&json_bytes(request, edge).await?, None).map(Self)
    }
}

/// A body of JSON about the instance that the path names: `T` without its `id`.
pub(super) struct InstanceBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Edge>> for InstanceBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Arc<Edge>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let InstancePath(id) = parts.extract().await?;
        let bytes = json_bytes(Request::from_parts(parts, body), edge).await?;
        parse(&bytes, Some(&id)).map(Self)
    }
}

impl<T: ToSchema> Input for JsonBody<T> {
    fn describe(description: &mut Description) {
        description.refuses(MALFORMED).refuses(UNREAD);
        description.body::<T>(None, &["application/json"]);
    }
}

impl<T: ToSchema> Input for InstanceBody<T> {
    fn describe(description: &mut Description) {
        InstancePath::describe(description);
        JsonBody::<WithoutId<T>>::describe(description);
    }
}

/// The schema of `T` without its `id`, under the name `TBody`.
struct WithoutId<T>(PhantomData<T>);

impl<T: ToSchema> PartialSchema for WithoutId<T> {
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.properties.remove("id");
            object.required.retain(|field| field != "id");
            object.description = Some("About the instance that the path names.".to_owned());
        }
        schema
    }
}

impl<T: ToSchema> ToSchema for WithoutId<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Body", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

/// A definition as its author wrote it. It may be as large as the cluster allows definitions to be.
pub(super) struct DocumentBody {
    pub(super) language: Language,
    pub(super) text: String,
}

impl FromRequest<Arc<Edge>> for DocumentBody {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Arc<Edge>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let language = match media_type(&parts.headers)?.as_deref() {
            Some(json) if is_json(json) => Language::Json,
            Some("application/yaml" | "application/x-yaml" | "text/yaml") => Language::Yaml,
            _ => {
                return Err(unsupported(
                    "the body must be a definition, with Content-Type: application/json or application/yaml",
                ));
            }
        };
        let stale = Freshness {
            consistency: Consistency::Stale,
            min_revision: None,
        };
        let timeout = edge.limits.request_timeout;
        let view = Call::within(edge, timeout).view(stale).await?;
        let bytes_max = usize::try_from(view.state.limits().document_bytes_max);
        let bytes_max = bytes_max.unwrap_or(usize::MAX);
        let bytes_max = bytes_max.max(edge.limits.body_bytes_max);
        drop(view);
        let text = collect(&parts.headers, body, bytes_max, timeout).await?;
        let text = String::from_utf8(text.into()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let detail = format!("the definition is not UTF-8 at byte {at}; send it as UTF-8");
            Problem::new(ErrorCode::MalformedDocument, detail)
        })?;
        Ok(Self { language, text })
    }
}

impl Input for DocumentBody {
    fn describe(description: &mut Description) {
        let media_types = &["application/json", "application/yaml"];
        description.refuses(MALFORMED).refuses(UNREAD);
        description.body::<Definition>(Some("A definition"), media_types);
    }
}

/// Reads an object, and no array of its fields in order, as serde also would. An instance's id, if given,
/// is read before the others as the field `id`.
struct Object<'a, D>(Option<&'a InstanceId>, D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.1.deserialize_map(Object(self.0, visitor))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.expecting(f)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<V::Value, M::Error> {
        let id = self.0.map(InstanceId::to_string);
        let key_read = id.is_none();
        self.1.visit_map(Fields { id, key_read, map })
    }
}

/// The fields of an object, after the `id` if there is one.
struct Fields<M> {
    id: Option<String>,
    key_read: bool,
    map: M,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Fields<M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        if !std::mem::replace(&mut self.key_read, true) {
            return seed
                .deserialize(BorrowedStrDeserializer::new("id"))
                .map(Some);
        }
        self.map.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, M::Error> {
        match self.id.take() {
            Some(id) => seed.deserialize(StringDeserializer::new(id)),
            None => self.map.next_value_seed(seed),
        }
    }
}

/// The bytes of a body of JSON. No body at all is an object without fields.
async fn json_bytes(request: Request, edge: &Edge) -> Result<Bytes, Problem> {
    let media_type = media_type(request.headers())?;
    if media_type.as_deref().is_some_and(|it| !is_json(it)) {
        return Err(not_json());
    }
    let limits = &edge.limits;
    let (parts, body) = request.into_parts();
    let (bytes_max, timeout) = (limits.body_bytes_max, limits.request_timeout);
    let bytes = collect(&parts.headers, body, bytes_max, timeout).await?;
    // A byte order mark is no part of the document.
    let bytes = match bytes.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => bytes.slice_ref(rest),
        None => bytes,
    };
    match (media_type, bytes.is_empty()) {
        (Some(_), false) => Ok(bytes),
        (_, true) => Ok(Bytes::from_static(b"{}")),
        (None, false) => Err(not_json()),
    }
}

fn not_json() -> Problem {
    unsupported("the body must be JSON, with Content-Type: application/json")
}

const UNSUPPORTED: ErrorCode = ErrorCode::UnsupportedMediaType;

/// The route does not read a body of this type or coding.
fn unsupported(detail: impl ToString) -> Problem {
    Problem::new(UNSUPPORTED, detail)
}

/// Reads a whole body, at most `bytes_max` also where it is compressed, within the time of a request.
async fn collect(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let coding = header(headers, "Content-Encoding", UNSUPPORTED)?;
    let coding = coding.map(|it| String::from_utf8_lossy(it.as_bytes()).to_ascii_lowercase());
    let compressed = match coding.as_deref().unwrap_or("identity") {
        "identity" => false,
        "gzip" | "x-gzip" => true,
        other => {
            let other: String = other.chars().take(80).collect();
            let detail =
                format!("Content-Encoding {other:?} is not supported; send gzip or identity");
            return Err(unsupported(detail).accept_encoding("gzip"));
        }
    };
    let bytes = collect_within(body, bytes_max, timeout).await?;
    match compressed {
        true => decompress(&bytes, bytes_max),
        false => Ok(bytes),
    }
}

async fn collect_within(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, Problem> {
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
            "the body ended early, or its framing is invalid",
        )),
    }
}

/// Decompresses at most `bytes_max`: a small body can stand for a very large one.
fn decompress(gzip: &[u8], bytes_max: usize) -> Result<Bytes, Problem> {
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(gzip)
        .take((bytes_max as u64).saturating_add(1))
        .read_to_end(&mut plain);
    match read {
        Ok(bytes) if bytes > bytes_max => Err(Problem::body_too_large(bytes_max)),
        Ok(_) => Ok(plain.into()),
        Err(_) => Err(Problem::new(
            ErrorCode::IncompleteBody,
            "the body is not complete gzip, as its Content-Encoding says",
        )),
    }
}

/// The media type of the body in lower case, without its parameters; none if the request has none.
fn media_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = header(headers, "Content-Type", UNSUPPORTED)? else {
        return Ok(None);
    };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_owned();
    let parameters = parts.filter_map(|it| it.split_once('='));
    let charsets = parameters.filter(|(name, _)| name.trim_end() == "charset");
    let is_utf8 = |charset: &str| matches!(charset, "utf-8" | "utf8" | "us-ascii");
    let charset = |value: &str| value.trim_start().trim_matches('"').to_owned();
    let mut charsets = charsets.map(|(_, it)| charset(it));
    match charsets.find(|it| !is_utf8(it)) {
        None => Ok(Some(essence)),
        Some(other) => {
            let other: String = other.chars().take(80).collect();
            let detail = format!("charset {other:?} is not supported; send UTF-8");
            Err(unsupported(detail))
        }
    }
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Decodes a body; `id` stands for its field of that name.
fn parse<T: DeserializeOwned>(bytes: &[u8], id: Option<&InstanceId>) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = T::deserialize(Object(id, &mut reader));
    read.and_then(|read| reader.end().map(|()| read))
        .map_err(|error| refusal::<T>(bytes, id, &error))
}

/// Why a body is refused: the line, the column, the field and, of a transaction, the operation.
fn refusal<T: DeserializeOwned>(
    bytes: &[u8],
    id: Option<&InstanceId>,
    error: &serde_json::Error,
) -> Problem {
    if bytes.is_empty() {
        let detail = "the body is empty; a JSON object is expected";
        return Problem::new(ErrorCode::MalformedJson, detail);
    }
    // Only for a refusal: it costs time.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let tracked = serde_path_to_error::deserialize::<_, T>(Object(id, &mut reader));
    let path = tracked.err().map(|error| error.path().clone());
    let segments: Vec<_> = path.iter().flat_map(|path| path.iter().cloned()).collect();
    let mut detail = explain_json(bytes, error);
    let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    let code = match error.classify() {
        Category::Io | Category::Syntax | Category::Eof if !is_json => ErrorCode::MalformedJson,
        _ if detail.starts_with("metadata entry ") => ErrorCode::InvalidMetadata,
        _ if is_id_of_operation(&segments) && detail.contains(" is not valid: ") => {
            ErrorCode::InvalidName
        }
        _ => ErrorCode::InvalidBody,
    };
    let path = path.map(|path| path.to_string()).unwrap_or_default();
    if let Some(path) = known_path(&path).filter(|_| !segments.is_empty()) {
        let path: String = path.chars().take(200).collect();
        detail = format!("{path}: {detail}");
    }
    let problem = Problem::new(code, detail)
        .with("line", error.line())
        .with("column", error.column());
    match &segments[..] {
        [Segment::Map { key }, Segment::Seq { index }, ..] if key == "operations" => {
            problem.with("operation", *index)
        }
        _ => problem,
    }
}

fn is_id_of_operation(path: &[Segment]) -> bool {
    matches!(path, [.., Segment::Seq { .. }, _, Segment::Map { key }] if key == "id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lockstep_machine::{
        Migrate, Revision, StateName, Transaction, Transition, Trigger, Version,
    };
    use serde_json::{Value, json};
    use std::io::Write as _;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: u8,
        b: u8,
    }

    #[test]
    fn a_body_is_one_object_of_json() {
        let read = |text: &str| parse::<Pair>(text.as_bytes(), None);
        assert_eq!(read("{\"a\":1,\"b\":2}").unwrap(), Pair { a: 1, b: 2 });
        let problem = read("{\"a\":\n 2").unwrap_err();
        assert_eq!(
            (problem.code.as_str(), problem.status.as_u16()),
            ("malformed_json", 400)
        );
        assert_eq!(problem.member("line"), &json!(2));
        assert!(problem.detail.contains("too early"), "{}", problem.detail);
        for (body, code) in [
            ("{\"a\":\"x\"}", "invalid_body"),
            ("{\"a\":1,\"a\":2}", "invalid_body"),
            ("[1,2]", "invalid_body"),
            ("7", "invalid_body"),
            ("", "malformed_json"),
            ("{\"a\":1,\"b\":2}}", "malformed_json"),
            ("[[[[[[[[", "invalid_body"),
        ] {
            assert_eq!(read(body).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn only_json_may_be_the_content_type() {
        let read = |values: &[&'static str]| {
            let value = |it: &&'static str| (CONTENT_TYPE, HeaderValue::from_static(it));
            media_type(&values.iter().map(value).collect())
        };
        for json in [
            "application/json",
            "application/json; charset=UTF-8",
            "Application/JSON;charset=\"utf-8\"",
            "application/json; charset = utf-8; version=1",
            "application/merge-patch+json",
        ] {
            assert!(is_json(&read(&[json]).unwrap().unwrap()), "{json}");
        }
        assert!(!is_json(&read(&["text/plain"]).unwrap().unwrap()));
        assert_eq!(read(&[]).unwrap(), None);
        for refused in [
            &["application/json; charset=iso-8859-1"][..],
            &["application/json; charset = iso-8859-1"],
            &["application/json; charset=utf-8; charset=iso-8859-1"],
            &["application/json; Charset=\"iso-8859-1\""],
            &["application/json", "application/json"],
        ] {
            assert_eq!(read(refused).unwrap_err().status, 415, "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_compressed_body_is_bounded_where_it_is_plain() {
        let read = async |coding: &'static str, body: Vec<u8>| {
            let value = HeaderValue::from_static(coding);
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, value)]);
            collect(&headers, Body::from(body), 64, Duration::from_secs(5))
                .await
                .map_err(|problem| (problem.status.as_u16(), problem.code.as_str()))
        };
        let gzip = |plain: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(read("gzip", gzip(b"{}")).await.unwrap(), "{}");
        assert_eq!(read("identity", b"{}".into()).await.unwrap(), "{}");
        let bomb = gzip(&[b' '; 2000]);
        assert!(bomb.len() < 64);
        let mut cut = gzip(b"{\"to\":\"a\"}");
        cut.truncate(15);
        for (coding, body, refusal) in [
            ("gzip", bomb, (413, "body_too_large")),
            ("gzip", cut, (400, "incomplete_body")),
            ("gzip", b"{}".into(), (400, "incomplete_body")),
            ("br", b"{}".into(), (415, "unsupported_media_type")),
            ("gzip, gzip", b"{}".into(), (415, "unsupported_media_type")),
        ] {
            assert_eq!(read(coding, body).await, Err(refusal), "{coding}");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded_in_bytes_and_in_time() {
        let wait = Duration::from_secs(5);
        let problem = collect_within(Body::from("x".repeat(17)), 16, wait).await;
        assert_eq!(problem.unwrap_err().status, 413);
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let wait = Duration::from_millis(10);
        let problem = collect_within(Body::from_stream(never), 16, wait).await;
        assert_eq!(problem.unwrap_err().status, 408);
    }

    fn about_an_instance<T: DeserializeOwned>(body: &Value) -> Result<T, Problem> {
        let id = InstanceId::new("triad", "default").unwrap();
        parse(body.to_string().as_bytes(), Some(&id))
    }

    #[test]
    fn a_transition_names_a_state_or_an_event_and_the_path_the_instance() {
        let read = |body: Value| about_an_instance::<Transition>(&body);
        let by_state = json!({"to": "second", "expect_state": "first", "expect_revision": 3.0});
        let by_state = read(by_state).unwrap();
        assert_eq!(by_state.instance.to_string(), "triad/default");
        let second = StateName::new("second").unwrap();
        assert_eq!(by_state.trigger, Trigger::To(second));
        assert_eq!(by_state.expect_revision, Some(Revision(3)));
        let by_event = read(json!({"event": "pay", "metadata": null})).unwrap();
        assert!(matches!(by_event.trigger, Trigger::Event(event) if event.as_str() == "pay"));
        for (bad, code, words) in [
            (json!({}), "invalid_body", "is missing"),
            (json!({"to": "a", "event": "b"}), "invalid_body", "not both"),
            (
                json!({"to": "a", "exspect_state": "b"}),
                "invalid_body",
                "did you mean \"expect_state\"?",
            ),
            (json!({"to": "a b"}), "invalid_body", "to: state name"),
            (json!({"to": 7}), "invalid_body", "to: "),
            (
                json!({"to": "a", "expect_revision": -1}),
                "invalid_body",
                "-1",
            ),
            (
                json!({"to": "a", "id": "triad/1"}),
                "invalid_body",
                "the field \"id\" appears twice",
            ),
            (
                json!({"to": "a", "metadata": {"": "b"}}),
                "invalid_metadata",
                "the key is empty",
            ),
            (json!([]), "invalid_body", "found a list"),
        ] {
            let problem = read(bad.clone()).expect_err("not a transition");
            assert_eq!(problem.code.as_str(), code, "{bad}");
            assert!(problem.detail.contains(words), "{bad}: {}", problem.detail);
        }
        let id = InstanceId::new("triad", "default").unwrap();
        let cut = parse::<Transition>(br#"{"event":"pay""#, Some(&id)).unwrap_err();
        assert_eq!(cut.detail, "it ends too early");
        let twice = br#"{"to":"a","metadata":{"by":"ann","by":"bob"}}"#;
        let problem = parse::<Transition>(twice, Some(&id)).unwrap_err();
        assert_eq!(problem.code.as_str(), "invalid_metadata");
    }

    #[test]
    fn a_migration_maps_each_state_once() {
        let migrate: Migrate =
            about_an_instance(&json!({"version": 2, "states": {"paid": "settled"}})).unwrap();
        assert_eq!(migrate.version, Some(Version(2)));
        assert_eq!(migrate.states.len(), 1);
        let id = InstanceId::new("triad", "default").unwrap();
        let twice = br#"{"states":{"paid":"settled","paid":"open"}}"#;
        let problem = parse::<Migrate>(twice, Some(&id)).unwrap_err();
        assert_eq!(problem.code.as_str(), "invalid_body");
        assert!(
            problem.detail.contains("mapped twice"),
            "{}",
            problem.detail
        );
    }

    #[test]
    fn a_fault_of_a_transaction_names_the_operation() {
        let read = |operations: Value| {
            let body = json!({ "operations": operations }).to_string();
            parse::<Transaction>(body.as_bytes(), None)
        };
        let all = read(json!([
            {"create": {"id": "order/1", "metadata": {"by": "ann"}}},
            {"transition": {"id": "order/2", "event": "pay", "expect_revision": 3}},
            {"delete": {"id": "order/3", "expect_state": "done"}},
            {"check": {"id": "stock/7", "exists": false}},
            {"check": {"id": "stock/8", "state": "free"}},
        ]));
        assert_eq!(all.unwrap().operations.len(), 5);
        for (bad, code) in [
            (json!({"create": {"id": "order"}}), "invalid_name"),
            (json!({"transition": {"id": "order/1"}}), "invalid_body"),
            (json!({"check": {"id": "order/1"}}), "invalid_body"),
            (json!({"creat": {"id": "order/1"}}), "invalid_body"),
            (
                json!({"create": {"id": "order/1", "versoin": 1}}),
                "invalid_body",
            ),
            (json!({"create": ["order/1", null, null]}), "invalid_body"),
            (
                json!({"check": {"id": "order/1", "exists": true, "revision": 1}}),
                "invalid_body",
            ),
        ] {
            let good = json!({"check": {"id": "order/1", "exists": true}});
            let problem = read(json!([good, bad])).unwrap_err();
            let found = (problem.code.as_str(), problem.member("operation"));
            assert_eq!(found, (code, &json!(1)), "{bad}");
        }
    }
}
