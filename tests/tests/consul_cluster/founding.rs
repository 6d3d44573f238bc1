//! Bootstrap: nodes without a cluster form exactly one, under faults.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, READY_DEADLINE};
use lockstep_tests::consul::ConsulAgent;
use lockstep_tests::http::ClusterView;
use lockstep_tests::relay::Relay;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

use super::{PLAN_KEY, SERVICE, cluster_id, node_id, plan, planned, three_nodes};

/// For six nodes to become members, one after the other, while two cores do everything.
const JOINED_DEADLINE: Duration = Duration::from_secs(60);

/// Six pristine nodes, each behind a relay of its own; three make a cluster.
struct Race {
    agent: ConsulAgent,
    cluster: Cluster,
    relays: Vec<Relay>,
}

impl Race {
    async fn lay_out() -> Result<Self> {
        let agent = ConsulAgent::start()?;
        // Those left over refuse what they are asked, once they have tried for long enough.
        let plan = plan(&agent, SERVICE, 6).with("LOCKSTEP_HTTP_REQUEST_TIMEOUT", "2s");
        let mut cluster = Cluster::lay_out(plan)?;
        let mut relays = Vec::new();
        for node in &mut cluster.nodes {
            let relay = Relay::start(agent.http_address()).await?;
            node.set("LOCKSTEP_CONSUL_ADDRESS", relay.url());
            relays.push(relay);
        }
        Ok(Self {
            agent,
            cluster,
            relays,
        })
    }

    fn start(&mut self, nodes: Range<usize>) -> Result<()> {
        self.cluster.nodes[nodes]
            .iter_mut()
            .try_for_each(Node::start)
    }

    /// Waits until each of these nodes has asked the agent for something `times` times.
    async fn wait_for_requests(&self, nodes: Range<usize>, times: usize) -> Result<()> {
        wait_for(
            format!("{times} requests of each node"),
            READY_DEADLINE,
            async || {
                let requests: Vec<_> = self.relays[nodes.clone()]
                    .iter()
                    .map(Relay::requests)
                    .collect();
                ensure!(requests.iter().all(|count| *count >= times), "{requests:?}");
                Ok(())
            },
        )
        .await
    }

    /// Waits until all six serve as the one cluster that was planned: three bootstrap it, the others join.
    async fn ends_as_one_cluster(self) -> Result<()> {
        let views = wait_for("one cluster with a leader", JOINED_DEADLINE, async || {
            let views = self.cluster.views().await?;
            let leading = views.iter().filter(|(_, view)| view.leads()).count();
            ensure!(leading == 1, "{views:?}");
            for (position, view) in &views {
                ensure!(view.members.len() == 6, "{view:?}");
                let api = self.cluster.nodes[*position].api();
                api.get("/readyz").await?.expect(StatusCode::OK)?;
            }
            Ok(views)
        })
        .await?;
        let planned = planned(&self.agent)?.context("a plan")?;
        let all: BTreeSet<_> = views
            .iter()
            .map(|(_, view)| (view.node.clone(), view.node_id))
            .collect();
        for (_, view) in &views {
            assert_eq!(view.cluster_id, planned);
            let members: BTreeSet<_> = view.members.iter().cloned().collect();
            assert_eq!(members, all);
        }
        for ((position, _), to) in views.iter().zip(["second", "third", "first"]) {
            let api = self.cluster.nodes[*position].api();
            api.next(to).await?.expect(StatusCode::OK)?;
        }
        self.cluster.agree().await
    }
}

