//! A network in memory: delay, loss, cuts in one direction, replies lost after execution.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, join_all, select};
use lockstep_machine::EncodedRequest;
use openraft::AnyError;
use openraft::OptionalSend;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use super::chance::{nap, one_of};
use super::disk::{SimDisk, SimSnapshot};
use lockstep_node::service::Peers;
use lockstep_raft::consensus::network::newer_than;
use lockstep_raft::consensus::{
    Consensus, Member, NodeId, ProposeError, ProposeResult, ReadPoint, Types,
};

type C = Types<SimRuntime>;
/// Production consensus on the simulated runtime and disk.
pub type SimConsensus = Consensus<SimRuntime, SimDisk>;

/// Time after which a dead idle connection is detected, as by keepalive.
const CONNECTION_DEAD: Duration = Duration::from_secs(2);

/// One run of a node process: the node's id and the number of the run.
pub type Process = (NodeId, u64);

/// The network between all nodes.
#[derive(Clone, Default)]
pub struct SimNetwork(Arc<Inner>);

#[derive(Default)]
struct Inner {
    running: Mutex<BTreeMap<NodeId, (u64, SimConsensus)>>,
    /// Nothing travels from the first to the second.
    cuts: Mutex<BTreeSet<(NodeId, NodeId)>>,
    delay_us_max: AtomicU64,
    loss_permille: AtomicU64,
    stale_snapshots: AtomicU64,
    /// A planted bug: followers read without asking the leader.
    reads_unconfirmed: Mutex<bool>,
}

/// Why a call got no reply.
enum Failure {
    /// The peer does not listen: nothing was sent.
    Refused,
    /// No reply in time.
    Lost,
    /// The peer refused.
    Answered(String),
}

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

impl SimNetwork {
    /// Connects a process.
    pub fn connect(&self, (id, run): Process, consensus: SimConsensus) {
        self.0.running.lock().unwrap().insert(id, (run, consensus));
    }

    /// Disconnects whichever process of a node is running.
    pub fn disconnect(&self, id: NodeId) {
        self.0.running.lock().unwrap().remove(&id);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.cuts.lock().unwrap().insert((from, to));
    }

    /// Heals all partitions.
    pub fn mend(&self) {
        self.0.cuts.lock().unwrap().clear();
    }

    /// Sets delay and loss of every message.
    pub fn set_weather(&self, delay_max: Duration, loss_permille: u64) {
        self.0
            .delay_us_max
            .store(delay_max.as_micros() as u64, Ordering::Relaxed);
        self.0.loss_permille.store(loss_permille, Ordering::Relaxed);
    }

    /// A planted bug: followers read without asking the leader.
    pub fn plant_unconfirmed_reads(&self) {
        *self.0.reads_unconfirmed.lock().unwrap() = true;
    }

    /// Number of snapshots that were not sent because they were from a later term than their sender's.
    pub fn stale_snapshots(&self) -> u64 {
        self.0.stale_snapshots.load(Ordering::Relaxed)
    }

    /// The end of the network at one process.
    pub fn at(&self, process: Process) -> SimPeers {
        SimPeers {
            network: self.clone(),
            from: process,
        }
    }

    fn process(&self, id: NodeId) -> Option<(u64, SimConsensus)> {
        self.0.running.lock().unwrap().get(&id).cloned()
    }

