//! The client side of the peer protocol, over gRPC.
//!
//! Each purpose has a connection of its own, so that neither a long append nor a snapshot delays a
//! heartbeat. Connections are made when first needed; openraft decides when to try again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::stream::{self, BoxStream, StreamExt as _};
use futures::{FutureExt as _, Stream};
use lockstep_proto::raft as pb;
use lockstep_proto::raft::peer_client::PeerClient;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::BoxFuture;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId as _;
use openraft::{AnyError, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::addresses::Addresses;
use super::clocks::Clocks;
use super::hand_over::Fitness;
use super::revocable::revocable;
use super::state_machine::Observer;
use super::types::{Member, NodeId, Types};
use super::wire;
use crate::store::{GROUP, SnapshotFile, SnapshotHandle as _};

type C = Types<TokioRuntime>;
type RpcResult<T> = Result<T, RPCError<C>>;

/// Metadata: the cluster a call belongs to.
pub const CLUSTER_HEADER: &str = "lockstep-cluster";
/// Metadata: the node id a call is meant for.
pub const TARGET_HEADER: &str = "lockstep-target";

/// Metadata: the version of the peer protocol that a call is made in.
pub const PROTOCOL_HEADER: &str = "lockstep-protocol";
/// Metadata: the Raft group that a call is about.
pub const GROUP_HEADER: &str = "lockstep-group";

/// The version of the peer protocol. Messages may gain optional fields within a version.
pub const PROTOCOL: u32 = 1;

/// The largest peer message accepted, bytes: a read from the log is capped at 1 MiB, a single
/// entry may be larger.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// The largest log entry, bytes: one that does not fit into a peer message could never be replicated, and
/// would block all that follow. Leaves space in the message for what goes around it.
pub const ENTRY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (1 << 20);

/// Flow-control window of a stream in bytes: bounds the memory of a slow receiver.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of a stream with outstanding appends; well above a slow fsync.
const STREAM_TIMEOUT_MIN: Duration = Duration::from_millis(300);
/// Pause after a stream could not be opened.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// The cluster that this node belongs to; unset until it joins one.
pub type ClusterTag = Arc<ArcSwapOption<String>>;

/// Opens a connection to a node, when first used.
pub fn channel(grpc_address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{grpc_address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES)
        .connect_lazy())
}

/// A client of the peer protocol.
pub fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Marks a call as meant for one node of one cluster.
pub fn addressed<T>(
    message: T,
    cluster: &ClusterTag,
    target: NodeId,
) -> Result<Request<T>, Status> {
    let cluster = cluster
        .load_full()
        .ok_or_else(|| Status::unavailable("this node belongs to no cluster yet"))?;
    let mut request = Request::new(message);
    let cluster = cluster
        .parse()
        .map_err(|_| Status::internal("the cluster id is not printable"))?;
    let metadata = request.metadata_mut();
    metadata.insert(CLUSTER_HEADER, cluster);
    metadata.insert(TARGET_HEADER, target.into());
    metadata.insert(PROTOCOL_HEADER, PROTOCOL.into());
    metadata.insert(GROUP_HEADER, GROUP.into());
    Ok(request)
}

/// Makes connections for openraft.
#[derive(Clone)]
pub struct GrpcNetwork {
    /// The cluster whose members are called.
    pub cluster: ClusterTag,
    /// Where they are now.
    pub addresses: Addresses,
    /// Learns what their clocks show.
    pub clocks: Clocks,
    /// Learns which of them should not lead.
    pub fitness: Fitness,
    /// Whom to tell what was sent.
    pub observer: Arc<dyn Observer>,
}

impl GrpcNetwork {
    fn peer(&self, target: NodeId, member: &Member, streams: bool) -> Peer {
        Peer {
            target,
            client: connect(&member.grpc_address),
            member: member.clone(),
            network: self.clone(),
            streams,
        }
    }
}

impl RaftNetworkFactory<C> for GrpcNetwork {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Peer {
        self.peer(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Peer {
        self.peer(target, node, false)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Member) -> Peer {
        self.peer(target, node, false)
    }
}

/// A connection to one peer for one purpose.
pub struct Peer {
    target: NodeId,
    /// The member, with the address to which `client` is connected.
    member: Member,
    /// Unset when that address is invalid.
    client: Option<PeerClient<Channel>>,
    network: GrpcNetwork,
    /// Whether appends go over one long stream, or one by one as heartbeats do.
    streams: bool,
}

/// Errors of an unreachable peer cause a back-off; any other error is retried immediately.
fn rpc_error(status: Status) -> RPCError<C> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented => {
            Unreachable::new(&status).into()
        }
        _ => NetworkError::new(&status).into(),
    }
}