fn assert_pristine(view: &ClusterView) {
    assert_eq!(view.cluster_id, "", "{view:?}");
    assert!(view.members.is_empty() && !view.leads(), "{view:?}");
    assert_eq!(
        (view.leader_id, view.term, view.committed_index),
        (None, 0, 0),
        "{view:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn six_nodes_that_race_to_bootstrap_form_one_cluster() -> Result<()> {
    let mut race = Race::lay_out().await?;
    race.start(0..6)?;
    race.ends_as_one_cluster().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_six_concurrent_bootstrap_plans_one_becomes_the_cluster() -> Result<()> {
    let mut race = Race::lay_out().await?;
    race.relays.iter().for_each(Relay::hold_bids);
    race.start(0..6)?;
    wait_for("a bid of each node", READY_DEADLINE, async || {
        let bids: Vec<_> = race.relays.iter().map(Relay::bids).collect();
        ensure!(bids.iter().all(|count| *count > 0), "{bids:?}");
        Ok(())
    })
    .await?;
    // No node acts on a plan before it is latched.
    assert_eq!(planned(&race.agent)?, None);
    for (_, view) in race.cluster.views().await? {
        assert_pristine(&view);
    }
    race.relays.iter().for_each(Relay::let_bids_pass);
    race.ends_as_one_cluster().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_of_three_with_a_hanging_consul_form_one_cluster() -> Result<()> {
    let mut race = Race::lay_out().await?;
    race.agent.freeze()?;
    race.start(0..3)?;
    race.wait_for_requests(0..3, 1).await?;
    race.start(3..6)?;
    // Each asks two things at a time: with the third it has given one up and tries again.
    race.wait_for_requests(0..6, 3).await?;
    for (_, view) in race.cluster.views().await? {
        assert_pristine(&view);
    }
    race.agent.thaw()?;
    race.ends_as_one_cluster().await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_that_start_while_consul_hangs_bootstrap_no_second_cluster() -> Result<()> {
    let mut race = Race::lay_out().await?;
    race.start(0..3)?;
    // In the middle of it: all are registered, and about to be found.
    wait_for(
        "the first three to be registered",
        READY_DEADLINE,
        async || {
            let registered = race.agent.registered()?;
            ensure!(registered.len() == 3, "{registered:?}");
            Ok(())
        },
    )
    .await?;
    race.agent.freeze()?;
    race.start(3..6)?;
    race.wait_for_requests(3..6, 3).await?;
    race.agent.thaw()?;
    race.ends_as_one_cluster().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_interrupted_by_a_power_cut_completes_as_planned() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = Cluster::lay_out(plan(&agent, SERVICE, 3))?;
    cluster.start_all()?;
    let planned = wait_for("a plan", READY_DEADLINE, async || {
        planned(&agent)?.context("none is put down")
    })
    .await?;
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    assert_eq!(cluster_id(&cluster).await?, planned);
    cluster.leader().await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wiped_disk_joins_its_cluster_and_bootstraps_no_other() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    let (first_id, lost_id) = (
        cluster_id(&cluster).await?,
        node_id(&cluster.nodes[2]).await?,
    );
    cluster.nodes[2].kill9()?;
    cluster.nodes[2].lose_disk()?;
    // `expect` is 1 and the plan is lost, so only the cluster that it sees prevents it from bootstrapping one.
    let (status, answer) = agent.request("DELETE", PLAN_KEY, "")?;
    assert_eq!(status, 200, "{answer}");
    cluster.nodes[2].set("LOCKSTEP_EXPECT", 1);
    cluster.nodes[2].start()?;
    wait_for("the node as a new member", JOINED_DEADLINE, async || {
        let view = cluster.nodes[0].api().cluster().await?;
        ensure!(view.members.len() == 3, "{view:?}");
        ensure!(
            !view.members.contains(&("node3".to_owned(), lost_id)),
            "{view:?}"
        );
        Ok(())
    })
    .await?;
    cluster.nodes[2].wait_ready().await?;
    assert_eq!(cluster_id(&cluster).await?, first_id);
    assert_eq!(planned(&agent)?, None);
    for (node, to) in cluster.nodes.iter().zip(["second", "third", "first"]) {
        node.api().next(to).await?.expect(StatusCode::OK)?;
    }
    cluster.agree().await
}
