//! Random requests to every described operation, over a service without a cluster. Every answer must
//! be one that the description lists, in the form that it gives, and never a server error.

use axum::body::Body;
use proptest::prelude::*;
use proptest::sample::select;

use super::openapi::described_operation;
use super::*;
use crate::api::problem::PROBLEM;

const ORDER: &str = r#"{"name":"order","initial":"open","states":{"open":{"timeout":{"after":"1h","to":"void"}},"paid":{},"void":{"final":true}},"transitions":[{"from":"open","to":"paid","event":"pay"}]}"#;

pub(super) const BODIES: &[&str] = &[
    ORDER,
    r#"{"to":"paid","expect_state":"open","expect_revision":0,"metadata":{"by":"ann"}}"#,
    r#"{"event":"pay","metadata":{}}"#,
    r#"{"id":"1","version":1,"metadata":{"customer":"ada","why":"é \u0007"}}"#,
    r#"{"version":1,"states":{"open":"paid"},"metadata":null}"#,
    r#"{"operations":[{"create":{"id":"order/2"}},{"transition":{"id":"order/1","to":"paid"}},{"delete":{"id":"order/1"}},{"check":{"id":"triad/default","exists":true}}]}"#,
    "name: order\ninitial: a\nstates:\n  a: &x {}\n  b: *x\n",
    "name: order\ninitial: a\nstates: {a: {}, b: {final: true}}\ntransitions: [{from: '*', to: b}]\n",
];

/// What a request may hold where a value is due.
fn value() -> impl Strategy<Value = String> {
    let known = select(vec![
        "triad",
        "default",
        "order",
        "1",
        "open",
        "paid",
        "first",
        "pay",
        "true",
        "false",
        "0",
        "stale",
        "linearizable",
        "json",
        "yaml",
        "svg",
        "dot",
        "mermaid",
        "by=ann",
        "order/1",
        "7-1",
        "18446744073709551615",
        "18446744073709551616",
        "4294967295",
        "-1",
        "1e3",
        "NaN",
        "",
        "..",
    ]);
    prop_oneof![
        8 => known.prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[ -~]{0,200}",
    ]
}

fn percent(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A part of a path or query: encoded, or broken.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => value().prop_map(|it| percent(&it)),
        1 => Just("%ff".to_owned()),
        1 => Just("%".to_owned()),
        1 => Just("%00".to_owned()),
    ]
}

/// A good body, damaged; or anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (
        select(BODIES),
        any::<prop::sample::Index>(),
        0..12usize,
        value(),
    )
        .prop_map(|(body, at, length, with)| {
            let at = at.index(body.len() + 1);
            let end = (at + length).min(body.len());
            [
                &body.as_bytes()[..at],
                with.as_bytes(),
                &body.as_bytes()[end..],
            ]
            .concat()
        });
    prop_oneof![
        4 => select(BODIES).prop_map(|it| it.as_bytes().to_vec()),
        4 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (1..3000usize).prop_map(|deep| "[".repeat(deep).into_bytes()),
        1 => (1..200usize).prop_map(|deep| "{\"a\":".repeat(deep).into_bytes()),
    ]
}

#[derive(Debug, Clone)]
struct Asked {
    /// Which of the operations.
    operation: prop::sample::Index,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    key: Option<Vec<u8>>,
    last_event: Option<String>,
    content_type: Option<&'static str>,
    body: Vec<u8>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let names = select(vec![
        "machine",
        "instance",
        "state",
        "prefix",
        "label",
        "limit",
        "cursor",
        "consistency",
        "min_revision",
        "version",
        "format",
        "dry_run",
        "expect_state",
        "expect_revision",
        "from_revision",
        "state_hash",
        "name",
        "by",
        "ms",
        "next",
        "unknown",
    ]);
    let query = prop::collection::vec((names.prop_map(str::to_owned), part()), 0..3);
    let content_type = select(vec![
        Some("application/json"),
        Some("application/json"),
        Some("application/yaml"),
        Some("application/merge-patch+json"),
        Some("text/plain"),
        Some("a"),
        None,
    ]);
    (
        any::<prop::sample::Index>(),
        prop::collection::vec(part(), 2),
        query,
        prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 0..140)),
        prop::option::weighted(0.2, value()),
        content_type,
        body(),
    )
        .prop_map(
            |(operation, segments, query, key, last_event, content_type, body)| Asked {
                operation,
                segments,
                query,
                key,
                last_event,
                content_type,
                body,
            },
        )
}

