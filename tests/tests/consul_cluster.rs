//! Nodes that know nothing but a Consul agent: they become one cluster, stay findable, and do not
//! need Consul once they run.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries::lockstep;
use lockstep_tests::cluster::{Cluster, Discovery, Node, Plan, READY_DEADLINE};
use lockstep_tests::consul::{ConsulAgent, Registration};
use lockstep_tests::http::ClusterView;
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::Value;

mod forgetting;
mod founding;

const SERVICE: &str = "machines";
/// The tag that distinguishes Lockstep's nodes from other services with the same name.
const NODE_TAG: &str = "lockstep";
/// The key of the bootstrap plan.
const PLAN_KEY: &str = "/v1/kv/lockstep/machines/bootstrap";
/// A killed leader must be replaced, and writes must go on, within this.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);
/// For writes that nothing hinders.
const WRITES_DEADLINE: Duration = Duration::from_secs(20);
/// For an agent to tell its servers what changed: no check has to run for that.
const CATALOGUE_DEADLINE: Duration = Duration::from_secs(5);

/// The names that three nodes get.
const ALL: [&str; 3] = ["node1", "node2", "node3"];

/// Waits until exactly these nodes of `service` pass their checks.
async fn wait_for_passing(
    agent: &ConsulAgent,
    service: &str,
    names: &[&str],
) -> Result<Vec<Registration>> {
    let what = format!("{names:?} to be the ones of {service} that pass");
    wait_for(what, READY_DEADLINE, async || {
        let entries = agent.health(service, &format!("passing&tag={NODE_TAG}"))?;
        let found: Vec<&str> = entries.iter().map(|entry| entry.meta("name")).collect();
        ensure!(found == names, "{found:?} pass");
        Ok(entries)
    })
    .await
}

/// Waits until the agent itself holds all three, and its own checks of them pass. What its servers
/// remember from before it forgot does not count.
async fn wait_for_return(agent: &ConsulAgent) -> Result<Vec<Registration>> {
    wait_for("all to be registered anew", READY_DEADLINE, async || {
        let held = agent.registered()?;
        ensure!(held == ids(SERVICE, &ALL), "the agent holds {held:?}");
        let path = format!("/v1/agent/health/service/name/{SERVICE}");
        let (status, answer) = agent.request("GET", &path, "")?;
        ensure!(status == 200, "not all pass: {status} {answer}");
        Ok(())
    })
    .await?;
    wait_for_passing(agent, SERVICE, &ALL).await
}

/// The registrations that these nodes make.
fn ids(service: &str, names: &[&str]) -> BTreeSet<String> {
    names
        .iter()
        .map(|name| format!("{service}-{name}"))
        .collect()
}

/// The id of the cluster that was planned, if one was.
fn planned(agent: &ConsulAgent) -> Result<Option<String>> {
    match agent.request("GET", &format!("{PLAN_KEY}?raw&consistent"), "")? {
        (404, _) => Ok(None),
        (200, plan) => {
            let plan: Value = serde_json::from_str(&plan)?;
            let id = plan["cluster_id"]
                .as_str()
                .context("a plan without a cluster")?;
            Ok(Some(id.to_owned()))
        }
        refused => anyhow::bail!("{PLAN_KEY}: {refused:?}"),
    }
}

/// `size` nodes that know the agent, and that a cluster begins with three.
fn plan(agent: &ConsulAgent, service: &str, size: usize) -> Plan {
    Plan {
        size,
        discovery: Discovery::Consul {
            url: agent.url(),
            service: service.to_owned(),
        },
        ..Plan::default()
    }
    .with("LOCKSTEP_EXPECT", 3)
}

async fn three_nodes(agent: &ConsulAgent) -> Result<Cluster> {
    Cluster::start_as(plan(agent, SERVICE, 3)).await
}

/// What the program printed, if it succeeded.
fn output(mut command: Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output()?;
    let (stdout, stderr) = (String::from_utf8(stdout)?, String::from_utf8(stderr)?);
    ensure!(
        status.success(),
        "{command:?}: {status}\n{stdout}\n{stderr}"
    );
    Ok(stdout)
}

