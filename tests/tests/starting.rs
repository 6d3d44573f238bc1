//! A node that starts slowly says so: a liveness probe that ended it would make it start again and again.

use anyhow::{Context, Result, ensure};
use lockstep_proto::v1;
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE};
use lockstep_tests::grpc;
use lockstep_tests::held::Held;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::Value;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// A node that has run, and whose next start is held up.
async fn held() -> Result<(Cluster, Held)> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.api().next("second").await?.expect(StatusCode::OK)?;
    node.terminate().await?;
    let held = Held::next_start(node)?;
    node.start()?;
    Ok((cluster, held))
}

/// Waits until the node answers that it is alive, and returns the answer.
async fn alive(node: &Node) -> Result<Value> {
    let what = "the node to answer that it is alive";
    wait_for(what, READY_DEADLINE, async || {
        let alive = node.api().read("/livez").await?;
        ensure!(alive["status"] == "alive", "{alive}");
        Ok(alive)
    })
    .await
}

async fn health(node: &Node) -> Result<ServingStatus> {
    let address = format!("http://{}", node.grpc_address());
    let channel = Endpoint::from_shared(address)?.connect().await?;
    let mut client = HealthClient::new(channel);
    let service = "lockstep.v1.Machines".to_owned();
    let answer = client.check(HealthCheckRequest { service }).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn a_node_that_starts_is_alive_and_refuses_everything_else_with_its_phase() -> Result<()> {
    let (mut cluster, held) = held().await?;
    let node = &mut cluster.nodes[0];
    let alive_while_it_starts = alive(node).await?;
    assert_eq!(alive_while_it_starts["phase"], "opening_log");
    for path in [
        "/readyz?verbose",
        "/v1/machines",
        "/?next=third",
        "/metrics",
    ] {
        let answer = node.api().get(path).await?;
        ensure!(answer.retry_after().is_some(), "{answer:?}");
        let answer = answer.expect(StatusCode::SERVICE_UNAVAILABLE)?.problem()?;
        assert_eq!(answer["code"], "not_ready", "{path}");
        assert_eq!(answer["start"]["phase"], "opening_log", "{path}");
        let detail = answer["detail"].as_str().context("a detail")?;
        ensure!(detail.contains("it is opening its log"), "{detail}");
    }
    assert_eq!(health(node).await?, ServingStatus::NotServing);
    let request = grpc::asking(v1::ListMachinesRequest::default());
    let refused = grpc::machines(node)?.list_machines(request).await;
    let refused = refused.err().context("it has no service yet")?;
    assert_eq!(
        (refused.code(), grpc::code(&refused)),
        (Code::Unavailable, "not_ready")
    );

    held.let_go().await?;
    node.wait_ready().await?;
    let alive = node.api().read("/livez").await?;
    assert_eq!(
        (&alive["status"], &alive["phase"]),
        (&"alive".into(), &"serving".into())
    );
    let checks = &node.api().read("/readyz?verbose").await?["checks"];
    for check in [
        "start",
        "state_agreement",
        "linearizable_read",
        "cluster_time",
    ] {
        assert_eq!(checks[check]["ok"], true, "{check}: {checks}");
    }
    assert_eq!(node.api().instance().await?.0, "second");
    wait_for("gRPC health", READY_DEADLINE, async || {
        let health = health(&cluster.nodes[0]).await?;
        ensure!(health == ServingStatus::Serving, "{health:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_while_it_starts_ends_at_once() -> Result<()> {
    let (mut cluster, _held) = held().await?;
    let node = &mut cluster.nodes[0];
    alive(node).await?;
    let ended = node.terminate().await?;
    ensure!(ended.success(), "{ended}");
    ensure!(
        node.log()
            .contains("stopping before the start was complete"),
        "{}",
        node.log()
    );
    Ok(())
}
