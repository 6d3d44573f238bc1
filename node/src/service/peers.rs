//! Forwards requests that entered here to other nodes, over gRPC.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_machine::{EncodedRequest, GlobalRevision, OUTCOME_FORMAT, Reply};
use lockstep_proto::Malformed;
use lockstep_proto::raft as pb;
use lockstep_proto::raft::peer_client::PeerClient;
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::router::Peers;
use lockstep_raft::consensus::network::{ClusterTag, addressed, channel, client};
use lockstep_raft::consensus::{Member, NodeId, ProposeError, ProposeResult, ReadPoint};

/// By node id: the address that a connection was made for, and the connection.
type Channels = HashMap<NodeId, (String, Channel)>;

/// Connections to the other nodes, one each, kept while the node is a member.
#[derive(Clone)]
pub struct GrpcPeers {
    cluster: ClusterTag,
    channels: Arc<Mutex<Channels>>,
}

/// More members than any cluster has: the table is cleared when it would grow past this.
const CHANNELS_MAX: usize = 64;

impl GrpcPeers {
    pub fn new(cluster: ClusterTag) -> Self {
        Self {
            cluster,
            channels: Arc::default(),
        }
    }

    /// The connection to a node, made when it is first used or when its address has changed.
    pub fn channel(&self, id: NodeId, grpc_address: &str) -> Result<Channel, Status> {
        let mut channels = self.channels.lock();
        if let Some((address, channel)) = channels.get(&id)
            && address == grpc_address
        {
            return Ok(channel.clone());
        }
        let channel = channel(grpc_address).map_err(|e| Status::unavailable(e.to_string()))?;
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(id, (grpc_address.to_owned(), channel.clone()));
        Ok(channel)
    }

    /// A client of a node, and the call to it.
    pub fn call<M>(
        &self,
        (id, member): (NodeId, Member),
        message: M,
        timeout: Duration,
    ) -> Result<(PeerClient<Channel>, Request<M>), Status> {
        let mut request = addressed(message, &self.cluster, id)?;
        request.set_timeout(timeout);
        let client = client(self.channel(id, &member.grpc_address)?);
        Ok((client, request))
    }

    async fn try_propose(
        &self,
        leader: (NodeId, Member),
        requests: &[EncodedRequest],
        timeout: Duration,
    ) -> Result<Vec<ProposeResult>, Status> {
        let message = pb::ProposeRequest {
            requests: requests.iter().map(request_out).collect(),
            timeout_ms: timeout.as_millis() as u64,
        };
        let (mut leader, request) = self.call(leader, message, timeout)?;
        let results = leader.propose(request).await?.into_inner().results;
        if results.len() != requests.len() {
            let reason = "the leader's response has the wrong number of results";
            return Err(Status::internal(reason));
        }
        let read = |(result, request): (_, &EncodedRequest)| {
            result_in(result, request.body.len()).unwrap_or(Err(ProposeError::Unknown))
        };
        Ok(results.into_iter().zip(requests).map(read).collect())
    }
}

/// Whether the request was certainly not sent. Only a refused connection proves that: a host may
/// become unreachable after the request left.
fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

fn request_out(request: &EncodedRequest) -> pb::Request {
    pb::Request {
        session: request.origin.session.0,
        sequence: request.origin.sequence,
        answered_below: request.origin.answered_below,
        body: request.body.clone(),
    }
}

/// The result for a request with a body of so many bytes.
fn result_in(result: pb::ProposeResult, bytes: usize) -> Result<ProposeResult, Malformed> {
    use pb::propose_failure::Kind;
    use pb::propose_result::Result as In;
    Ok(
        match result
            .result
            .ok_or_else(|| Malformed::new("propose.result", "it is missing"))?
        {
            In::Reply(reply) => Ok(Reply {
                outcome: OUTCOME_FORMAT
                    .decode(&reply.outcome)
                    .map_err(|error| Malformed::new("reply.outcome", error))?,
                replayed: reply.replayed,
                revision: GlobalRevision(reply.revision),
            }),
            In::Failure(failure) => Err(match failure.kind() {
                Kind::NotLeader => ProposeError::NotLeader {
                    leader: failure.leader_id,
                },
                Kind::Overloaded => ProposeError::Overloaded,
                Kind::DiskFull => ProposeError::DiskFull,
                Kind::TooLarge => ProposeError::TooLarge { bytes },
                Kind::Unknown | Kind::Unspecified => ProposeError::Unknown,
            }),
        },
    )
}

#[async_trait]
impl Peers for GrpcPeers {
    async fn propose(
        &self,
        leader: (NodeId, Member),
        requests: Vec<EncodedRequest>,
        timeout: Duration,
    ) -> Vec<ProposeResult> {
        match self.try_propose(leader, &requests, timeout).await {
            Ok(results) => results,
            Err(status) => {
                let refused = matches!(
                    status.code(),
                    Code::FailedPrecondition | Code::InvalidArgument
                );
                // Unless the request was certainly not sent or not processed, it may have been executed.
                let error = if refused || never_sent(&status) {
                    ProposeError::NotLeader { leader: None }
                } else {
                    ProposeError::Unknown
                };
                vec![Err(error); requests.len()]
            }
        }
    }

    async fn read_point(
        &self,
        leader: (NodeId, Member),
        timeout: Duration,
    ) -> Result<ReadPoint, ProposeError> {
        let id = leader.0;
        let ask = async {
            let (mut leader, request) = self.call(leader, pb::ReadIndexRequest {}, timeout)?;
            let log_id = leader.read_index(request).await?.into_inner().log_id;
            log_id.ok_or_else(|| Status::internal("the leader gave no log position"))
        };
        match ask.await {
            Ok(log_id) => Ok(ReadPoint::new(id, log_id.term, log_id.index)),
            Err(_) => Err(ProposeError::NotLeader { leader: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_whose_address_changed_gets_a_new_connection() {
        let peers = GrpcPeers::new(ClusterTag::default());
        for address in ["127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2"] {
            peers.channel(2, address).unwrap();
            assert_eq!(peers.channels.lock()[&2].0, address);
        }
        peers.channel(2, "no address").unwrap_err();
    }
}
