//! The router with everything but the service behind it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use axum::routing::get;

fn edge() -> Arc<Edge> {
    let limits = crate::config::Http {
        body_bytes_max: 64,
        request_timeout: Duration::from_millis(50),
        concurrency_max: 1,
        ..Edge::test_limits()
    };
    Edge::without_sinks(limits)
}

/// Routes that stand for the service: one answers, one never does.
fn served() -> Routes {
    let mut routes = Routes::default();
    let answer = || async { "served" };
    routes.handle("/served", get(answer).post(answer));
    let stuck = || async { std::future::pending::<()>().await };
    routes.handle("/stuck/{id}", get(stuck));
    routes
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
    assemble(edge(), served())
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
async fn a_wrong_method_is_refused_with_the_allowed_ones() {
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
    let edge = edge();
    let app = assemble(edge.clone(), served());
    let busy = edge.admission.try_acquire().unwrap();
    let answer = ask(&app, "GET", "/served", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    assert_eq!(answer.json()["code"], "too_many_requests");
    assert_eq!(edge.metrics.overload_total.get(), 1);
    assert_eq!(ask(&app, "GET", "/livez", "").await.status, 200);
    drop(busy);
    assert_eq!(ask(&app, "GET", "/served", "").await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_unless_its_origin_is_configured() {
    const OWN: &str = "http://node1:3333";
    const OTHER: &str = "https://other.example";
    let asked = async |origins: &[&str], method: &str, uri: &str, headers: &[(&str, &str)]| {
        let limits = crate::config::Http {
            cors_origins: origins.iter().map(|it| (*it).to_owned()).collect(),
            ..Edge::test_limits()
        };
        let mut served = served();
        served.handle("/", get(|| async { "first" }));
        let edge = Edge::without_sinks(limits);
        let app = assemble(edge, served);
        let mut request = Request::builder().method(method).uri(uri);
        request = request.header(header::HOST, "node1:3333");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = app.oneshot(request.body(Body::empty()).unwrap()).await;
        response.unwrap().status().as_u16()
    };
    let cross_site = ("sec-fetch-site", "cross-site");
    for headers in [
        &[][..],
        &[("origin", OWN)],
        &[("sec-fetch-site", "same-origin"), ("origin", OWN)],
        &[("sec-fetch-site", "none")],
        // A proxy may change the host.
        &[("sec-fetch-site", "same-origin"), ("origin", OTHER)],
    ] {
        assert_eq!(
            asked(&[], "POST", "/served", headers).await,
            200,
            "{headers:?}"
        );
    }
    for headers in [
        &[("origin", OTHER)][..],
        &[("origin", "null")],
        &[("origin", "http://node1:3334")],
        &[cross_site, ("origin", OTHER)],
        &[("sec-fetch-site", "same-site"), ("origin", OTHER)],
        &[cross_site],
    ] {
        assert_eq!(
            asked(&[], "POST", "/served", headers).await,
            403,
            "{headers:?}"
        );
    }
    let page = &[cross_site, ("origin", OTHER)];
    for (origins, status) in [
        (&[OTHER][..], 200),
        (&["*"], 200),
        (&["https://a.example"], 403),
    ] {
        assert_eq!(
            asked(origins, "POST", "/served", page).await,
            status,
            "{origins:?}"
        );
    }
    // An image's address is requested by GET, without an origin.
    for (uri, status) in [
        ("/?next=second", 403),
        ("/counter", 403),
        ("/", 200),
        ("/served", 200),
    ] {
        assert_eq!(asked(&[], "GET", uri, &[cross_site]).await, status, "{uri}");
    }
}
