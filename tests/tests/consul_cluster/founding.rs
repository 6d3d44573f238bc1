//! Bootstrap: nodes without a cluster form exactly one, under faults.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, READY_DEADLINE};
use lockstep_tests::consul::ConsulAgent;
use lockstep_tests::http::ClusterView;
use lockstep_tests::relay::Relay;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

use super::{PLAN_KEY, SERVICE, cluster_id, node_id, plan, planned, says, three_nodes};

/// What a node says that is not in the plan of the cluster that was founded.
const LEFT_OUT: &str = "was bootstrapped without this node";

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

    /// Waits until three nodes serve as one cluster and the others have seen its plan and have not
    /// acted on it; then checks that all agree on this.
    async fn ends_as_one_cluster(self) -> Result<()> {
        let members = wait_for("a cluster with a leader", READY_DEADLINE, async || {
            let (members, _) = self.parted().await?;
            let leading = members.iter().filter(|(_, view)| view.leads()).count();
            ensure!(members.len() >= 3 && leading == 1, "{members:?}");
            for (position, _) in &members {
                let api = self.cluster.nodes[*position].api();
                api.get("/readyz").await?.expect(StatusCode::OK)?;
            }
            Ok(members)
        })
        .await?;
        let waiting: Vec<usize> = (0..6)
            .filter(|one| members.iter().all(|(member, _)| member != one))
            .collect();
        for position in &waiting {
            says(&self.cluster.nodes[*position], 0, LEFT_OUT).await?;
        }

        let (members, waiting) = self.parted().await?;
        assert_eq!((members.len(), waiting.len()), (3, 3));
        let (_, first) = &members[0];
        assert_eq!(Some(&first.cluster_id), planned(&self.agent)?.as_ref());
        let belonging: BTreeSet<_> = members
            .iter()
            .map(|(_, view)| (view.node.clone(), view.node_id))
            .collect();
        for (_, view) in &members {
            assert_eq!(view.cluster_id, first.cluster_id);
            assert_eq!(
                view.members.iter().cloned().collect::<BTreeSet<_>>(),
                belonging
            );
        }
        assert!(
            members.iter().filter(|(_, view)| view.leads()).count() <= 1,
            "{members:?}"
        );
        for (position, view) in &waiting {
            assert_pristine(view);
            let api = self.cluster.nodes[*position].api();
            api.get("/livez").await?.expect(StatusCode::OK)?;
            api.get("/readyz")
                .await?
                .expect(StatusCode::SERVICE_UNAVAILABLE)?;
        }
        let left_over = self.cluster.nodes[waiting[0].0].api();
        left_over
            .next("second")
            .await?
            .expect(StatusCode::SERVICE_UNAVAILABLE)?;
        for ((position, _), to) in members.iter().zip(["second", "third", "first"]) {
            let api = self.cluster.nodes[*position].api();
            api.next(to).await?.expect(StatusCode::OK)?;
        }
        Ok(())
    }

    /// The nodes that belong to a cluster, and those that do not.
    async fn parted(&self) -> Result<(Views, Views)> {
        let views = self.cluster.views().await?;
        Ok(views
            .into_iter()
            .partition(|(_, view)| !view.cluster_id.is_empty()))
    }
}

type Views = Vec<(usize, ClusterView)>;

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
async fn a_node_with_a_wiped_disk_does_not_bootstrap_a_second_cluster() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let mut cluster = three_nodes(&agent).await?;
    let (first_id, lost_id) = (
        cluster_id(&cluster).await?,
        node_id(&cluster.nodes[2]).await?,
    );
    cluster.nodes[2].kill9()?;
    std::fs::remove_dir_all(cluster.nodes[2].data())?;
    let since = cluster.nodes[2].log().len();
    // `expect` is 1, so only the cluster that it sees prevents it from bootstrapping one.
    cluster.nodes[2].set("LOCKSTEP_EXPECT", 1);
    cluster.nodes[2].start()?;
    wait_for("the wiped node as a stranger", READY_DEADLINE, async || {
        let entries = agent.health(SERVICE, "passing")?;
        let same_name = entries.iter().find(|entry| entry.meta("name") == "node3");
        let found = same_name.context("it does not pass")?;
        ensure!(found.meta("node_id") != lost_id.to_string(), "{found:?}");
        ensure!(found.meta("cluster_id").is_empty(), "{found:?}");
        Ok(())
    })
    .await?;

    // The plan is there, and does not name it.
    let reason = format!("cluster {first_id} {LEFT_OUT}");
    says(&cluster.nodes[2], since, &reason).await?;
    assert_pristine(&cluster.nodes[2].api().cluster().await?);
    assert_eq!(planned(&agent)?, Some(first_id.clone()));

    // The plan is lost; the members are there.
    let (status, answer) = agent.request("DELETE", PLAN_KEY, "")?;
    assert_eq!(status, 200, "{answer}");
    let reason = format!("belongs to cluster {first_id}; waiting for its leader");
    says(&cluster.nodes[2], since, &reason).await?;
    assert_pristine(&cluster.nodes[2].api().cluster().await?);
    assert_eq!(planned(&agent)?, None);

    // The first lives: it counts the lost node, not the wiped one, as its member.
    for (node, to) in cluster.nodes[..2].iter().zip(["second", "third"]) {
        node.api().next(to).await?.expect(StatusCode::OK)?;
        let view = node.api().cluster().await?;
        assert_eq!(view.cluster_id, first_id);
        assert!(
            view.members.contains(&("node3".to_owned(), lost_id)),
            "{view:?}"
        );
    }

    // It was held back by the first cluster's being alive: once that is gone, it bootstraps one.
    for node in &mut cluster.nodes[..2] {
        node.terminate().await?;
    }
    cluster.nodes[2].wait_ready().await?;
    let view = cluster.nodes[2].api().cluster().await?;
    assert_eq!(Some(&view.cluster_id), planned(&agent)?.as_ref());
    assert_ne!(view.cluster_id, first_id);
    Ok(())
}
