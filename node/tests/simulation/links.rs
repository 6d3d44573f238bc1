//! One process's way to the others: openraft's network, and the router's peers.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, join_all, select};
use lockstep_machine::{EncodedRequest, Origin, SessionId};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use super::bugs::Bug;
use super::chance::up_to;

use super::network::{Call, Failure, Process, SimConsensus, SimNetwork};
use super::storage::SimSnapshot;
use lockstep_node::service::Peers;
use lockstep_raft::consensus::network::newer_than;
use lockstep_raft::consensus::{Member, NodeId, ProposeError, ProposeResult, ReadPoint, Types};

type C = Types<SimRuntime>;

/// Time after which a dead idle connection is detected, as by keepalive.
const CONNECTION_DEAD: Duration = Duration::from_secs(2);

impl Failure {
    fn into_error(self) -> AnyError {
        AnyError::error(match self {
            Failure::Refused => "connection refused".to_owned(),
            Failure::Lost => "no reply".to_owned(),
            Failure::Answered(text) => text,
        })
    }

    fn into_rpc(self) -> RPCError<C> {
        match self {
            Failure::Lost => NetworkError::new(&self.into_error()).into(),
            _ => Unreachable::new(&self.into_error()).into(),
        }
    }
}

/// One process's connections to all others.
#[derive(Clone)]
pub struct SimPeers {
    network: SimNetwork,
    from: Process,
}

impl SimPeers {
    pub fn new(network: SimNetwork, from: Process) -> Self {
        Self { network, from }
    }
}

impl RaftNetworkFactory<C> for SimPeers {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, _: &Member) -> Link {
        Link {
            peers: self.clone(),
            to: target,
        }
    }
}

/// The way to one peer.
pub struct Link {
    peers: SimPeers,
    to: NodeId,
}

impl Link {
    /// A call that Raft must tolerate late and twice.
    async fn call<T, F>(
        &self,
        option: &RPCOption,
        serve: impl Fn(SimConsensus) -> F + Send + 'static,
    ) -> Result<T, RPCError<C>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let call = Call {
            from: self.peers.from,
            to: self.to,
            timeout: option.soft_ttl(),
            stray: Some(|_: &T| true),
        };
        let reply = self.peers.network.call(call, serve).await;
        reply.map_err(Failure::into_rpc)
    }
}

impl RaftNetworkV2<C> for Link {
    type SnapshotData = SimSnapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        let ignores_term = self.peers.network.has(Bug::AppendTermIgnored);
        let serve = move |peer: SimConsensus| {
            let mut rpc = rpc.clone();
            async move {
                let own = peer.raft.metrics().borrow_watched().vote;
                if ignores_term && own.committed && !peer.leads() {
                    rpc.vote = own;
                }
                let reply = peer.raft.append_entries(rpc).await;
                let reply = reply.map_err(|e| e.to_string())?;
                if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
                    peer.hear();
                }
                Ok(reply)
            }
        };
        self.call(&option, serve).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let serve = move |peer: SimConsensus| {
            let rpc = rpc.clone();
            async move { peer.raft.vote(rpc).await.map_err(|e| e.to_string()) }
        };
        self.call(&option, serve).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let serve = move |peer: SimConsensus| {
            let rpc = rpc.clone();
            async move { peer.raft.pre_vote(rpc).await.map_err(|e| e.to_string()) }
        };
        self.call(&option, serve).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let serve = move |peer: SimConsensus| {
            let rpc = rpc.clone();
            async move {
                let reply = peer.raft.handle_transfer_leader(rpc).await;
                reply.map_err(|e| e.to_string())
            }
        };
        self.call(&option, serve).await
    }

    /// Applies the checks of both the real sender and the real receiver.
    async fn full_snapshot(
        &mut self,
        vote: VoteOf<C>,
        snapshot: SnapshotOf<C, SimSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let network = &self.peers.network;
        if newer_than(&snapshot.meta, &vote) {
            network.oracle().count("stale snapshots");
            return Err(ReplicationClosed::new(
                "the snapshot is from a later term than this leader's",
            )
            .into());
        }
        let serve = move |peer: SimConsensus| {
            let snapshot = snapshot.clone();
            async move {
                if newer_than(&snapshot.meta, &vote) {
                    return Err("the snapshot is from a later term than its sender's".to_owned());
                }
                let reply = peer.raft.install_full_snapshot(vote, snapshot).await;
                reply.map_err(|e| e.to_string())
            }
        };
        let call = Call {
            from: self.peers.from,
            to: self.to,
            timeout: option.soft_ttl().min(CONNECTION_DEAD),
            // The stream ends with its sender.
            stray: None,
        };
        let sending = network.call(call, serve);
        match select(pin!(cancel), pin!(sending)).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((reply, _)) => {
                reply.map_err(|e| StreamingError::Unreachable(Unreachable::new(&e.into_error())))
            }
        }
    }
}

