//! What a signal makes of a node that is busy, or whose configuration has changed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;

/// For a line to be logged.
const LOG_DEADLINE: Duration = Duration::from_secs(10);
/// A drain time that two of them in a row exceed clearly.
const BUSY_DRAIN: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_stops_within_its_drain_time() -> Result<()> {
    let drain = humantime::format_duration(BUSY_DRAIN);
    let plan = Plan::single().with("LOCKSTEP_HTTP_DRAIN_TIMEOUT", drain);
    let mut cluster = Cluster::start_as(plan).await?;
    let node = &mut cluster.nodes[0];
    // A body that never ends, and a call that never ends.
    let mut body = TcpStream::connect(node.http_address()).await?;
    let head = "POST /v1/machines HTTP/1.1\r\nHost: lockstep\r\n\
                Content-Type: application/yaml\r\nContent-Length: 1000\r\n\r\nname: ";
    body.write_all(head.as_bytes()).await?;
    let address = format!("http://{}", node.grpc_address());
    let channel = tonic::transport::Endpoint::from_shared(address)?.connect_lazy();
    let mut client = ServerReflectionClient::new(channel);
    let endless = tokio_stream::pending::<ServerReflectionRequest>();
    let call = client.server_reflection_info(endless).await?;

    let began = Instant::now();
    let status = node.terminate().await?;
    assert!(status.success(), "{status}");
    let took = began.elapsed();
    assert!(
        took < 2 * BUSY_DRAIN,
        "the drains came one after the other: {took:?}"
    );
    let aborted = call.into_inner().message().await;
    assert!(aborted.is_err(), "{aborted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_applies_the_new_log_filter() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::single())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lockstep.toml");
    let filter = |filter: &str| std::fs::write(&file, format!("[log]\nfilter = {filter:?}\n"));
    filter("info")?;
    let node = &mut cluster.nodes[0];
    node.set("LOCKSTEP_CONFIG", file.display());
    node.start()?;
    node.wait_ready().await?;
    let debug = |node: &Node| node.log().matches(" DEBUG ").count();
    let said = async |node: &Node, words: &str| {
        wait_for(format!("{words:?} in the log"), LOG_DEADLINE, async || {
            ensure!(node.log().contains(words));
            Ok(())
        })
        .await
    };
    node.api().next("second").await?.expect(StatusCode::OK)?;
    assert_eq!(debug(node), 0, "the filter says info");

    filter("debug")?;
    node.signal(libc::SIGHUP)?;
    said(node, "reloaded log.filter").await?;
    node.api().next("third").await?.expect(StatusCode::OK)?;
    said(node, " DEBUG ").await?;

    // What is not valid changes nothing: it logs on as before.
    filter("lockstep_node=loud")?;
    node.signal(libc::SIGHUP)?;
    said(node, "nothing reloaded").await?;
    assert!(node.log().contains("lockstep_node=loud"));
    let before = debug(node);
    node.api().next("first").await?.expect(StatusCode::OK)?;
    wait_for("a debug line", LOG_DEADLINE, async || {
        ensure!(debug(node) > before);
        Ok(())
    })
    .await
}
