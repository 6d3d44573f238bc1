//! What a node's process runs beside consensus, as the server does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, join5, pending};
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use super::bugs::Bug;
use super::chance::sleep_ms;
use super::cluster::{Cluster, SimRouter};
use super::network::{Call, Process, SimConsensus, SimNetwork};
use lockstep_node::service;
use lockstep_raft::consensus::NodeId;

/// Pause before a node asks again whether it was removed.
const ASK_EVERY_MS: u64 = 2000;
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until the process ends.
pub async fn tasks(
    cluster: Cluster,
    process: Process,
    consensus: SimConsensus,
    router: Arc<SimRouter>,
) {
    let kept = async {
        if !cluster.has(Bug::MembersNotKept) {
            consensus.keep_members().await;
        }
    };
    let maintained = async {
        if !cluster.has(Bug::TimeoutsNotProposed) {
            service::maintain(SimRouter::clone(&router)).await;
        }
    };
    let compacted = consensus.compact();
    let watched = report_leadership(process.0, &consensus, &cluster);
    let stopped = stop_if_removed(&cluster, process, &consensus);
    join5(kept, maintained, compacted, watched, stopped).await;
}

/// Tells the oracle of each term in which the node leads, and checks each voter that it adds.
async fn report_leadership(id: NodeId, consensus: &SimConsensus, cluster: &Cluster) {
    let mut metrics = consensus.raft.metrics();
    let mut known = BTreeSet::new();
    loop {
        let (term, state, voters) = {
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let voters: BTreeSet<_> = membership.voter_ids().collect();
            (metrics.current_term, metrics.state, voters)
        };
        if state == ServerState::Leader {
            cluster.oracle().leads(term, id);
            for added in voters.difference(&known) {
                check_new_voter(*added, consensus, cluster);
            }
        }
        known = voters;
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// A node votes only once it holds what its leader has purged from the log: until then, it could not help to commit
/// anything.
fn check_new_voter(id: NodeId, leader: &SimConsensus, cluster: &Cluster) {
    let Some(router) = cluster.router(id) else {
        return;
    };
    let standing = router.consensus().standing();
    let holds = standing.log_last_index.max(standing.snapshot_index);
    let first = leader.standing().log_first_index;
    if holds + 1 < first {
        let what =
            format!("node {id} votes with the log up to {holds}; its leader's begins at {first}");
        cluster.oracle().violated(what);
    }
}

/// Asks the other nodes, as `cluster::locate` does, and discards the node once it learns that it was removed.
async fn stop_if_removed(cluster: &Cluster, process: Process, consensus: &SimConsensus) {
    if cluster.has(Bug::RemovedNodeStays) {
        return;
    }
    let id = process.0;
    loop {
        sleep_ms(ASK_EVERY_MS).await;
        // Until a leader has addressed it, a node belongs to no cluster.
        if consensus.leader_contact().is_none()
            && !consensus.is_initialized().await.unwrap_or(false)
        {
            continue;
        }
        let others = cluster.nodes().into_iter().filter(|other| *other != id);
        let asked = others.map(|other| ask(cluster.network(), process, other));
        let since = join_all(asked).await.into_iter().flatten().max();
        if since.is_some_and(|since| consensus.was_removed(since)) {
            cluster.oracle().count("removed nodes that stopped");
            let cluster = cluster.clone();
            // Discarding the node aborts this task.
            drop(SimRuntime::spawn(async move { cluster.discard(id).await }));
            pending::<()>().await;
        }
    }
}

/// The log index of a membership without this node that `other` knows.
async fn ask(network: &SimNetwork, process: Process, other: NodeId) -> Option<u64> {
    let id = process.0;
    let call = Call {
        from: process,
        to: other,
        timeout: ASK_TIMEOUT,
        stray: None,
    };
    let serve = move |peer: SimConsensus| async move { Ok(peer.not_a_member_since(id)) };
    network.call(call, serve).await.ok().flatten()
}