/// Path template and method of everything described.
pub(super) fn operations() -> Vec<(String, String)> {
    let document = &*openapi::DOCUMENT;
    let paths = document["paths"].as_object().expect("there are paths");
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("each with its methods");
        methods
            .keys()
            .map(move |method| (path.clone(), method.clone()))
    });
    operations.collect()
}

pub(super) fn app() -> Router {
    router(Edge::without_sinks(Edge::test_limits()))
}

/// None for what HTTP itself does not let through.
fn request(asked: &Asked, path: &str, method: &str) -> Option<axum::http::Request<Body>> {
    let mut segments = asked.segments.iter();
    let mut filled = String::new();
    for piece in path.split('/').skip(1) {
        filled.push('/');
        match piece.starts_with('{') {
            true => filled.push_str(segments.next()?),
            false => filled.push_str(piece),
        }
    }
    let query: Vec<_> = asked
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !query.is_empty() {
        filled = format!("{filled}?{}", query.join("&"));
    }
    let mut request = axum::http::Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(filled);
    if let Some(key) = &asked.key {
        request = request.header("idempotency-key", key.as_slice());
    }
    if let Some(last) = &asked.last_event {
        request = request.header("last-event-id", last.as_bytes());
    }
    if let Some(kind) = asked.content_type {
        request = request.header("content-type", kind);
    }
    request.body(Body::from(asked.body.clone())).ok()
}

async fn ask(app: &Router, asked: &Asked) -> Result<(), TestCaseError> {
    let operations = operations();
    let (path, method) = &operations[asked.operation.index(operations.len())];
    let Some(request) = request(asked, path, method) else {
        return Ok(());
    };
    let shown = format!("{method} {}", request.uri());
    let response = tower::ServiceExt::oneshot(app.clone(), request)
        .await
        .unwrap_or_else(|never| match never {});
    let status = response.status();
    prop_assert!(!status.is_server_error(), "{shown}: {status}");
    let kind = response.headers().get("content-type");
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().to_owned();
    let described = &described_operation(path, method)["responses"][status.as_str()];
    // An empty part of a path makes it another path.
    let elsewhere =
        matches!(status.as_u16(), 308 | 404) && asked.segments.iter().any(String::is_empty);
    prop_assert!(
        elsewhere || described["content"].get(&kind).is_some(),
        "{shown}: {status} with {kind:?} is not described for {path}"
    );
    if kind == PROBLEM {
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await;
        let bytes = bytes
            .map_err(|error| TestCaseError::fail(error.to_string()))?
            .to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| TestCaseError::fail(format!("{shown}: {error}")))?;
        prop_assert_eq!(&problem["status"], &serde_json::json!(status.as_u16()));
        let code = problem["code"].as_str().unwrap_or_default();
        let documented = include_str!("../../../../docs/ERRORS.md");
        prop_assert!(
            documented.contains(&format!("\n| `{code}` |")),
            "{shown}: {code:?}"
        );
        prop_assert!(bytes.len() < 64 * 1024, "{shown}: {} bytes", bytes.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_asked_gets_an_answer_that_is_described(
        requests in prop::collection::vec(asked(), 1..9),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| TestCaseError::fail(error.to_string()))?;
        runtime.block_on(async {
            let app = app();
            let setup = axum::http::Request::post("/v1/machines")
                .header("content-type", "application/json")
                .body(Body::from(ORDER));
            let setup = setup.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let made = tower::ServiceExt::oneshot(app.clone(), setup).await;
            prop_assert_eq!(made.map(|it| it.status().as_u16()), Ok(201));
            for asked in &requests {
                ask(&app, asked).await?;
            }
            Ok(())
        })?;
    }
}
