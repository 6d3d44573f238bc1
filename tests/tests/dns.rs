//! Nodes that find each other through one name that resolves to the addresses of all of them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE};
use lockstep_tests::names::Names;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

const NAME: &str = "nodes.test";
/// As many as form the cluster.
const EXPECT: usize = 3;

/// The address of the node at `position`.
fn address(position: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 10, position as u8 + 1).into()
}

/// Nodes at addresses of their own, all at one port; none where this user may not change what a name resolves to.
fn lay_out(size: usize) -> Result<Option<(Cluster, Names)>> {
    let Some(names) = Names::own()? else {
        println!("left out: this user may not mount a hosts file");
        return Ok(None);
    };
    let plan = Plan {
        size,
        ..Plan::default()
    };
    let mut cluster = Cluster::lay_out(plan)?;
    let port = cluster.nodes[0].grpc.number();
    for (position, node) in cluster.nodes.iter_mut().enumerate() {
        node.set("LOCKSTEP_DISCOVERY", "dns");
        node.set("LOCKSTEP_DISCOVERY_DNS", format!("{NAME}:{port}"));
        node.set("LOCKSTEP_DISCOVERY_BOOTSTRAP_NODE", "node1");
        node.set("LOCKSTEP_EXPECT", EXPECT);
        listen(node, port, address(position));
    }
    Ok(Some((cluster, names)))
}

fn listen(node: &mut Node, port: u16, address: IpAddr) {
    node.set("LOCKSTEP_GRPC_LISTEN", format!("{address}:{port}"));
}

/// Waits until a node gives this as the reason why it is not ready.
async fn waits(node: &Node, reason: &str) -> Result<()> {
    let what = format!("{} to wait: {reason}", node.name);
    wait_for(what, READY_DEADLINE, async || {
        let answer = node.api().get("/readyz").await?;
        let problem = answer.expect(StatusCode::SERVICE_UNAVAILABLE)?.problem()?;
        let detail = problem["detail"].as_str().context("a detail")?;
        ensure!(detail.contains(reason), "{detail}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nodes_form_a_cluster_through_dns_and_are_found_where_they_move() -> Result<()> {
    let Some((mut cluster, names)) = lay_out(EXPECT)? else {
        return Ok(());
    };
    names.resolve(NAME, &[address(0), address(1)])?;
    cluster.start_all()?;
    waits(
        &cluster.nodes[0],
        "2 of 3 nodes have answered: node1, node2",
    )
    .await?;
    waits(
        &cluster.nodes[2],
        "this node is not listed in discovery yet",
    )
    .await?;
    names.resolve(NAME, &[address(0), address(1), address(2)])?;
    cluster.wait_ready().await?;
    let before = cluster.nodes[0].api().cluster().await?;

    let port = cluster.nodes[0].grpc.number();
    let moved = &mut cluster.nodes[2];
    moved.terminate().await?;
    listen(moved, port, address(7));
    names.resolve(NAME, &[address(0), address(1), address(7)])?;
    moved.restart().await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    cluster.agree().await?;
    let after = cluster.nodes[2].api().cluster().await?;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.members, before.members);
    Ok(())
}

#[tokio::test]
async fn views_that_overlap_or_miss_nodes_never_form_two_clusters() -> Result<()> {
    let Some((mut cluster, names)) = lay_out(EXPECT + 1)? else {
        return Ok(());
    };
    // As many as are expected see each other, but the node that may form a cluster is not among them.
    names.resolve(NAME, &[address(1), address(2), address(3)])?;
    for node in &mut cluster.nodes[1..] {
        node.start()?;
    }
    for node in &cluster.nodes[1..] {
        waits(
            node,
            "3 of 3 nodes have answered; node1 bootstraps the cluster",
        )
        .await?;
    }
    // Another view, which shares two nodes with the first.
    names.resolve(NAME, &[address(0), address(2), address(3)])?;
    cluster.nodes[0].start()?;
    for position in [0, 2, 3] {
        cluster.nodes[position].wait_ready().await?;
    }
    names.resolve(NAME, &[0, 1, 2, 3].map(address))?;
    cluster.wait_ready().await?;
    let mut views = cluster.views().await?.into_iter();
    let (_, first) = views.next().context("four views")?;
    for (_, view) in views {
        assert_eq!(view.cluster_id, first.cluster_id);
    }
    cluster.agree().await
}

#[tokio::test]
async fn a_node_that_names_another_bootstrap_node_is_reported() -> Result<()> {
    let Some((mut cluster, names)) = lay_out(EXPECT)? else {
        return Ok(());
    };
    names.resolve(NAME, &[0, 1, 2].map(address))?;
    cluster.nodes[1].set("LOCKSTEP_DISCOVERY_BOOTSTRAP_NODE", "node2");
    cluster.start_all()?;
    waits(&cluster.nodes[0], "node2, and does not list node1").await?;
    waits(&cluster.nodes[1], "node1, and does not list node2").await
}