async fn node_id(node: &Node) -> Result<u64> {
    Ok(node.api().cluster().await?.node_id)
}

/// The one cluster id that all running nodes name.
async fn cluster_id(cluster: &Cluster) -> Result<String> {
    let views = cluster.views().await?;
    let ids: BTreeSet<String> = views.into_iter().map(|(_, view)| view.cluster_id).collect();
    let [id] = ids.iter().collect::<Vec<_>>()[..] else {
        anyhow::bail!("the nodes name {ids:?}");
    };
    ensure!(!id.is_empty(), "no node belongs to a cluster");
    Ok(id.clone())
}

/// Waits until the node has said this, after the first `since` bytes of its log.
async fn says(node: &Node, since: usize, text: &str) -> Result<()> {
    let what = format!("{text:?} in the log of {}", node.name);
    wait_for(what, READY_DEADLINE, async || {
        ensure!(node.log()[since..].contains(text), "it is not said");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_that_know_only_consul_become_one_cluster() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let plan = plan(&agent, SERVICE, 3)
        .with("LOCKSTEP_CONSUL_TAGS", "blue,eu")
        .with("LOCKSTEP_CONSUL_META", "rack=r1");
    let cluster = Cluster::start_as(plan).await?;
    cluster.leader().await?;
    let views = cluster.views().await?;
    let cluster_id = cluster_id(&cluster).await?;
    let names: Vec<_> = views[0]
        .1
        .members
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ALL);
    assert_eq!(planned(&agent)?, Some(cluster_id.clone()));

    // The next announcement carries the cluster, once it is known.
    let entries = wait_for("the cluster's id in Consul", READY_DEADLINE, async || {
        let entries = agent.health(SERVICE, "passing&tag=blue")?;
        ensure!(
            entries.len() == 3 && entries.iter().all(|e| e.meta("cluster_id") == cluster_id),
            "{entries:?}"
        );
        Ok(entries)
    })
    .await?;
    for (entry, (position, view)) in entries.iter().zip(&views) {
        let node = &cluster.nodes[*position];
        assert_eq!(entry.id, format!("{SERVICE}-{}", node.name));
        assert_eq!(
            format!("{}:{}", entry.address, entry.port),
            node.grpc_address().to_string()
        );
        assert_eq!(entry.tags, [NODE_TAG, "blue", "eu"]);
        assert_eq!(entry.meta("name"), node.name);
        assert_eq!(entry.meta("node_id"), view.node_id.to_string());
        assert_eq!(entry.meta("http_address"), node.http_address().to_string());
        assert_eq!(entry.meta("rack"), "r1");
    }
    assert_eq!(
        agent.health(SERVICE, &format!("passing&tag={NODE_TAG}"))?,
        entries
    );
    assert!(agent.health(SERVICE, "passing&tag=red")?.is_empty());

    let listed = output(cluster.nodes[0].lockstepd("discover")?)?;
    let mut command = lockstep()?;
    command.args([
        "discover",
        "-o",
        "json",
        "--tag",
        "eu",
        "--service",
        SERVICE,
    ]);
    command.args(["--consul", &agent.url()]);
    let found: Value = serde_json::from_str(&output(command)?)?;
    for (position, view) in &views {
        let node = &cluster.nodes[*position];
        let (grpc, http) = (
            node.grpc_address().to_string(),
            node.http_address().to_string(),
        );
        let line = listed.lines().find(|line| line.starts_with(&node.name));
        let columns: Vec<_> = line.context("not listed")?.split_whitespace().collect();
        assert_eq!(columns, [&node.name, &grpc, &http, "lockstep,blue,eu"]);
        let entry = &found["services"][*position];
        assert_eq!(entry["name"], node.name);
        assert_eq!(entry["node_id"], view.node_id.to_string());
        assert_eq!(entry["cluster_id"], cluster_id);
        assert_eq!(
            (&entry["grpc_address"], &entry["http_address"]),
            (&grpc.into(), &http.into())
        );
    }
    assert_eq!(
        listed.lines().count(),
        4,
        "a head and three nodes:\n{listed}"
    );

    for (node, to) in cluster.nodes.iter().zip(["second", "third", "first"]) {
        node.api().next(to).await?.expect(StatusCode::OK)?;
        for reader in &cluster.nodes {
            assert_eq!(reader.api().state().await?, to, "read from {}", reader.name);
        }
    }
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_stops_passing_and_returns_under_the_same_id() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    wait_for_passing(&agent, SERVICE, &ALL).await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let (name, id) = (
        cluster.nodes[leader].name.clone(),
        node_id(&cluster.nodes[leader]).await?,
    );
    let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;

    cluster.nodes[leader].kill9()?;
    let survivors: Vec<&str> = ALL.into_iter().filter(|other| *other != name).collect();
    wait_for_passing(&agent, SERVICE, &survivors).await?;
    // Not forgotten: it may come back.
    assert_eq!(agent.registered()?, ids(SERVICE, &ALL));
    writer.wait_for_more(20, FAILOVER_DEADLINE).await?;

    cluster.nodes[leader].restart().await?;
    let entries = wait_for_passing(&agent, SERVICE, &ALL).await?;
    assert_eq!(entries[leader].meta("node_id"), id.to_string());
    assert_eq!(node_id(&cluster.nodes[leader]).await?, id);
    let written = writer.finish().await?;
    assert_eq!(
        cluster.nodes[leader].api().instance().await?.1,
        written.revision
    );
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_node_is_deregistered_at_once() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    wait_for_passing(&agent, SERVICE, &ALL).await?;
    let leader = cluster.leader().await?;
    let (name, id) = (
        cluster.nodes[leader].name.clone(),
        node_id(&cluster.nodes[leader]).await?,
    );

    let status = cluster.nodes[leader].terminate().await?;
    assert!(status.success(), "{status}");
    // Gone when the process is, before any check could have failed; and gone altogether.
    let others: Vec<&str> = ALL.into_iter().filter(|other| *other != name).collect();
    assert_eq!(agent.registered()?, ids(SERVICE, &others));
    wait_for("the catalogue to follow", CATALOGUE_DEADLINE, async || {
        let listed = agent.health(SERVICE, "")?;
        ensure!(listed.len() == 2, "{listed:?}");
        Ok(())
    })
    .await?;

    cluster.nodes[leader].restart().await?;
    let entries = wait_for_passing(&agent, SERVICE, &ALL).await?;
    assert_eq!(entries[leader].meta("node_id"), id.to_string());
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_register_again_with_an_agent_that_lost_its_registrations() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let cluster = three_nodes(&agent).await?;
    let cluster_id = cluster_id(&cluster).await?;
    let writer = Writer::strict(cluster.nodes[0].api()).await?;

    agent.restart()?;
    let entries = wait_for_return(&agent).await?;
    assert!(
        entries
            .iter()
            .all(|entry| entry.meta("cluster_id") == cluster_id),
        "{entries:?}"
    );

    // No write has failed meanwhile.
    writer.wait_for_more(1, WRITES_DEADLINE).await?;
    writer.finish().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_cluster_does_not_need_consul() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    wait_for_passing(&agent, SERVICE, &ALL).await?;
    let before: Vec<ClusterView> = cluster
        .views()
        .await?
        .into_iter()
        .map(|(_, view)| view)
        .collect();

    agent.stop();
    for (node, to) in cluster.nodes.iter().zip(["second", "third", "first"]) {
        node.api().next(to).await?.expect(StatusCode::OK)?;
        for reader in &cluster.nodes {
            assert_eq!(reader.api().state().await?, to, "read from {}", reader.name);
        }
    }

    let (leader, follower) = cluster.leader_and_follower().await?;
    let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
    cluster.nodes[leader].kill9()?;
    // One may have been on its way back already.
    writer.wait_for_more(2, FAILOVER_DEADLINE).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    cluster.nodes[leader].restart().await?;
    let revision = writer.finish().await?.revision;
    assert_eq!(cluster.nodes[leader].api().instance().await?.1, revision);

    // Each node knows its cluster from its own disk, without any peer.
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    for (node, before) in cluster.nodes.iter().zip(&before) {
        let view = node.api().cluster().await?;
        assert_eq!(
            (&view.cluster_id, view.node_id, &view.members),
            (&before.cluster_id, before.node_id, &before.members)
        );
        assert_eq!(node.api().instance().await?.1, revision, "{}", node.name);
    }

    // One that cannot deregister stops all the same.
    let status = cluster.nodes[follower].terminate().await?;
    assert!(status.success(), "{status}");
    cluster.nodes[follower].restart().await?;

    agent.resume()?;
    wait_for_return(&agent).await?;
    // What Consul knew before does not count: nodes register with an agent that knows nothing.
    agent.restart()?;
    let entries = wait_for_return(&agent).await?;
    for (entry, before) in entries.iter().zip(&before) {
        assert_eq!(entry.meta("node_id"), before.node_id.to_string());
        assert_eq!(entry.meta("cluster_id"), before.cluster_id);
    }
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_on_one_agent_are_two_clusters_that_do_not_see_each_other() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut blue = Cluster::lay_out(plan(&agent, "blue", 3))?;
    let mut green = Cluster::lay_out(plan(&agent, "green", 3))?;
    blue.start_all()?;
    green.start_all()?;
    blue.wait_ready().await?;
    green.wait_ready().await?;
    assert_ne!(cluster_id(&blue).await?, cluster_id(&green).await?);

    // With the same names.
    for (cluster, service) in [(&blue, "blue"), (&green, "green")] {
        let views = cluster.views().await?;
        let entries = wait_for_passing(&agent, service, &ALL).await?;
        let listed = output(cluster.nodes[0].lockstepd("discover")?)?;
        assert_eq!(
            listed.lines().count(),
            4,
            "a head and three nodes:\n{listed}"
        );
        for ((entry, node), (_, view)) in entries.iter().zip(&cluster.nodes).zip(&views) {
            assert_eq!(entry.meta("node_id"), view.node_id.to_string());
            assert!(
                listed.contains(&node.grpc_address().to_string()),
                "{listed}"
            );
            assert!(view.members.contains(&(node.name.clone(), view.node_id)));
            assert_eq!(view.members.len(), 3);
        }
    }
    let both: BTreeSet<String> = &ids("blue", &ALL) | &ids("green", &ALL);
    assert_eq!(agent.registered()?, both);

    blue.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    for node in &green.nodes {
        assert_eq!(node.api().instance().await?, ("first".to_owned(), 0));
    }
    blue.agree().await?;
    green.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_in_its_log_why_it_waits_and_when_consul_fails_and_comes_back() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let mut cluster = Cluster::lay_out(plan(&agent, SERVICE, 3))?;
    cluster.nodes[0].start()?;
    says(&cluster.nodes[0], 0, "1 of 3 nodes have answered: node1").await?;
    cluster.nodes[1].start()?;
    says(
        &cluster.nodes[0],
        0,
        "2 of 3 nodes have answered: node1, node2",
    )
    .await?;
    cluster.nodes[2].start()?;
    cluster.wait_ready().await?;

    agent.stop();
    says(&cluster.nodes[0], 0, "a running cluster is not affected").await?;
    agent.resume()?;
    says(&cluster.nodes[0], 0, "discovery is available again").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_returns_at_another_address_is_reached_there_without_a_membership_change()
-> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    let follower = cluster.follower().await?;
    let node = &mut cluster.nodes[follower];
    node.terminate().await?;
    node.move_away()?;
    // Ready means that the leader has reached it: it serves linearizable reads.
    node.restart().await?;
    let moved = cluster.nodes[follower].grpc_address().to_string();
    for node in &cluster.nodes {
        wait_for("the new address to be shown", READY_DEADLINE, async || {
            let shown = node.api().get("/v1/cluster").await?.text;
            ensure!(shown.contains(&moved), "{shown} lacks {moved}");
            Ok(())
        })
        .await?;
    }
    cluster.agree().await
}
