//! An invalid request is rejected with the name of the field and a stable code, and changes nothing.

use std::future::poll_fn;

use anyhow::{Context, Result};
use lockstep_proto::v1;
use lockstep_tests::cluster::Plan;
use lockstep_tests::grpc::{self, asking, code};
use reqwest::StatusCode;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::Request;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::{by_event, clients, create, done, one_node, transaction};

fn invalid(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(code(status), "invalid_argument", "{status}");
    assert!(status.message().starts_with(field), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_a_request_names_its_field() -> Result<()> {
    let cluster = one_node(Plan::default()).await?;
    let client = &mut clients(&cluster)?[0];

    for id in ["", "order/", "/1", "a b/1", "order/1/2"] {
        let refused = client.create_instance(asking(create(id))).await;
        invalid(&refused.expect_err(id), "id: ");
    }
    let aimless = v1::TransitionRequest {
        id: "triad/default".to_owned(),
        ..Default::default()
    };
    let refused = client.transition(asking(aimless)).await;
    invalid(&refused.expect_err("no trigger"), "trigger: ");
    let keyed = v1::TransitionRequest {
        idempotency_key: Some("é".to_owned()),
        ..by_event("triad/default", "go")
    };
    let refused = client.transition(asking(keyed)).await;
    invalid(&refused.expect_err("a key in Latin"), "idempotency_key: ");
    let labelled = v1::CreateInstanceRequest {
        metadata: [("why".to_owned(), "line\nbreak".to_owned())].into(),
        ..create("triad/x")
    };
    let refused = client.create_instance(asking(labelled)).await;
    invalid(&refused.expect_err("a line break"), "metadata: ");
    let operations = [
        v1::operation::Operation::Create(create("triad/x")),
        v1::operation::Operation::Create(create("triad")),
    ];
    let refused = client.transact(asking(transaction(operations))).await;
    invalid(
        &refused.expect_err("an operation without a name"),
        "operations: operation 1: id: ",
    );

    let read = v1::GetInstanceRequest {
        id: "triad/default".to_owned(),
        freshness: Some(v1::Freshness {
            consistency: 7,
            min_revision: None,
        }),
    };
    let refused = client.get_instance(asking(read)).await;
    invalid(&refused.expect_err("7"), "freshness.consistency: ");
    let list = |limit, prefix: &str| v1::ListInstancesRequest {
        machine: "triad".to_owned(),
        limit: Some(limit),
        prefix: prefix.to_owned(),
        ..Default::default()
    };
    let refused = client.list_instances(asking(list(0, ""))).await;
    invalid(&refused.expect_err("no instances"), "limit ");
    let refused = client
        .list_instances(asking(list(1, &"x".repeat(99))))
        .await;
    invalid(&refused.expect_err("a long prefix"), "prefix: ");
    let watch = v1::WatchRequest {
        instance: Some("default".to_owned()),
        ..Default::default()
    };
    let refused = client.watch(watch).await;
    invalid(&refused.expect_err("of which machine?"), "instance: ");

    // Nothing of it was executed.
    let listed = client.list_machines(asking(Default::default())).await?;
    assert_eq!(listed.into_inner().read_at.unwrap_or_default().revision, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_definition_is_reported_at_once() -> Result<()> {
    use v1::define_request::Document;
    let cluster = one_node(Plan::default()).await?;
    let client = &mut clients(&cluster)?[0];
    let define = |document| {
        asking(v1::DefineRequest {
            document,
            ..Default::default()
        })
    };
    let bad = "{ name: bad, initial: nowhere, states: { a: { timeout: { after: 1s, to: gone } } }, transitions: [ { from: a, to: b } ] }";
    let (refused, _) = done!(
        client.define(define(Some(Document::Yaml(bad.to_owned())))),
        define_response,
        Rejected
    );
    assert_eq!(refused.code, "invalid_definition");
    for path in ["initial", "states.a.timeout.to", "transitions[0].to"] {
        assert!(
            refused
                .faults
                .iter()
                .any(|fault| fault.path == path && fault.code == "unknown_state"),
            "{path} in {refused:?}"
        );
    }
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(300 << 10));
    let (refused, _) = done!(
        client.define(define(Some(Document::Json(large)))),
        define_response,
        Rejected
    );
    assert_eq!(refused.code, "definition_too_large");
    assert_eq!(refused.max, Some(256 << 10));

    let refused = client.define(define(Some(Document::Json("{".to_owned()))));
    let status = refused.await.expect_err("no JSON");
    assert_eq!(
        (status.code(), code(&status)),
        (Code::InvalidArgument, "malformed_document")
    );
    let refused = client.define(define(None)).await;
    invalid(&refused.expect_err("no document"), "document: ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_things_are_not_found() -> Result<()> {
    let cluster = one_node(Plan::default()).await?;
    let client = &mut clients(&cluster)?[0];
    let not_found = |status: Status, expected: &str| {
        assert_eq!((status.code(), code(&status)), (Code::NotFound, expected));
    };
    let machine = |machine: &str, version| v1::GetMachineRequest {
        machine: machine.to_owned(),
        version,
        freshness: None,
    };
    let missing = client.get_machine(asking(machine("order", None))).await;
    not_found(missing.expect_err("no machine"), "unknown_machine");
    let missing = client.get_machine(asking(machine("triad", Some(9)))).await;
    not_found(missing.expect_err("no version"), "unknown_version");
    let history = v1::GetHistoryRequest {
        id: "triad/none".to_owned(),
        freshness: None,
    };
    let missing = client.get_history(asking(history)).await;
    not_found(missing.expect_err("no instance"), "unknown_instance");
    let list = v1::ListInstancesRequest {
        machine: "order".to_owned(),
        ..Default::default()
    };
    let missing = client.list_instances(asking(list)).await;
    not_found(missing.expect_err("no machine"), "unknown_machine");
    let draw = v1::DrawMachineRequest {
        machine: "triad".to_owned(),
        instance: Some("none".to_owned()),
        ..Default::default()
    };
    let missing = client.draw_machine(asking(draw)).await;
    not_found(missing.expect_err("no instance"), "unknown_instance");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_rejected_and_each_call_is_counted() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_GRPC_MESSAGE_BYTES_MAX", "2KiB");
    let cluster = one_node(plan).await?;
    let client = &mut clients(&cluster)?[0];
    let refused = client
        .create_instance(asking(create("x".repeat(4096))))
        .await;
    let refused = refused.expect_err("4 KiB");
    assert_eq!(refused.code(), Code::OutOfRange);
    assert_eq!(code(&refused), "body_too_large");
    let refused = client
        .create_instance(asking(create("x".repeat(1024))))
        .await;
    invalid(&refused.expect_err("no name"), "id: ");
    client.list_machines(asking(Default::default())).await?;
    let api = cluster.nodes[0].api();
    let metrics = api.get("/metrics").await?.expect(StatusCode::OK)?.text;
    for line in [
        r#"lockstep_grpc_requests_total{code="INVALID_ARGUMENT",method="lockstep.v1.Machines/CreateInstance"} 1"#,
        r#"lockstep_grpc_requests_total{code="OK",method="lockstep.v1.Machines/ListMachines"} 1"#,
        r#"lockstep_grpc_request_seconds_count{method="lockstep.v1.Machines/ListMachines"} 1"#,
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_message_that_expands_beyond_the_limit_is_rejected() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_GRPC_MESSAGE_BYTES_MAX", "2KiB");
    let cluster = one_node(plan).await?;
    let compressed = grpc::machines(&cluster.nodes[0])?.send_compressed(CompressionEncoding::Gzip);
    // Within the limit on the way.
    for bytes in [4096, 1 << 20] {
        let create = asking(create("x".repeat(bytes)));
        let refused = compressed.clone().create_instance(create).await;
        let status = refused.expect_err("it is too large");
        // Not RESOURCE_EXHAUSTED, as an overload: it does not go away.
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        assert_eq!(code(&status), "body_too_large", "{status}");
    }
    let mut client = compressed;
    let within = client.create_instance(asking(create("x".repeat(1024))));
    invalid(&within.await.expect_err("no name"), "id: ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_is_the_clients_fault() -> Result<()> {
    let cluster = one_node(Plan::default()).await?;
    let address = cluster.nodes[0].grpc_address();
    let mut channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    for (what, body) in [
        ("it is no gzip", "\x01\0\0\0\x04oops"),
        ("it is no message", "\0\0\0\0\x04oops"),
        ("it is cut short", "\0\0\0\0\x09oops"),
        ("it is not there", ""),
    ] {
        let request = Request::post("/lockstep.v1.Machines/CreateInstance")
            .header("content-type", "application/grpc")
            .header("grpc-encoding", "gzip")
            .body(Body::new(body.to_owned()))?;
        poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut channel, cx)).await?;
        let answer = GrpcService::<Body>::call(&mut channel, request).await?;
        let status = Status::from_header_map(answer.headers()).context("a status")?;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert_eq!(code(&status), "invalid_argument", "{what}");
        let word = lockstep_machine::library_words(status.message());
        assert_eq!(word, None, "{what}: {status}");
    }
    Ok(())
}
