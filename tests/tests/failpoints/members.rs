//! Changes of the members, while the leader is killed.

use anyhow::{Context, Result, ensure};
use lockstep_raft::failpoints::Failpoint;
use lockstep_tests::binaries::lockstep;
use lockstep_tests::cluster::{Cluster, STOP_DEADLINE};
use lockstep_tests::http::{Api, answer};
use lockstep_tests::members::{
    CHANGE_DEADLINE, id_of, remove, voters, wait_for_new_id, wait_for_voters,
};
use lockstep_tests::program;
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{FAILPOINTS, Left, Procedure, kill_at, points, wait_killed};

const MEMBERS: &str = "/v1/cluster/members";
/// The node that leads, and is killed.
const LEADER: usize = 0;
/// The node that joins and leaves.
const GUEST: usize = 3;
const HOSTS: [&str; 3] = ["node1", "node2", "node3"];
const WITH_GUEST: [&str; 4] = ["node1", "node2", "node3", "node4"];

/// Three nodes and a guest, under load.
struct Stage {
    cluster: Cluster,
    writer: Writer,
    /// Of a node that is never killed.
    api: Api,
}

impl Stage {
    async fn set_up() -> Result<Self> {
        let mut cluster = Cluster::start().await?;
        cluster.lay_out_another()?;
        let api = cluster.nodes[1].api().clone();
        let writer = Writer::persistent(&api).await?;
        Ok(Self {
            cluster,
            writer,
            api,
        })
    }

    /// Has the leader be a process that is killed at `point`.
    async fn arm(&mut self, point: Failpoint, skipped: u32) -> Result<()> {
        // No entry of an earlier change may reach the failpoint.
        wait_for("the last change", CHANGE_DEADLINE, async || {
            let promote = format!("{MEMBERS}/node2/promote");
            let nothing = answer(self.api.request(Method::POST, &promote)).await?;
            nothing.expect(StatusCode::OK)
        })
        .await?;
        let leader = &mut self.cluster.nodes[LEADER];
        leader.api().instance().await?;
        leader.terminate().await?;
        leader.set(FAILPOINTS, kill_at(point, skipped));
        leader.restart().await?;
        let to = json!({ "to": leader.name });
        wait_for("node1 to lead", CHANGE_DEADLINE, async || {
            let moved = self
                .api
                .post("/v1/cluster/transfer-leadership", &to)
                .await?;
            moved.expect(StatusCode::OK)
        })
        .await
        .map(drop)
    }

    /// Waits until the leader was killed, and starts it again.
    async fn wait_killed(&mut self, point: Failpoint) -> Result<()> {
        let leader = &mut self.cluster.nodes[LEADER];
        wait_killed(leader, point).await?;
        leader.restart().await?;
        println!("killed at {}", point.name());
        Ok(())
    }

    /// Every node has these voters, and no other member.
    async fn has_voters(&self, names: &[&str]) -> Result<()> {
        for node in self.cluster.running() {
            wait_for_voters(node.api(), names).await?;
            assert_eq!(node.api().members().await?.len(), names.len());
        }
        Ok(())
    }

    /// Starts the guest with an empty data folder.
    fn start_guest(&mut self) -> Result<()> {
        let guest = &mut self.cluster.nodes[GUEST];
        if guest.data().exists() {
            guest.lose_disk()?;
        }
        guest.start()
    }

    /// Repeats the removal until the guest is no member, and waits until its process has ended.
    async fn guest_leaves(&mut self) -> Result<()> {
        remove(&self.api, "node4").await?;
        self.guest_has_left().await
    }

    async fn guest_has_left(&mut self) -> Result<()> {
        let status = self.cluster.nodes[GUEST].wait_ended(STOP_DEADLINE).await?;
        ensure!(!status.success(), "{status}");
        self.has_voters(&HOSTS).await
    }

