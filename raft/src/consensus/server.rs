//! The server side of the peer protocol, over gRPC.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{self, BoxStream, StreamExt as _};
use lockstep_machine::{
    CodecError, EncodedRequest, FeatureLevel, GlobalRevision, OUTCOME_FORMAT, Origin, Outcome,
    Rejection, Reply, RequestBody, SessionId,
};
use lockstep_proto::Malformed;
use lockstep_proto::raft as pb;
use lockstep_proto::raft::peer_server;
use openraft::Snapshot;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesResponse, StreamAppendError, VoteResponse};
use openraft_rt_tokio::TokioRuntime;
use parking_lot::Mutex;
use tonic::{Request, Response, Status, Streaming};

use super::batcher::{ProposeError, ProposeResult};
use super::clocks::Clocks;
use super::network::{
    CLUSTER_HEADER, ClusterTag, GROUP_HEADER, MESSAGE_BYTES_MAX, PROTOCOL, PROTOCOL_HEADER,
    TARGET_HEADER, newer_than,
};
use super::node::Consensus;
use super::peer_members;
use super::succession;
use super::types::{NodeId, Types};
use super::wire;
use crate::failpoints::{self, Failpoint};
use crate::store::{DiskStore, GROUP};

type C = Types<TokioRuntime>;
type Answer<T> = Result<Response<T>, Status>;

/// The longest that a forwarded request may wait here.
const PROPOSE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// This node's identity, and its reaction to a leader that treats it as a member.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// The answer to "who is there".
    fn identify(&self) -> pb::IdentifyResponse;

    /// A leader has addressed this node, which belongs to no cluster yet, by its id: the node durably joins
    /// that cluster.
    async fn join(self: Arc<Self>, cluster_id: &str) -> Result<(), Status>;

    /// Hashes of the state, to be compared with those of other nodes.
    fn state_hashes(&self) -> Vec<pb::StateHash>;
}

/// Serves the peer protocol.
pub struct PeerServer {
    consensus: Consensus<TokioRuntime, DiskStore>,
    cluster: ClusterTag,
    host: Arc<dyn Host>,
    clocks: Clocks,
    /// Whether a node that joins takes the place of a silent member of its name.
    auto_replace: bool,
    /// Foreign cluster ids that were already logged: each is logged once, up to a maximum number.
    strangers: Mutex<Vec<String>>,
}

const STRANGERS_MAX: usize = 64;

impl PeerServer {
    /// The service, to be added to a tonic server.
    pub fn service(
        consensus: Consensus<TokioRuntime, DiskStore>,
        cluster: ClusterTag,
        host: Arc<dyn Host>,
        clocks: Clocks,
        auto_replace: bool,
    ) -> peer_server::PeerServer<Self> {
        let server = Self {
            consensus,
            cluster,
            host,
            clocks,
            auto_replace,
            strangers: Mutex::default(),
        };
        peer_server::PeerServer::new(server)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The message of a call. Refuses one that is meant for another cluster or node.
    async fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        let header = |name| request.metadata().get(name).and_then(|v| v.to_str().ok());
        let (Some(cluster), Some(target)) = (header(CLUSTER_HEADER), header(TARGET_HEADER)) else {
            let refusal = "a peer call must name its cluster and target";
            return Err(Status::failed_precondition(refusal));
        };
        check_version(header(PROTOCOL_HEADER), header(GROUP_HEADER))?;
        let me = self.consensus.node_id();
        let ours = self.cluster.load_full();
        if let Some(ours) = ours.as_deref().filter(|ours| *ours != cluster) {
            self.complain(cluster, Some(ours), "it is from another cluster");
            let refusal = format!("this node belongs to cluster {ours}, not {cluster}");
            return Err(Status::failed_precondition(refusal));
        }
        if target.parse::<NodeId>() != Ok(me) {
            let from = format!("{cluster} (for node {target})");
            self.complain(&from, ours.as_deref(), "it is meant for another node");
            let refusal = format!("this is node {me}, not node {target}");
            return Err(Status::failed_precondition(refusal));
        }
        if ours.is_none() {
            self.host.clone().join(cluster).await?;
        }
        Ok(request.into_inner())
    }

