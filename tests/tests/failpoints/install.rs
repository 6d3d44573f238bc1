//! A node that joins is killed, also while it installs a snapshot.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan, STOP_DEADLINE};
use lockstep_tests::members::{CHANGE_DEADLINE, remove, voters, wait_for_voters};
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;

use super::{FAILPOINTS, Left, Procedure, kill_at, points};

const GUEST: usize = 3;
const VOTERS: [&str; 4] = ["node1", "node2", "node3", "node4"];

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_joins_joins_once_it_is_started_again() -> Result<()> {
    let plan = Plan::default()
        .with("LOCKSTEP_RAFT_SNAPSHOT_ENTRIES", 50)
        .with("LOCKSTEP_RAFT_LOG_KEEP_ENTRIES", 10);
    let mut cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api().clone();
    let writer = Writer::persistent(&api).await?;
    wait_for("a log that begins later", CHANGE_DEADLINE, async || {
        for (_, view) in cluster.views().await? {
            ensure!(view.log_first_index > 1, "{view:?}");
        }
        Ok(())
    })
    .await?;
    let revision = writer.finish().await?.revision;
    cluster.lay_out_another()?;
    // It has a snapshot from the leader, and builds none.
    cluster.nodes[GUEST].set("LOCKSTEP_RAFT_SNAPSHOT_ENTRIES", 1_000_000);
    for (point, left) in points(Procedure::Install) {
        assert_eq!(left, Left::Resumed);
        // Once for each time that the point is reached.
        for skipped in 0.. {
            let guest = &mut cluster.nodes[GUEST];
            guest.set(FAILPOINTS, kill_at(point, skipped));
            guest.start()?;
            let killed = ends_or_joins(&mut cluster).await?;
            let guest = &mut cluster.nodes[GUEST];
            guest.unset(FAILPOINTS);
            if killed {
                println!("killed at {}, time {}", point.name(), skipped + 1);
                guest.start()?;
            }
            guest.wait_ready().await?;
            wait_for_voters(&api, &VOTERS).await.context(point.name())?;
            assert_eq!(api.members().await?.len(), VOTERS.len(), "{point:?}");
            assert_eq!(guest.api().instance().await?.1, revision, "{point:?}");
            let view = guest.api().cluster().await?;
            ensure!(view.snapshot_index > 0, "no snapshot: {view:?}");

            remove(&api, "node4").await?;
            guest.wait_ended(STOP_DEADLINE).await?;
            guest.lose_disk()?;
            if !killed {
                ensure!(skipped > 0, "{point:?} was not reached");
                break;
            }
        }
    }
    cluster.agree().await
}

/// Waits until the guest was killed, or has joined and serves; whether it was killed.
async fn ends_or_joins(cluster: &mut Cluster) -> Result<bool> {
    let api = cluster.nodes[0].api().clone();
    let guest = &mut cluster.nodes[GUEST];
    let guest_api = guest.api().clone();
    let joins = wait_for("the guest to join", CHANGE_DEADLINE, async || {
        let votes = voters(&api).await?;
        ensure!(votes == VOTERS, "{votes:?} vote");
        guest_api.get("/readyz").await?.expect(StatusCode::OK)
    });
    tokio::select! {
        ended = guest.wait_ended(CHANGE_DEADLINE) => {
            let status = ended?;
            ensure!(status.signal() == Some(libc::SIGKILL), "{status}");
            Ok(true)
        }
        joined = joins => joined.map(|_| false),
    }
}
