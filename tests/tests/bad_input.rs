//! Invalid requests get the right status and a stable code, change nothing, and do not affect the node.

use std::net::SocketAddr;

use anyhow::Result;
use lockstep_proto::v1;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::grpc;
use lockstep_tests::http::answer;
use rand::RngExt;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

const TRANSITIONS: &str = "/v1/machines/triad/instances/default/transitions";
/// Connections with garbage, to each port.
const FLOOD_CONNECTIONS: usize = 200;
/// Bytes of garbage on each.
const FLOOD_BYTES: usize = 16 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn the_short_interface_refuses_what_it_does_not_understand() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    for query in [
        "/?next=fourth",
        "/?next=",
        "/?next=second&next=third",
        "/?nxt=second",
        "/?next=%ff",
    ] {
        let refused = api.get(query).await?.expect(StatusCode::BAD_REQUEST)?;
        assert!(!refused.text.trim().is_empty(), "{query}: {refused:?}");
    }
    answer(api.request(Method::POST, "/"))
        .await?
        .expect(StatusCode::BAD_REQUEST)?;
    assert_eq!(api.instance().await?, ("first".to_owned(), 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_refused_with_problem_details() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let oversized = format!("{{\"to\":\"{}\"}}", "x".repeat(1 << 20));
    for (kind, body, status) in [
        ("application/json", "{\"to\":", StatusCode::BAD_REQUEST),
        ("application/json", "{}", StatusCode::BAD_REQUEST),
        (
            "application/json",
            "{\"to\":\"second\",\"tow\":1}",
            StatusCode::BAD_REQUEST,
        ),
        (
            "application/json",
            "{\"to\":\"fourth\"}",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "text/plain",
            "{\"to\":\"second\"}",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            "application/json",
            oversized.as_str(),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let request = api
            .request(Method::POST, TRANSITIONS)
            .header("content-type", kind)
            .body(body.to_owned());
        answer(request).await?.expect(status)?.problem()?;
    }
    assert_eq!(api.instance().await?, ("first".to_owned(), 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_of_ten_megabytes_are_refused() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let long = "1".repeat(10 << 20);
    let list = format!("/v1/machines/triad/instances?cursor={long}");
    let watch = format!("/v1/watch?from_revision={long}");
    let head = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
    for (request, statuses) in [
        (head(&list, ""), [414, 431]),
        (head(&watch, ""), [414, 431]),
        (
            head("/v1/watch", &format!("Last-Event-ID: {long}\r\n")),
            [431, 431],
        ),
    ] {
        let answer = answer_to_rest_of(node.http_address(), request).await?;
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
        let refused = status.is_some_and(|it: u16| statuses.contains(&it));
        assert!(refused, "{answer}");
    }
    // Over gRPC, within the largest message.
    let mut client = grpc::machines(node)?;
    for length in [1 << 20, 10 << 20] {
        let call = v1::ListInstancesRequest {
            machine: "triad".to_owned(),
            cursor: Some("1".repeat(length)),
            ..Default::default()
        };
        let status = client.list_instances(grpc::asking(call)).await;
        let status = status.expect_err("it is no cursor");
        let refused = [Code::InvalidArgument, Code::OutOfRange];
        assert!(refused.contains(&status.code()), "{status}");
        assert!(status.message().len() < 1000, "it is repeated");
    }
    node.api().next("second").await?.expect(StatusCode::OK)?;
    assert!(!node.log().contains("panicked"));
    Ok(())
}

/// What comes back, whether or not all of the request is read.
async fn answer_to_rest_of(address: SocketAddr, request: String) -> Result<String> {
    let (mut read, mut write) = TcpStream::connect(address).await?.into_split();
    let sending = tokio::spawn(async move {
        let _ = write.write_all(request.as_bytes()).await;
        write
    });
    let mut answer = [0; 1024];
    let length = read.read(&mut answer).await.unwrap_or(0);
    sending.abort();
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_are_404_and_wrong_methods_405() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    for path in [
        "/nowhere",
        "/v1/nowhere",
        "/v1/machines/triad/instances/none",
    ] {
        api.get(path)
            .await?
            .expect(StatusCode::NOT_FOUND)?
            .problem()?;
    }
    for (method, path) in [
        (Method::DELETE, "/"),
        (Method::GET, TRANSITIONS),
        (Method::PUT, "/v1/cluster"),
    ] {
        let refused = answer(api.request(method, path))
            .await?
            .expect(StatusCode::METHOD_NOT_ALLOWED)?;
        refused.problem()?;
        assert!(refused.headers.contains_key("allow"), "{refused:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_both_ports_does_not_disturb_a_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = &cluster.nodes[cluster.leader().await?];
    for address in [node.http_address(), node.grpc_address()] {
        let flood = (0..FLOOD_CONNECTIONS).map(|_| {
            tokio::spawn(async move {
                let mut garbage = vec![0; FLOOD_BYTES];
                rand::rng().fill(&mut garbage[..]);
                let mut stream = TcpStream::connect(address).await?;
                // The server may hang up at the first wrong byte.
                let _ = stream.write_all(&garbage).await;
                anyhow::Ok(())
            })
        });
        for connection in flood.collect::<Vec<_>>() {
            connection.await??;
        }
    }
    node.api().next("second").await?.expect(StatusCode::OK)?;
    assert!(!node.log().contains("panicked"));
    cluster.agree().await
}
