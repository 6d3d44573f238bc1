//! Sinks of whichever node leads: the leader runs them and knows their status, so any other node asks it.
//! Operations that go through the log need none of this.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::errors::{CODE_KEY, KNOWN_KEY};
use lockstep_proto::v1;
use lockstep_proto::v1::sinks_client::SinksClient;
use lockstep_raft::Deadline;
use lockstep_raft::consensus::NodeId;
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{SinkStatus, Sinks, SinksError};
use crate::service::{self, Role, ServiceError};

/// Limit for a check.
pub(crate) const CHECK_MAX: Duration = Duration::from_secs(60);
/// Metadata: another node forwards its caller's request, which is not forwarded again.
pub(crate) const FORWARDED_KEY: &str = "lockstep-forwarded";

/// Checks that run at once; others wait.
const CHECKS_MAX: usize = 4;
/// Limit for one attempt to list the leader's sinks: a partitioned leader does not answer.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// No sink's name is longer; an error quotes no more of a requested name.
const NAME_BYTES_MAX: usize = 64;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// A caller: it may be forwarded.
    First,
    /// Another node: it may not.
    Last,
}

/// Where the sinks run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leader {
    /// On this node.
    Here,
    /// On this node, at this gRPC address.
    At(NodeId, String),
    /// No leader is known.
    Unknown,
}

impl Leader {
    fn of(status: &service::Status) -> Self {
        if status.role == Role::Leader {
            return Leader::Here;
        }
        let id = status.leader_id.filter(|id| *id != status.node.id);
        let member = status.members.iter().find(|it| Some(it.id) == id);
        member.map_or(Leader::Unknown, |it| {
            Leader::At(it.id, it.grpc_address.clone())
        })
    }
}

/// The sinks of whichever node leads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LeadersSinks {
    node: Arc<str>,
    here: Sinks,
    leader: Arc<dyn Fn() -> Leader + Send + Sync>,
    /// One permit per running check.
    checks: Arc<Semaphore>,
}

impl LeadersSinks {
    pub(crate) fn new(here: Sinks) -> Self {
        let service = here.service.clone();
        let node = service.status().node.name;
        Self::led_by(node, here, move || Leader::of(&service.status()))
    }

    fn led_by(
        node: String,
        here: Sinks,
        leader: impl Fn() -> Leader + Send + Sync + 'static,
    ) -> Self {
        Self {
            node: node.into(),
            here,
            leader: Arc::new(leader),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
        }
    }

    /// The status of every sink, from the leader.
    pub(crate) async fn list(
        &self,
        hop: Hop,
        timeout: Duration,
    ) -> Result<v1::ListSinksResponse, SinksError> {
        let call = Call::begin(timeout);
        loop {
            let Some(mut leader) = self.find(hop, &call).await? else {
                return Ok(v1::ListSinksResponse {
                    sinks: self.here.list(),
                    node: self.node.to_string(),
                });
            };
            let request = call.request(v1::ListSinksRequest {}, ATTEMPT_MAX);
            let answer = leader.list_sinks(request).await;
            if let Some(answer) = call.interpret(answer, "").await? {
                return Ok(answer);
            }
        }
    }

    /// The status of one sink, from the leader, and the leader's name.
    pub(crate) async fn status(
        &self,
        sink: &str,
        timeout: Duration,
    ) -> Result<(SinkStatus, String), SinksError> {
        let v1::ListSinksResponse { mut sinks, node } = self.list(Hop::First, timeout).await?;
        match sinks.iter().position(|it| it.name == sink) {
            Some(at) => Ok((sinks.swap_remove(at), node)),
            None => Err(SinksError::Unknown {
                name: truncated(sink).to_owned(),
                known: sinks.into_iter().map(|it| it.name).collect(),
            }),
        }
    }

    /// Tests a destination from the leader.
    pub(crate) async fn check(
        &self,
        sink: &str,
        hop: Hop,
        timeout: Duration,
    ) -> Result<v1::CheckSinkResponse, SinksError> {
        let sink = truncated(sink);
        let call = Call::begin(timeout.min(CHECK_MAX));
        loop {
            let Some(mut leader) = self.find(hop, &call).await? else {
                return self.check_here(sink, &call).await;
            };
            let message = v1::CheckSinkRequest {
                sink: sink.to_owned(),
            };
            let answer = leader
                .check_sink(call.request(message, call.0.left()))
                .await;
            if let Some(answer) = call.interpret(answer, sink).await? {
                return Ok(answer);
            }
        }
    }