fn malformed(error: lockstep_proto::Malformed) -> RPCError<C> {
    NetworkError::new(&error).into()
}

fn connect(grpc_address: &str) -> Option<PeerClient<Channel>> {
    channel(grpc_address).map(client).ok()
}

impl Peer {
    fn client(&mut self) -> RpcResult<PeerClient<Channel>> {
        let addresses = &self.network.addresses;
        if let Some(address) = addresses.moved(self.target, &self.member.grpc_address) {
            self.client = connect(&address);
            self.member.grpc_address = address;
        }
        let Member {
            name, grpc_address, ..
        } = &self.member;
        let invalid = || AnyError::error(format!("{name}: {grpc_address:?} is not an address"));
        let client = self.client.clone();
        client.ok_or_else(|| Unreachable::new(&invalid()).into())
    }

    fn addressed<T>(&self, message: T) -> Result<Request<T>, Status> {
        addressed(message, &self.network.cluster, self.target)
    }

    fn request<T>(&self, message: T, option: &RPCOption) -> RpcResult<Request<T>> {
        let mut request = self.addressed(message).map_err(rpc_error)?;
        request.set_timeout(option.hard_ttl());
        Ok(request)
    }

    fn voted(
        &self,
        reply: Result<Response<pb::VoteResponse>, Status>,
    ) -> RpcResult<VoteResponse<C>> {
        let reply = reply.map_err(rpc_error)?.into_inner();
        self.network.clocks.note(self.target, reply.clock_ms);
        self.network.fitness.note(self.target, reply.unfit());
        wire::vote_reply_in(reply).map_err(malformed)
    }
}