    fn voted(&self, reply: Result<VoteResponse<C>, RaftError<C>>) -> Answer<pb::VoteResponse> {
        let reply = reply.map_err(stopped)?;
        Ok(Response::new(pb::VoteResponse {
            unfit: self.consensus.unfit_as_reported().into(),
            ..wire::vote_reply_out(&reply, self.clocks.wall())
        }))
    }

    fn complain(&self, from: &str, ours: Option<&String>, reason: &'static str) {
        let mut strangers = self.strangers.lock();
        if strangers.len() < STRANGERS_MAX && !strangers.iter().any(|s| s == from) {
            strangers.push(from.to_owned());
            tracing::warn!(
                from,
                cluster = ours,
                reason,
                "rejected a call from a peer; further rejections are not logged"
            );
        }
    }
}

/// Refuses a call in another version of the protocol, or about another Raft group.
fn check_version(protocol: Option<&str>, group: Option<&str>) -> Result<(), Status> {
    if protocol != Some(PROTOCOL.to_string().as_str()) {
        return Err(Status::failed_precondition(format!(
            "the call uses version {} of the peer protocol; this node supports version {PROTOCOL}: run compatible releases on all nodes",
            protocol.unwrap_or("0")
        )));
    }
    if group != Some(GROUP.to_string().as_str()) {
        return Err(Status::failed_precondition(format!(
            "the call is about Raft group {}; this node serves group {GROUP}",
            group.unwrap_or("(none)")
        )));
    }
    Ok(())
}

fn invalid(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the consensus core refused: {error}"))
}

#[async_trait]
impl peer_server::Peer for PeerServer {
    type StreamAppendStream = BoxStream<'static, Result<pb::AppendResponse, Status>>;

