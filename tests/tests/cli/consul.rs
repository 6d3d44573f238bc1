//! Nodes found through a real Consul agent.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Discovery, Plan, READY_DEADLINE};
use lockstep_tests::consul::ConsulAgent;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::json;

use super::{SLACK, assert_fields, lockstep, run, table};

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_the_cluster_through_consul_alone() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let url = agent.url();
    let mut cluster = Cluster::lay_out(Plan {
        discovery: Discovery::Consul {
            url: url.clone(),
            service: "machines".to_owned(),
        },
        ..Plan::default()
    })?;
    cluster.nodes[0].set("LOCKSTEP_CONSUL_TAGS", "blue");
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let consul = ["--consul", &url, "--service", "machines"];
    let found = async |arguments: &[&str]| lockstep(&[&consul, arguments].concat()).await;

    // Consul learns in its own time that a node passes, and which cluster it came to belong to.
    let services = wait_for("three nodes of a cluster", READY_DEADLINE, async || {
        let listed = found(&["discover", "-o", "json"]).await?.json()?;
        let services = listed["services"].as_array().context("services")?.clone();
        ensure!(services.len() == 3, "{listed}");
        ensure!(
            services.iter().all(|entry| entry["cluster_id"].is_string()),
            "{listed}"
        );
        Ok(services)
    })
    .await?;
    let views = cluster.views().await?;
    let (header, rows) = table(&found(&["discover"]).await?.done()?)?;
    assert_eq!(header, ["NAME", "ID", "CLUSTER", "GRPC", "HTTP", "TAGS"]);
    assert_eq!(rows.len(), 3);
    for (position, view) in &views {
        let node = &cluster.nodes[*position];
        let entry = services
            .iter()
            .find(|entry| entry["name"] == view.node)
            .with_context(|| format!("{} is not listed: {services:?}", view.node))?;
        let (id, cluster_id) = (view.node_id.to_string(), &view.cluster_id);
        let (grpc, http) = (node.grpc_address(), node.http_address());
        let tags: &[&str] = match position {
            0 => &["lockstep", "blue"],
            _ => &["lockstep"],
        };
        assert_fields(
            entry,
            json!({
                "node_id": id, "cluster_id": cluster_id, "grpc_address": grpc,
                "http_address": http, "tags": tags,
            }),
        );
        let row = rows
            .iter()
            .find(|row| row[0] == view.node)
            .context("a row")?;
        assert_eq!(
            row[1..5].join(" "),
            format!("{id} {cluster_id} {grpc} {http}")
        );
        assert_eq!(row[5], tags.join(", "));
    }

    assert_eq!(found(&["next", "second"]).await?.done()?, "second\n");
    let (_, rows) = table(&found(&["status"]).await?.done()?)?;
    let mut shown: Vec<_> = rows.iter().map(|row| row[1].as_str()).collect();
    shown.sort_unstable();
    assert_eq!(shown, ["node1", "node2", "node3"]);
    let (_, rows) = table(&found(&["--tag", "blue", "status"]).await?.done()?)?;
    assert_eq!((rows.len(), rows[0][1].as_str()), (1, "node1"));
    let said = found(&["--tag", "red", "get", "--timeout", "2s"])
        .await?
        .failed(3)?;
    assert!(said.contains("machines") && said.contains("red"), "{said}");
    // The same from the environment.
    let mut command = binaries::lockstep()?;
    command.env("LOCKSTEP_CONSUL", &url);
    let moved = run(command, &["--service", "machines", "next", "third"]).await?;
    assert_eq!(moved.done()?, "third\n");

    agent.stop();
    let address = agent.http_address().to_string();
    for arguments in [
        &["next", "first"][..],
        &["get"],
        &["status"],
        &["leader"],
        &["discover"],
    ] {
        let ended = found(&[arguments, &["--timeout", "1s"]].concat()).await?;
        assert!(
            ended.took < Duration::from_secs(1) + SLACK,
            "{arguments:?} took {:?}",
            ended.took
        );
        let said = ended.failed(3)?;
        assert!(
            said.contains(&address) && said.contains("refused"),
            "{arguments:?}: the agent is not named: {said}"
        );
    }
    // Endpoints beside it are enough, and nothing was moved by what failed.
    let node = cluster.nodes[1].grpc_address().to_string();
    let read = found(&["get", "-e", &node, "-o", "json"]).await?.json()?;
    assert_fields(&read, json!({ "state": "third", "revision": 2 }));
    cluster.nodes[1]
        .api()
        .next("first")
        .await?
        .expect(StatusCode::OK)?;
    Ok(())
}

#[tokio::test]
async fn a_consul_agent_that_hangs_is_named_at_the_deadline() -> Result<()> {
    // Connections open, and no answer comes.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?.to_string();
    let url = format!("http://{address}");
    let arguments = ["--consul", &url, "--timeout", "500ms", "discover"];
    let ended = lockstep(&arguments).await?;
    assert!(
        ended.took < Duration::from_millis(500) + SLACK,
        "it took {:?}",
        ended.took
    );
    let said = ended.failed(3)?;
    assert!(said.contains(&address), "the agent is not named: {said}");
    Ok(())
}
