//! HTTP and gRPC as common clients speak them: compression, pages of other origins, proxies' habits.

mod browser;
mod connections;
mod curl;
mod nginx;
mod python;
mod rules;

use std::io::{Read as _, Write as _};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lockstep_proto::v1;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::grpc::machines;
use lockstep_tests::http::answer;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const TRANSITIONS: &str = "/v1/machines/triad/instances/default/transitions";
/// A page of it may call the interface.
const ORIGIN: &str = "https://app.example";

fn gzip(plain: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?)
}

/// A channel to the first node.
fn channel(cluster: &Cluster) -> Result<Channel> {
    let address = format!("http://{}", cluster.nodes[0].grpc_address());
    Ok(Endpoint::from_shared(address)?.connect_lazy())
}

/// A definition of about `bytes` bytes.
fn large_definition(bytes: usize) -> String {
    let state = |n: usize| format!("state-{n:04}");
    let states: serde_json::Map<_, _> = (0..200).map(|n| (state(n), json!({}))).collect();
    let transitions =
        (0..).map(|n| json!({ "from": state(n % 200), "to": state((n / 200) % 200) }));
    let transitions: Vec<_> = transitions.take(bytes / 40).collect();
    let definition = json!({
        "name": "large", "initial": state(0), "states": states, "transitions": transitions,
    });
    definition.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_bodies_may_be_compressed_within_their_bound() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let send = |coding: &'static str, body: Vec<u8>| {
        let request = api.request(Method::POST, TRANSITIONS);
        let request = request.header("content-type", "application/json");
        answer(request.header("content-encoding", coding).body(body))
    };
    let body = gzip(br#"{"to":"second"}"#)?;
    send("gzip", body.clone()).await?.expect(StatusCode::OK)?;
    let refused = send("br", body).await?;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(refused.headers["accept-encoding"], "gzip");
    assert!(refused.text.contains("\\\"br\\\""), "{}", refused.text);
    let bomb = gzip(&vec![b' '; 64 << 20])?;
    assert!(
        bomb.len() > 60_000 && bomb.len() < 1 << 20,
        "{}",
        bomb.len()
    );
    for bytes in [1 << 20, 64 << 20] {
        let refused = send("gzip", gzip(&vec![b' '; bytes])?).await?;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{bytes}");
    }
    for kind in ["application/json", "application/yaml"] {
        let request = api.request(Method::POST, "/v1/machines");
        let request = request.header("content-type", kind);
        let request = request.header("content-encoding", "gzip");
        let refused = answer(request.body(bomb.clone())).await?;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{kind}");
    }
    assert_eq!(api.instance().await?, ("second".to_owned(), 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_and_metrics_are_open_metrics_on_request() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let get = async |path: &str, name: &str, value: &str| {
        let response = api.request(Method::GET, path).header(name, value);
        let response = response.send().await?;
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (coding, kind) = (header("content-encoding"), header("content-type"));
        anyhow::Ok((coding, kind, response.bytes().await?))
    };
    let (coding, _, bytes) = get("/metrics", "accept-encoding", "gzip, br").await?;
    assert_eq!(coding.as_deref(), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    assert!(text.contains("lockstep_has_leader 1"), "{text}");
    let (coding, _, _) = get("/metrics", "accept-encoding", "identity").await?;
    assert_eq!(coding, None);
    // An answer of a line is not worth it.
    let (coding, _, bytes) = get("/", "accept-encoding", "gzip").await?;
    assert_eq!((coding, &bytes[..]), (None, &b"first\n"[..]));

    let accepted = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (_, kind, bytes) = get("/metrics", "accept", accepted).await?;
    let kind = kind.context("a content type")?;
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    assert!(bytes.ends_with(b"\n# EOF\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_may_be_as_large_as_the_cluster_allows() -> Result<()> {
    let plan = Plan::single()
        .setting("transitions_max", 10_000)
        .setting("document_bytes_max", 200 * 1024);
    let cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api();
    let large = large_definition(150 * 1024);
    assert!(large.len() > 100 * 1024, "{}", large.len());
    api.define(large).await?.expect(StatusCode::CREATED)?;
    let larger = "x".repeat(200 * 1024 + 1);
    let refused = api
        .send(Method::POST, "/v1/machines", "application/yaml", larger)
        .await?;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_configured_origins_may_call() -> Result<()> {
    let plan = Plan::single().with("LOCKSTEP_HTTP_CORS_ORIGINS", ORIGIN);
    let cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api();
    let preflight = async |origin: &str| {
        let request = api.request(Method::OPTIONS, TRANSITIONS);
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "content-type,idempotency-key",
            );
        answer(request).await
    };
    let allowed = preflight(ORIGIN).await?.expect(StatusCode::OK)?;
    assert_eq!(allowed.headers["access-control-allow-origin"], ORIGIN);
    let methods = allowed.headers["access-control-allow-methods"].to_str()?;
    assert!(methods.contains("POST"), "{methods}");
    let headers = allowed.headers["access-control-allow-headers"].to_str()?;
    assert!(headers.contains("idempotency-key"), "{headers}");
    let refused = preflight("https://other.example").await?;
    assert!(!refused.headers.contains_key("access-control-allow-origin"));
    let call = api
        .request(Method::GET, "/v1/machines")
        .header("origin", ORIGIN);
    let called = answer(call).await?.expect(StatusCode::OK)?;
    assert_eq!(called.headers["access-control-allow-origin"], ORIGIN);
    assert_eq!(called.headers["access-control-expose-headers"], "*");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_at_the_end_redirects_and_a_head_is_answered() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let api = node.api();
    // The client follows, with the same method and body.
    let (path, body) = (format!("{TRANSITIONS}/"), json!({ "to": "second" }));
    api.post(&path, &body).await?.expect(StatusCode::OK)?;
    api.get("/v1/machines/?consistency=stale")
        .await?
        .expect(StatusCode::OK)?;
    api.get("/nowhere/").await?.expect(StatusCode::NOT_FOUND)?;
    let head = answer(api.request(Method::HEAD, "/")).await?;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    for path in ["//other.example/", "/\\other.example/"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n");
        let elsewhere = raw(node.http_address(), &head).await?;
        assert!(elsewhere.starts_with("HTTP/1.1 404"), "{path}: {elsewhere}");
    }
    Ok(())
}

/// The answer to a request of this head.
async fn raw(address: std::net::SocketAddr, head: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_does_not_allow_and_headers_given_twice_are_refused() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let post = format!("POST {TRANSITIONS} HTTP/1.1\r\nHost: x\r\n");
    let json = "Content-Type: application/json\r\n";
    let none = "Content-Length: 0\r\n";
    for (head, status, words) in [
        ("GET / HTTP/1.1\r\n".to_owned(), 400, "Host"),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n".to_owned(),
            400,
            "2 Host",
        ),
        (
            format!("{post}{json}Transfer-Encoding: gzip, chunked\r\n"),
            501,
            "chunked",
        ),
        (format!("{post}{json}{json}{none}"), 415, "more than once"),
        (
            format!("{post}Content-Type: application/json; charset=iso-8859-1\r\n{none}"),
            415,
            "UTF-8",
        ),
        (
            format!("{post}{json}{none}Idempotency-Key: a\r\nIdempotency-Key: a\r\n"),
            400,
            "more than once",
        ),
        (
            format!("{post}{json}{none}If-Match: *\r\nIf-Match: *\r\n"),
            400,
            "more than once",
        ),
        (
            format!("{post}{json}{none}Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"),
            415,
            "more than once",
        ),
        (
            "GET /v1/watch HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1-0\r\nLast-Event-ID: 1-0\r\n"
                .to_owned(),
            400,
            "more than once",
        ),
    ] {
        let answer = raw(node.http_address(), &head).await?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{head}: {answer}"
        );
        assert!(answer.contains(words), "{head}: {answer}");
        assert!(
            answer.contains("application/problem+json"),
            "{head}: {answer}"
        );
    }
    assert_eq!(node.api().instance().await?, ("first".to_owned(), 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quoted_key_and_a_plain_one_are_the_same() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let send = async |key: &str| {
        api.transition("second", Some(key), json!({}))
            .await?
            .moved()
    };
    assert!(!send("order-42").await?.replayed);
    assert!(send("\"order-42\"").await?.replayed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_messages_may_be_compressed() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let mut client = machines(&cluster.nodes[0])?
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let listed = client
        .list_machines(v1::ListMachinesRequest::default())
        .await?;
    let coding = listed.metadata().get("grpc-encoding");
    ensure!(coding.is_some_and(|it| it == "gzip"), "{coding:?}");
    assert_eq!(listed.into_inner().machines.len(), 1);
    let mut health = HealthClient::new(channel(&cluster)?)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    health.check(HealthCheckRequest::default()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_on_the_http_port_learns_the_grpc_address() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let channel = tonic::transport::Endpoint::from_shared(node.api().url(""))?.connect_lazy();
    let mut client = v1::machines_client::MachinesClient::new(channel);
    let refused = client
        .list_machines(v1::ListMachinesRequest::default())
        .await;
    let status = refused.expect_err("the wrong port");
    let address = node.grpc_address().to_string();
    assert!(status.message().contains(&address), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_grpc_reflection_are_served() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let channel = channel(&cluster)?;
    macro_rules! served {
        ($version:ident) => {
            use reflection::server_reflection_client::ServerReflectionClient;
            use reflection::server_reflection_request::MessageRequest;
            use reflection::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version as reflection;
            let request = reflection::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(channel.clone())
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
            let asked = tokio_stream::once(request);
            let mut answers = client.server_reflection_info(asked).await?.into_inner();
            let answer = answers.message().await?.context("an answer")?;
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                anyhow::bail!("{answer:?}");
            };
            let names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
            ensure!(
                names.contains(&"lockstep.v1.Machines".to_owned()),
                "{names:?}"
            );
        };
    }
    {
        served!(v1);
    }
    {
        served!(v1alpha);
    }
    Ok(())
}
