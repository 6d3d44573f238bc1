//! Replaces a leader whose process has ended without waiting for its lease.
//!
//! A killed process closes its connections, and its address refuses new ones. A follower that sees both knows that
//! this leader is gone, and stands for election as if the leader had handed over: the voters grant such a vote within
//! the lease. Where packets are lost or the host is gone, nothing is refused, and the election timeout decides.
//!
//! It is safe whoever is wrong: the lease only keeps elections from disturbing a leader, and no read relies on it.

use std::io::ErrorKind;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use openraft_rt_tokio::TokioRuntime;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::node::Consensus;
use super::types::Vote;
use crate::store::Storage;

/// A process may close its connections before its listener.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// Between the candidacies of two followers: longer than an election takes, because simultaneous candidates split the
/// votes.
const APART: Duration = Duration::from_millis(50);

/// Call when a connection from the leader broke: if its process is gone, this node stands for election, or votes for
/// the one before it in the order of ids.
pub(super) async fn look_for_leader<S: Storage>(consensus: Consensus<TokioRuntime, S>) {
    let Some((vote, address, before)) = followed(&consensus) else {
        return;
    };
    if !refuses(&address).await {
        return;
    }
    sleep(APART * before).await;
    if !consensus.distrusted() && followed(&consensus).is_some_and(|(now, ..)| now == vote) {
        tracing::info!(
            leader = vote.leader_id.voted_for,
            "the leader's process is gone"
        );
        let request = TransferLeaderRequest::new(vote, consensus.node_id(), None);
        // It fails if the vote has changed meanwhile, or the core has ended.
        drop(consensus.raft.handle_transfer_leader(request).await);
    }
}

/// The vote of the leader that this voter follows, the leader's address, and how many other voters come before this one.
fn followed<S: Storage>(consensus: &Consensus<TokioRuntime, S>) -> Option<(Vote, String, u32)> {
    let metrics = consensus.raft.metrics();
    let metrics = metrics.borrow_watched();
    let (leader, member) = consensus.leader_in(&metrics)?;
    let voters = || metrics.membership_config.membership().voter_ids();
    let (vote, me) = (metrics.vote, consensus.node_id());
    let follows = vote.committed && vote.leader_id.voted_for == leader && leader != me;
    let before = voters().filter(|id| *id < me && *id != leader).count();
    (follows && voters().any(|id| id == me)).then_some((vote, member.grpc_address, before as u32))
}

/// Whether no process listens at an address.
async fn refuses(address: &str) -> bool {
    for _ in 0..TRIES {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Err(error)) => return error.kind() == ErrorKind::ConnectionRefused,
            Ok(Ok(_)) => sleep(PAUSE).await,
            Err(_) => return false,
        }
    }
    false
}
