//! The router with everything but the service behind it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

fn local() -> Arc<Local> {
    let limits = Limits {
        body_bytes_max: 64,
        request_timeout: Duration::from_millis(50),
        concurrency_max: 1,
    };
    let started = Instant::now();
    let metrics = Metrics::new().unwrap();
    Arc::new(Local {
        watchers: Watchers::new(1, metrics.clone()),
        metrics,
        report: Arc::default(),
        limits,
        started,
        grpc_address: "127.0.0.1:4333".to_owned(),
        admission: Semaphore::new(limits.concurrency_max),
    })
}

/// Routes that stand for the service: one answers, one never does.
fn served() -> Router {
    Router::new()
        .route(
            "/served",
            get(|| async { "served" }).post(|| async { "served" }),
        )
        .route(
            "/stuck/{id}",
            get(|| async { std::future::pending::<()>().await }),
        )
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

async fn ask(router: &Router, method: &str, uri: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::CONTENT_LENGTH, body.len())
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

fn app() -> Router {
    assemble(local(), served(), Router::new())
}

#[tokio::test]
async fn an_unknown_route_is_a_problem() {
    let answer = ask(&app(), "GET", "/nowhere", "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let problem = answer.json();
    assert_eq!(problem["code"], "not_found");
    assert_eq!(problem["type"], "urn:lockstep:problem:not_found");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["title"], "Not Found");
}

#[tokio::test]
async fn a_wrong_method_is_told_what_is_allowed() {
    for (method, uri, allow) in [
        ("DELETE", "/livez", "GET,HEAD"),
        ("PUT", "/served", "GET,HEAD,POST"),
        ("HEAD", "/counter?name=x", "GET,POST"),
    ] {
        let answer = ask(&app(), method, uri, "").await;
        assert_eq!(answer.status, 405, "{method} {uri}");
        assert_eq!(answer.headers[header::ALLOW], allow, "{method} {uri}");
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread() {
    let answer = ask(&app(), "POST", "/served", &"x".repeat(65)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["body_bytes_max"], 64);
    assert_eq!(
        ask(&app(), "POST", "/served", &"x".repeat(64)).await.status,
        200
    );
}

#[tokio::test]
async fn the_process_says_that_it_lives_and_what_it_is() {
    assert_eq!(
        ask(&app(), "GET", "/livez", "").await.json()["status"],
        "alive"
    );
    let version = ask(&app(), "GET", "/version", "").await.json();
    assert_eq!(version["Version"], crate::telemetry::build::version());
    assert_eq!(version["BuildDate"], crate::telemetry::build::build_date());
    assert!(version["Uptime"].is_u64());
}

#[tokio::test]
async fn metrics_count_requests_under_labels_that_clients_cannot_make_up() {
    let app = app();
    ask(&app, "GET", "/livez", "").await;
    for uri in ["/a", "/b?c=d", "/%ff"] {
        ask(&app, "GET", uri, "").await;
    }
    ask(&app, "BREW", "/livez", "").await;
    let answer = ask(&app, "GET", "/metrics", "").await;
    assert!(
        answer.headers[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    for line in [
        r#"lockstep_http_requests_total{code="200",method="GET",route="/livez"} 1"#,
        r#"lockstep_http_requests_total{code="404",method="GET",route="other"} 3"#,
        r#"lockstep_http_requests_total{code="405",method="other",route="/livez"} 1"#,
        r#"lockstep_http_request_seconds_count{method="GET",route="other"} 3"#,
    ] {
        assert!(answer.body.contains(line), "no {line} in\n{}", answer.body);
    }
}

#[tokio::test]
async fn counters_and_timers_show_in_the_report() {
    let app = app();
    assert_eq!(
        ask(&app, "GET", "/counter?name=n", "").await.json()["count"],
        1
    );
    assert_eq!(
        ask(&app, "POST", "/counter?name=n&by=4", "").await.json()["count"],
        5
    );
    assert_eq!(
        ask(&app, "POST", "/timer?name=t&ms=12.5", "").await.status,
        200
    );
    let report = ask(&app, "GET", "/report", "").await.json();
    assert_eq!(report["n"]["count"], 5);
    assert_eq!(report["t"]["median"], 12_500_000.0);
    assert_eq!(report["lockstep.http_requests"]["count"], 3);
}

#[tokio::test]
async fn the_recipes_endpoints_answer_as_in_the_go_cookbook() {
    let app = app();
    let report = ask(&app, "GET", "/report", "").await.json();
    assert_eq!(report["reporthandler.writemetrics"]["count"], 0);
    assert_eq!(report.get("counterhandler.counter"), None);
    assert_eq!(ask(&app, "GET", "/counter", "").await.body, "success");
    assert_eq!(ask(&app, "POST", "/timer", "").await.body, "success");
    let report = ask(&app, "GET", "/report", "").await.json();
    assert_eq!(report["counterhandler.counter"], json!({ "count": 1 }));
    for (name, count) in [("timerhandler.timer", 1), ("reporthandler.writemetrics", 1)] {
        assert_eq!(report[name]["count"], count, "{name}");
        assert_eq!(report[name]["min"], report[name]["max"], "{name}");
        assert!(report[name]["max"].as_u64().unwrap() > 0, "{name}");
    }
}

#[tokio::test]
async fn counters_and_timers_refuse_what_they_cannot_take() {
    let app = app();
    for (uri, code) in [
        ("/counter?by=2", "missing_parameter"),
        ("/timer?ms=2", "missing_parameter"),
        ("/timer?name=counterhandler.counter&ms=2", "invalid_name"),
        ("/counter?name=", "invalid_name"),
        ("/counter?name=n&by=-1", "invalid_parameter"),
        ("/counter?name=n&name=m", "repeated_parameter"),
        ("/counter?name=lockstep.transitions", "invalid_name"),
        ("/timer?name=t", "missing_parameter"),
        ("/timer?name=t&ms=NaN", "invalid_parameter"),
        ("/timer?name=t&s=1", "unknown_parameter"),
    ] {
        let answer = ask(&app, "GET", uri, "").await;
        assert_eq!(answer.status, 400, "{uri}");
        assert_eq!(answer.json()["code"], code, "{uri}");
    }
}

#[tokio::test]
async fn a_request_that_is_never_answered_is_given_up() {
    let answer = ask(&app(), "GET", "/stuck/1", "").await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["code"], "outcome_unknown");
}

#[tokio::test]
async fn more_requests_than_allowed_are_shed_and_the_process_still_answers() {
    let local = local();
    let app = assemble(local.clone(), served(), Router::new());
    let busy = local.admission.try_acquire().unwrap();
    let answer = ask(&app, "GET", "/served", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    assert_eq!(answer.json()["code"], "too_many_requests");
    assert_eq!(local.metrics.overload_total.get(), 1);
    assert_eq!(ask(&app, "GET", "/livez", "").await.status, 200);
    drop(busy);
    assert_eq!(ask(&app, "GET", "/served", "").await.status, 200);
}