    /// Delays a message; never returns if the message is lost.
    async fn travel(&self, from: NodeId, to: NodeId) {
        nap(Duration::from_micros(
            self.0.delay_us_max.load(Ordering::Relaxed),
        ))
        .await;
        let cut = self.0.cuts.lock().unwrap().contains(&(from, to));
        if cut || one_of(1000) < self.0.loss_permille.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Calls `serve` at node `to` and brings the reply back.
    async fn call<T, F>(
        &self,
        (from, run): Process,
        to: NodeId,
        patience: Duration,
        serve: impl FnOnce(SimConsensus) -> F + Send,
    ) -> Result<T, Failure>
    where
        T: Send,
        F: Future<Output = Result<T, String>> + Send,
    {
        let alive = || self.process(from).is_some_and(|(now, _)| now == run);
        let round_trip = async {
            if !alive() {
                std::future::pending::<()>().await;
            }
            self.travel(from, to).await;
            let (_, peer) = self.process(to).ok_or(Failure::Refused)?;
            let reply = serve(peer).await;
            self.travel(to, from).await;
            if !alive() {
                std::future::pending::<()>().await;
            }
            reply.map_err(Failure::Answered)
        };
        SimRuntime::timeout(patience, Box::pin(round_trip))
            .await
            .unwrap_or(Err(Failure::Lost))
    }
}

/// One process's way to the others: openraft's network, and the router's peers.
#[derive(Clone)]
pub struct SimPeers {
    network: SimNetwork,
    from: Process,
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
    async fn call<T, F>(
        &self,
        patience: Duration,
        serve: impl FnOnce(SimConsensus) -> F + Send,
    ) -> Result<T, Failure>
    where
        T: Send,
        F: Future<Output = Result<T, String>> + Send,
    {
        self.peers
            .network
            .call(self.peers.from, self.to, patience, serve)
            .await
    }
}

impl RaftNetworkV2<C> for Link {
    type SnapshotData = SimSnapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        let serve = |peer: SimConsensus| async move {
            peer.raft
                .append_entries(rpc)
                .await
                .map_err(|e| e.to_string())
        };
        self.call(option.soft_ttl(), serve)
            .await
            .map_err(Failure::into_rpc)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let serve = |peer: SimConsensus| async move {
            peer.raft.vote(rpc).await.map_err(|e| e.to_string())
        };
        self.call(option.soft_ttl(), serve)
            .await
            .map_err(Failure::into_rpc)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let serve = |peer: SimConsensus| async move {
            peer.raft.pre_vote(rpc).await.map_err(|e| e.to_string())
        };
        self.call(option.soft_ttl(), serve)
            .await
            .map_err(Failure::into_rpc)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let serve = |peer: SimConsensus| async move {
            peer.raft
                .handle_transfer_leader(rpc)
                .await
                .map_err(|e| e.to_string())
        };
        self.call(option.soft_ttl(), serve)
            .await
            .map_err(Failure::into_rpc)
    }

    /// Applies the checks of both the real sender and the real receiver.
    async fn full_snapshot(
        &mut self,
        vote: VoteOf<C>,
        snapshot: SnapshotOf<C, SimSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        if newer_than(&snapshot.meta, &vote) {
            self.peers
                .network
                .0
                .stale_snapshots
                .fetch_add(1, Ordering::Relaxed);
            return Err(ReplicationClosed::new(
                "the snapshot is from a later term than this leader's",
            )
            .into());
        }
        let serve = |peer: SimConsensus| async move {
            if newer_than(&snapshot.meta, &vote) {
                return Err("the snapshot is from a later term than its sender's".to_owned());
            }
            peer.raft
                .install_full_snapshot(vote, snapshot)
                .await
                .map_err(|e| e.to_string())
        };
        let sending = self.call(option.soft_ttl().min(CONNECTION_DEAD), serve);
        match select(pin!(cancel), pin!(sending)).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((reply, _)) => {
                reply.map_err(|e| StreamingError::Unreachable(Unreachable::new(&e.into_error())))
            }
        }
    }
}

#[async_trait]
impl Peers for SimPeers {
    async fn propose(
        &self,
        leader: (NodeId, Member),
        requests: Vec<EncodedRequest>,
        patience: Duration,
    ) -> Vec<ProposeResult> {
        let count = requests.len();
        let serve = |peer: SimConsensus| async move {
            let proposals = requests.into_iter().map(|request| {
                let peer = peer.clone();
                async move {
                    let proposal = Box::pin(peer.propose(request));
                    SimRuntime::timeout(patience, proposal)
                        .await
                        .unwrap_or(Err(ProposeError::Unknown))
                }
            });
            Ok(join_all(proposals.collect::<Vec<_>>()).await)
        };
        match self
            .network
            .call(self.from, leader.0, patience, serve)
            .await
        {
            Ok(results) => results,
            Err(Failure::Refused) => vec![Err(ProposeError::NotLeader { leader: None }); count],
            Err(Failure::Lost | Failure::Answered(_)) => vec![Err(ProposeError::Unknown); count],
        }
    }

    async fn read_point(
        &self,
        leader: (NodeId, Member),
        patience: Duration,
    ) -> Result<ReadPoint, ProposeError> {
        if *self.network.0.reads_unconfirmed.lock().unwrap() {
            return Ok(ReadPoint::new(leader.0, 1, 1));
        }
        let serve =
            |peer: SimConsensus| async move { peer.read_point().await.map_err(|e| e.to_string()) };
        let point = self
            .network
            .call(self.from, leader.0, patience, serve)
            .await;
        point.map_err(|_| ProposeError::NotLeader { leader: None })
    }
}