/// Whether a copy of forwarded requests may arrive after these results. gRPC never delivers a request again
/// after its answer: a copy stands for the repetition of a request whose answer was lost, and such an answer is
/// no refusal.
fn none_refused(results: &[ProposeResult]) -> bool {
    let accepted = |it: &ProposeResult| matches!(it, Ok(_) | Err(ProposeError::Unknown));
    results.iter().all(accepted)
}

#[async_trait]
impl Peers for SimPeers {
    async fn propose(
        &self,
        leader: (NodeId, Member),
        requests: Vec<EncodedRequest>,
        timeout: Duration,
    ) -> Vec<ProposeResult> {
        let count = requests.len();
        let refused = || vec![Err(ProposeError::NotLeader { leader: None }); count];
        if self.network.has(Bug::ForwardsRefused) {
            return refused();
        }
        let new_ids = self.network.has(Bug::RequestIdPerAttempt);
        let serve = move |peer: SimConsensus| {
            let requests = requests.clone().into_iter().map(move |mut request| {
                if new_ids {
                    request.origin = Origin {
                        session: SessionId(up_to(u64::MAX - 1)),
                        sequence: 1,
                        answered_below: 1,
                    };
                }
                let peer = peer.clone();
                async move {
                    let proposal = Box::pin(peer.propose(request));
                    SimRuntime::timeout(timeout, proposal)
                        .await
                        .unwrap_or(Err(ProposeError::Unknown))
                }
            });
            let proposals: Vec<_> = requests.collect();
            async move { Ok(join_all(proposals).await) }
        };
        let lost_is_refused = self.network.has(Bug::LostForwardCountsAsRefused);
        let call = Call {
            from: self.from,
            to: leader.0,
            // Before the router's own timeout, after which it knows that the outcome is unknown.
            timeout: if lost_is_refused {
                timeout / 4
            } else {
                timeout
            },
            stray: Some(|results: &Vec<_>| none_refused(results)),
        };
        match self.network.call(call, serve).await {
            Ok(results) => results,
            Err(Failure::Refused) => refused(),
            Err(Failure::Lost) if lost_is_refused => refused(),
            Err(Failure::Lost | Failure::Answered(_)) => vec![Err(ProposeError::Unknown); count],
        }
    }

    async fn read_point(
        &self,
        leader: (NodeId, Member),
        timeout: Duration,
    ) -> Result<ReadPoint, ProposeError> {
        if self.network.has(Bug::ReadWithoutLeader) {
            return Ok(ReadPoint::new(leader.0, 1, 1));
        }
        let serve =
            |peer: SimConsensus| async move { peer.read_point().await.map_err(|e| e.to_string()) };
        let call = Call {
            from: self.from,
            to: leader.0,
            timeout,
            stray: Some(|_: &ReadPoint| true),
        };
        let point = self.network.call(call, serve).await;
        point.map_err(|_| ProposeError::NotLeader { leader: None })
    }
}