    /// The writer lost nothing, and all nodes have the same.
    async fn close(self) -> Result<()> {
        self.writer.wait_for_more(20, CHANGE_DEADLINE).await?;
        let written = self.writer.finish().await?;
        println!("longest pause {:?}", written.longest_gap);
        for node in self.cluster.running() {
            assert_eq!(node.api().instance().await?.1, written.revision);
        }
        self.cluster.agree().await
    }
}

/// When an addition reaches a failpoint: the learner is added, then it is promoted.
fn times(point: Failpoint) -> u32 {
    match point {
        Failpoint::MembershipFinalAppended | Failpoint::MembershipFinalApplied => 2,
        _ => 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_added_and_removed_while_leaders_are_killed() -> Result<()> {
    let mut stage = Stage::set_up().await?;
    let mut removals = points(Procedure::Remove);
    for (point, left) in points(Procedure::Add) {
        assert_eq!(left, Left::Resumed);
        for skipped in 0..times(point) {
            stage.arm(point, skipped).await?;
            stage.start_guest()?;
            stage.wait_killed(point).await.context("addition")?;
            stage.has_voters(&WITH_GUEST).await.context(point.name())?;
            stage.cluster.nodes[GUEST].wait_ready().await?;

            let Some((point, left)) = removals.next() else {
                stage.guest_leaves().await?;
                continue;
            };
            stage.arm(point, 0).await?;
            // The answer is lost with the leader.
            let (answered, killed) = tokio::join!(
                answer(
                    stage
                        .api
                        .request(Method::DELETE, &format!("{MEMBERS}/node4"))
                ),
                wait_killed(&mut stage.cluster.nodes[LEADER], point)
            );
            killed.context("removal")?;
            let refused = answered?;
            ensure!(!refused.status.is_success(), "{point:?}: {refused:?}");
            stage.cluster.nodes[LEADER].restart().await?;
            println!("killed at {}", point.name());
            match left {
                Left::Unchanged => stage.has_voters(&WITH_GUEST).await?,
                Left::Complete | Left::Resumed => stage.guest_has_left().await?,
                _ => assert_eq!(left, Left::Unknown),
            }
            if left != Left::Complete && left != Left::Resumed {
                stage.guest_leaves().await.context(point.name())?;
            }
        }
    }
    ensure!(removals.next().is_none(), "a removal was not tested");
    stage.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_replaced_while_leaders_are_killed() -> Result<()> {
    let mut stage = Stage::set_up().await?;
    stage.start_guest()?;
    stage.has_voters(&WITH_GUEST).await?;
    for (point, left) in points(Procedure::Replace) {
        assert_eq!(left, Left::Resumed);
        // The learner is added first.
        let skipped = times(point) - 1;
        let before = id_of(&stage.api, "node4").await?;
        stage.arm(point, skipped).await?;
        stage.cluster.nodes[GUEST].kill9()?;
        stage.start_guest()?;
        stage.wait_killed(point).await.context("replacement")?;
        wait_for_new_id(&stage.api, "node4", &before)
            .await
            .context(point.name())?;
        stage.has_voters(&WITH_GUEST).await.context(point.name())?;
    }

    // `lockstep cluster replace`, repeated after it was killed between its two steps.
    let joined = stage.cluster.lay_out_another()?;
    stage.cluster.nodes[joined].start()?;
    let address = stage.cluster.nodes[joined].grpc_address().to_string();
    wait_for("node5 to vote", CHANGE_DEADLINE, async || {
        let voters = voters(&stage.api).await?;
        ensure!(voters.len() == 5, "{voters:?}");
        Ok(())
    })
    .await?;
    let mut replace = lockstep()?;
    replace.args(["cluster", "replace", "node4", &address]);
    replace.args(["-e", &stage.cluster.nodes[1].grpc_address().to_string()]);
    let replaced = program::run(replace, CHANGE_DEADLINE).await?;
    ensure!(replaced.code == Some(0), "{replaced:?}");
    stage.cluster.nodes[GUEST].wait_ended(STOP_DEADLINE).await?;
    stage
        .has_voters(&["node1", "node2", "node3", "node5"])
        .await?;
    stage.close().await
}