impl RaftNetworkV2<C> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<C>> {
        let append = pb::AppendRequest {
            clock_ms: self.network.clocks.wall().0,
            ..wire::append_out(&rpc)
        };
        let request = self.request(append, &option)?;
        let sent = Instant::now();
        let reply = self.client()?.append(request).await.map_err(rpc_error)?;
        let GrpcNetwork {
            clocks,
            fitness,
            observer,
            ..
        } = &self.network;
        observer.append_round_trip(&self.member.name, sent.elapsed());
        let reply = reply.into_inner();
        clocks.note(self.target, reply.clock_ms);
        fitness.note(self.target, reply.unfit());
        wire::append_reply_in(reply).map_err(malformed)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<C>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        if !self.streams {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let timeout = option.soft_ttl().max(STREAM_TIMEOUT_MIN);
            let sent = Arc::new(AtomicU64::new(0));
            let count = sent.clone();
            let (input, revoked) = revocable(input);
            // The transport pulls the stream, so back-pressure reaches the log reader.
            let output = input.map(move |request| {
                count.fetch_add(1, Ordering::Relaxed);
                wire::append_out(&request)
            });
            let request = self.addressed(output).map_err(rpc_error)?;
            let mut client = self.client()?;
            match tokio::time::timeout(timeout, client.stream_append(request)).await {
                Ok(Ok(opened)) => Ok(in_order(opened.into_inner(), sent, timeout, revoked).boxed()),
                Ok(Err(status)) => {
                    // openraft reopens the stream at once: without a pause, it would try a peer that is down
                    // thousands of times a second.
                    tokio::time::sleep(REOPEN_PAUSE).await;
                    Err(rpc_error(status))
                }
                Err(_) => Err(overdue("the peer did not open the stream")),
            }
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<C>, option: RPCOption) -> RpcResult<VoteResponse<C>> {
        let request = self.request(wire::vote_request_out(&rpc), &option)?;
        let reply = self.client()?.vote(request).await;
        self.voted(reply)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<C>> {
        let request = self.request(wire::vote_request_out(&rpc), &option)?;
        let reply = self.client()?.pre_vote(request).await;
        self.voted(reply)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<C>,
        snapshot: SnapshotOf<C, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        // On every retry, openraft reads the newest snapshot but keeps the vote it began with. Entries of
        // a newer term under an older vote would stop the receiver's core.
        if newer_than(&snapshot.meta, &vote) {
            let reason = "the snapshot is from a later term than this leader's";
            return Err(ReplicationClosed::new(reason).into());
        }
        let length = snapshot.snapshot.length();
        let header = pb::SnapshotHeader {
            vote: Some(wire::vote_out(&vote)),
            meta: Some(wire::snapshot_meta_out(&snapshot.meta)),
            length,
        };
        let request = self.addressed(chunks(header, snapshot.snapshot));
        let request = request.map_err(unreachable)?;
        let mut client = self.client().map_err(StreamingError::from)?;
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            reply = client.install_snapshot(request) => {
                let reply = reply.map_err(unreachable)?.into_inner();
                self.network.observer.snapshot_sent(length);
                Ok(SnapshotResponse::new(wire::vote_in(reply.vote).map_err(unreachable)?))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<C>> {
        let request = self.request(wire::transfer_out(&rpc), &option)?;
        let reply = self.client()?.transfer_leader(request).await;
        let reply = reply.map_err(rpc_error)?.into_inner();
        wire::transfer_reply_in(reply).map_err(malformed)
    }
}

/// Whether a snapshot contains entries of a later term than `vote`'s.
pub fn newer_than(meta: &super::types::SnapshotMeta, vote: &super::types::Vote) -> bool {
    meta.last_log_id
        .as_ref()
        .is_some_and(|last| last.committed_leader_id() > &vote.leader_id().to_committed())
}

/// A failed snapshot transfer is not retried immediately, because each attempt sends the whole file.
fn unreachable(error: impl std::error::Error + 'static) -> StreamingError<C> {
    StreamingError::Unreachable(Unreachable::new(&error))
}

fn overdue(what: &str) -> RPCError<C> {
    rpc_error(Status::deadline_exceeded(what))
}

/// The responses of a stream, up to the first that is not a success; an error if one is overdue. An
/// idle stream never times out. Once they end, the requests do, too.
fn in_order(
    replies: tonic::Streaming<pb::AppendResponse>,
    sent: Arc<AtomicU64>,
    timeout: Duration,
    revoked: impl Send + 'static,
) -> impl Stream<Item = Result<StreamAppendResult<C>, RPCError<C>>> + Send {
    let begin = Some((replies, 0_u64, sent, revoked));
    stream::unfold(begin, move |state| async move {
        let (mut replies, received, sent, revoked) = state?;
        let failed = |error| Some((Err(error), None));
        loop {
            let waiting = sent.load(Ordering::Relaxed) > received;
            match tokio::time::timeout(timeout, replies.next()).await {
                Ok(Some(Ok(reply))) => {
                    return match wire::stream_reply_in(reply) {
                        Ok(result) => {
                            let more = (replies, received + 1, sent, revoked);
                            let more = result.is_ok().then_some(more);
                            Some((Ok(result), more))
                        }
                        Err(e) => failed(malformed(e)),
                    };
                }
                Ok(Some(Err(status))) => return failed(rpc_error(status)),
                Ok(None) => return None,
                Err(_) if waiting => {
                    return failed(overdue("the peer did not answer an append in time"));
                }
                Err(_) => continue,
            }
        }
    })
}

/// A snapshot as a header and chunks, read from the file as the transport asks for them.
fn chunks(
    header: pb::SnapshotHeader,
    file: SnapshotFile,
) -> impl Stream<Item = pb::SnapshotChunk> + Send + 'static {
    use pb::snapshot_chunk::Part;
    let head = stream::iter([Part::Header(header)]);
    let body = stream::unfold((file, 0_u64), |(file, offset)| {
        async move {
            if offset >= file.length() {
                return None;
            }
            let reader = file.clone();
            let read = move || reader.read_at(offset, SNAPSHOT_CHUNK_BYTES);
            let read = tokio::task::spawn_blocking(read).await;
            // A short stream is refused by the receiver, which checks the length.
            let bytes = read.ok()?.ok().filter(|bytes| !bytes.is_empty())?;
            let next = offset + bytes.len() as u64;
            Some((Part::Data(bytes), (file, next)))
        }
        .boxed()
    });
    let chunk = |part| pb::SnapshotChunk { part: Some(part) };
    head.chain(body).map(chunk)
}

#[cfg(test)]
mod tests {
    use super::super::types::{LogId, SnapshotMeta, StoredMembership, Vote};
    use super::*;

    #[test]
    fn a_snapshot_of_a_later_leadership_is_not_sent_under_an_earlier_one() {
        let of_term = |term| SnapshotMeta {
            last_log_id: Some(LogId::new_term_index(term, 9)),
            last_membership: StoredMembership::default(),
        };
        let led = |term| Vote::new_committed(term, 1);
        assert!(newer_than(&of_term(3), &led(2)));
        assert!(!newer_than(&of_term(2), &led(2)));
        assert!(!newer_than(&of_term(1), &led(2)));
        let empty = SnapshotMeta {
            last_log_id: None,
            last_membership: StoredMembership::default(),
        };
        assert!(!newer_than(&empty, &led(1)));
    }
}