    async fn check_here(
        &self,
        sink: &str,
        call: &Call,
    ) -> Result<v1::CheckSinkResponse, SinksError> {
        let permit = call.0.bound(self.checks.clone().acquire_owned()).await;
        let permit = permit.ok_or_else(|| call.check_timeout())?;
        let (here, sink) = (self.here.clone(), sink.to_owned());
        // A task, so that it finishes even if the caller gives up: it drops the table that it creates.
        let checking = tokio::spawn(async move {
            let _permit = permit;
            here.check(&sink).await
        });
        let checked = call.0.bound(checking).await;
        let checked = checked.ok_or_else(|| call.check_timeout())?;
        // Tasks are only cancelled when the node stops.
        let steps = checked.map_err(|_| call.unavailable())??;
        Ok(v1::CheckSinkResponse {
            steps,
            node: self.node.to_string(),
        })
    }

    /// A client of the leader, once there is one; `None` if this node leads.
    async fn find(
        &self,
        hop: Hop,
        call: &Call,
    ) -> Result<Option<SinksClient<Channel>>, SinksError> {
        loop {
            match (self.leader)() {
                Leader::Here => return Ok(None),
                // The node that forwarded the request looks for the leader again.
                Leader::At(..) | Leader::Unknown if hop == Hop::Last => {
                    return Err(call.unavailable());
                }
                Leader::At(id, address) => {
                    if let Ok(channel) = self.here.peers.channel(id, &address) {
                        return Ok(Some(SinksClient::new(channel)));
                    }
                }
                Leader::Unknown => {}
            }
            call.pause().await?;
        }
    }
}

/// A requested name, cut to the length that errors quote.
pub(crate) fn truncated(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// One call with one deadline, however many attempts it takes.
struct Call(Deadline<TokioRuntime>);

impl Call {
    fn begin(timeout: Duration) -> Self {
        Self(Deadline::after(timeout))
    }

    /// A request to the leader, with the time that is left.
    fn request<M>(&self, message: M, attempt_max: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.0.left().min(attempt_max));
        let yes = tonic::metadata::MetadataValue::from_static("1");
        request.metadata_mut().insert(FORWARDED_KEY, yes);
        request
    }

    /// The leader's answer; `None`, after a pause, if another attempt may get one.
    async fn interpret<A>(
        &self,
        answer: Result<tonic::Response<A>, Status>,
        sink: &str,
    ) -> Result<Option<A>, SinksError> {
        let status = match answer {
            Ok(answer) => return Ok(Some(answer.into_inner())),
            Err(status) => status,
        };
        let metadata = |key| status.metadata().get(key)?.to_str().ok();
        match metadata(CODE_KEY) {
            Some("unknown_sink") => {
                let known = metadata(KNOWN_KEY).unwrap_or_default().split(',');
                let known = known.filter(|name| !name.is_empty()).map(str::to_owned);
                Err(SinksError::Unknown {
                    name: sink.to_owned(),
                    known: known.collect(),
                })
            }
            Some("sink_check_timeout") => Err(self.check_timeout()),
            _ => {
                tracing::debug!(%status, "the leader did not answer a request about its sinks");
                self.pause().await.map(|()| None)
            }
        }
    }

    /// Pauses, unless the deadline has passed by then.
    async fn pause(&self) -> Result<(), SinksError> {
        match self.0.sleep(PAUSE).await {
            true => Ok(()),
            false => Err(self.unavailable()),
        }
    }

    fn unavailable(&self) -> SinksError {
        let waited = self.0.waited();
        SinksError::Service(ServiceError::Unavailable { waited })
    }

    fn check_timeout(&self) -> SinksError {
        let waited = self.0.waited();
        SinksError::CheckTimeout { waited }
    }
}

#[cfg(test)]
mod tests;