    async fn identify(
        &self,
        request: Request<pb::IdentifyRequest>,
    ) -> Answer<pb::IdentifyResponse> {
        let asking = request.into_inner().node_id;
        let standing = self.consensus.standing();
        Ok(Response::new(pb::IdentifyResponse {
            leader_id: standing.leader.map(|(id, _)| id),
            leader_contact_ms: standing.leader_contact.map(|ago| ago.as_millis() as u64),
            protocol: PROTOCOL,
            not_a_member_since: asking.and_then(|id| self.consensus.not_a_member_since(id)),
            role: standing.role.as_str().to_owned(),
            applied_index: standing.applied_index,
            log_last_index: standing.log_last_index,
            ..self.host.identify()
        }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        let request = request.into_inner();
        check_version(
            Some(&request.protocol.to_string()),
            Some(&GROUP.to_string()),
        )?;
        let member = wire::required(request.member, "member").map_err(invalid)?;
        let supports = FeatureLevel::supported_with(request.feature_level_max);
        let joined = peer_members::join(&self.consensus, member, supports, self.auto_replace);
        Ok(Response::new(joined.await))
    }

    async fn change_members(
        &self,
        request: Request<pb::ChangeMembersRequest>,
    ) -> Answer<pb::ChangeMembersResponse> {
        let request = self.admit(request).await?;
        let answer = peer_members::change(&self.consensus, request).await?;
        Ok(Response::new(answer))
    }

    async fn hand_over(
        &self,
        request: Request<pb::HandOverRequest>,
    ) -> Answer<pb::HandOverResponse> {
        let request = self.admit(request).await?;
        let answer = peer_members::hand_over(&self.consensus, request).await;
        Ok(Response::new(answer))
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Answer<pb::AppendResponse> {
        let request = self.admit(request).await?;
        let clock_ms = request.clock_ms;
        let append = wire::append_in(request).map_err(invalid)?;
        self.clocks.note(append.vote.leader_id.voted_for, clock_ms);
        if !self.consensus.takes(&append).await {
            return Err(Status::unavailable("the log has no room"));
        }
        let appended = self.consensus.raft.append_entries(append).await;
        let reply = appended.map_err(stopped)?;
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.consensus.hear();
        }
        Ok(Response::new(pb::AppendResponse {
            unfit: self.consensus.unfit_as_reported().into(),
            ..wire::append_reply_out(&reply, self.clocks.wall())
        }))
    }

    async fn stream_append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Answer<Self::StreamAppendStream> {
        let requests = self.admit(request).await?;
        let state = (requests, self.consensus.clone());
        // The stream ends where it is broken, or the log has no room: the sender starts another.
        let input = stream::unfold(state, |(mut requests, consensus)| async move {
            let Ok(message) = requests.message().await else {
                // The connection broke: the task is short, and the stream ends here.
                tokio::spawn(succession::look_for_leader(consensus));
                return None;
            };
            let append = wire::append_in(message?).ok()?;
            let taken = consensus.takes(&append).await;
            taken.then_some((append, (requests, consensus)))
        });
        let consensus = self.consensus.clone();
        let output = self.consensus.raft.stream_append(input.boxed());
        let output = output.map(move |item| {
            let result = item.map_err(stopped)?;
            if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                consensus.hear();
            }
            Ok(wire::stream_reply_out(&result))
        });
        Ok(Response::new(output.boxed()))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let request = self.admit(request).await?;
        let vote = wire::vote_request_in(request).map_err(invalid)?;
        self.voted(self.consensus.raft.vote(vote).await)
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let request = self.admit(request).await?;
        let vote = wire::vote_request_in(request).map_err(invalid)?;
        self.voted(self.consensus.raft.pre_vote(vote).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Answer<pb::TransferLeaderResponse> {
        let request = self.admit(request).await?;
        let transfer = wire::transfer_in(request).map_err(invalid)?;
        let transferred = self.consensus.raft.handle_transfer_leader(transfer).await;
        let reply = wire::transfer_reply_out(&transferred.map_err(stopped)?);
        Ok(Response::new(reply))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Answer<pb::SnapshotResponse> {
        use pb::snapshot_chunk::Part;
        let mut chunks = self.admit(request).await?;
        let first = chunks.message().await?.and_then(|chunk| chunk.part);
        let Some(Part::Header(header)) = first else {
            let reason = "a snapshot must begin with its header";
            return Err(Status::invalid_argument(reason));
        };
        let vote = wire::vote_in(header.vote).map_err(invalid)?;
        let meta = wire::required(header.meta, "snapshot.meta").and_then(wire::snapshot_meta_in);
        let meta = meta.map_err(invalid)?;
        if newer_than(&meta, &vote) {
            let reason = "the snapshot is from a later term than its sender's";
            return Err(Status::unavailable(reason));
        }
        let disk = |e: std::io::Error| {
            Status::unavailable(format!("the snapshot could not be stored: {e}"))
        };
        let store = &self.consensus.storage;
        let mut receiver = store.receive_snapshot(header.length).map_err(disk)?;
        while let Some(chunk) = chunks.message().await? {
            let Some(Part::Data(bytes)) = chunk.part else {
                return Err(Status::invalid_argument("a snapshot has only one header"));
            };
            receiver.write(bytes).await.map_err(disk)?;
            failpoints::reach(Failpoint::InstallBegun);
        }
        failpoints::reach(Failpoint::InstallReceived);
        let snapshot = receiver.finish().await.map_err(disk)?;
        // Once Raft has accepted it, a failure to restore it would end the node.
        store.restore_in_advance(&snapshot).await.map_err(disk)?;
        let snapshot = Snapshot { meta, snapshot };
        failpoints::reach(Failpoint::InstallVerified);
        let raft = &self.consensus.raft;
        let installed = raft.install_full_snapshot(vote, snapshot).await;
        let vote = Some(wire::vote_out(&installed.map_err(stopped)?.vote));
        Ok(Response::new(pb::SnapshotResponse { vote }))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        let message = self.admit(request).await?;
        let timeout = Duration::from_millis(message.timeout_ms).min(PROPOSE_TIMEOUT_MAX);
        let propose = |request: pb::Request| async move {
            if let Err(error) = RequestBody::validate(&request.body) {
                let revision = self.consensus.state().read().state.revision();
                return refused(&error, revision);
            }
            let proposal = self.consensus.propose(request_in(request));
            let reply = tokio::time::timeout(timeout, proposal).await;
            reply.unwrap_or(Err(ProposeError::Unknown))
        };
        let results = join_all(message.requests.into_iter().map(propose)).await;
        let results = results.into_iter().map(result_out).collect();
        Ok(Response::new(pb::ProposeResponse { results }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Answer<pb::ReadIndexResponse> {
        self.admit(request).await?;
        let point = self.consensus.read_point().await;
        let point = point.map_err(|error| Status::unavailable(error.to_string()))?;
        let log_id = Some(wire::log_id_out(&point.log_id));
        Ok(Response::new(pb::ReadIndexResponse { log_id }))
    }

    async fn state_hashes(
        &self,
        request: Request<pb::StateHashesRequest>,
    ) -> Answer<pb::StateHashesResponse> {
        self.admit(request).await?;
        let hashes = self.host.state_hashes();
        Ok(Response::new(pb::StateHashesResponse { hashes }))
    }
}

/// The result for a forwarded body that this build cannot append. Nothing was appended.
fn refused(error: &CodecError, revision: GlobalRevision) -> ProposeResult {
    if error.is_from_newer_build() {
        // Another leader may be able to: the accepting node tries again until its deadline.
        return Err(ProposeError::NotLeader { leader: None });
    }
    Ok(Reply {
        outcome: Outcome::Rejected(Rejection::MalformedRequest),
        replayed: false,
        revision,
    })
}

fn request_in(request: pb::Request) -> EncodedRequest {
    EncodedRequest {
        origin: Origin {
            session: SessionId(request.session),
            sequence: request.sequence,
            answered_below: request.answered_below,
        },
        body: request.body,
    }
}

fn result_out(result: ProposeResult) -> pb::ProposeResult {
    use pb::propose_failure::Kind;
    use pb::propose_result::Result as Out;
    let result = match result {
        Ok(reply) => Out::Reply(pb::Reply {
            outcome: OUTCOME_FORMAT.encode(&reply.outcome).into(),
            replayed: reply.replayed,
            revision: reply.revision.0,
        }),
        Err(error) => {
            let (kind, leader_id) = match error {
                ProposeError::NotLeader { leader } => (Kind::NotLeader, leader),
                ProposeError::Unknown => (Kind::Unknown, None),
                ProposeError::Overloaded => (Kind::Overloaded, None),
                ProposeError::DiskFull => (Kind::DiskFull, None),
                // The forwarding node refuses it, unless it is of a release with another maximum.
                ProposeError::TooLarge { .. } => (Kind::TooLarge, None),
            };
            let kind = kind.into();
            Out::Failure(pb::ProposeFailure { kind, leader_id })
        }
    };
    let result = Some(result);
    pb::ProposeResult { result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_in_another_protocol_version_is_refused_with_both_versions() {
        assert!(check_version(Some("1"), Some("0")).is_ok());
        let refusal = check_version(Some("2"), Some("0")).unwrap_err();
        assert!(
            refusal
                .message()
                .contains("version 2 of the peer protocol; this node supports version 1"),
            "{refusal}"
        );
        assert!(check_version(None, Some("0")).is_err());
        assert!(check_version(Some("1"), Some("1")).is_err());
    }
}
