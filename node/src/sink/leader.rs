//! Requests about sinks that only the leader can answer: it runs the sinks and knows their status, so other
//! nodes forward to it. Operations that go through the log do not need this.

use std::time::Duration;

use lockstep_proto::errors::{CODE_KEY, KNOWN_KEY};
use lockstep_proto::v1;
use lockstep_proto::v1::sinks_client::SinksClient;
use lockstep_raft::Deadline;
use openraft_rt_tokio::TokioRuntime;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{SinkStatus, Sinks, SinksError};
use crate::service::{Role, ServiceError};

/// Limit for a check.
pub(crate) const CHECK_MAX: Duration = Duration::from_secs(60);
/// Metadata: another node forwards its caller's request, which is not forwarded again.
pub(crate) const FORWARDED_KEY: &str = "lockstep-forwarded";

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

impl Sinks {
    /// The status of every sink, from the leader.
    pub(crate) async fn list(
        &self,
        hop: Hop,
        timeout: Duration,
    ) -> Result<v1::ListSinksResponse, SinksError> {
        let call = Call::new(hop, timeout, ATTEMPT_MAX);
        let message = v1::ListSinksRequest {};
        let listed = self.ask_leader(&call, "", message, |mut leader, request| async move {
            leader.list_sinks(request).await
        });
        Ok(listed.await?.unwrap_or_else(|| v1::ListSinksResponse {
            sinks: self.here(),
            node: self.node(),
        }))
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
        let name = truncated(sink);
        let call = Call::new(hop, timeout.min(CHECK_MAX), CHECK_MAX);
        let sink = name.to_owned();
        let message = v1::CheckSinkRequest { sink };
        let checked = self.ask_leader(&call, name, message, |mut leader, request| async move {
            leader.check_sink(request).await
        });
        match checked.await? {
            Some(checked) => Ok(checked),
            None => self.check_here(name, &call).await,
        }
    }

    async fn check_here(
        &self,
        sink: &str,
        call: &Call,
    ) -> Result<v1::CheckSinkResponse, SinksError> {
        let permit = call.deadline.bound(self.checks.clone().acquire_owned());
        let permit = permit.await.ok_or_else(|| call.check_timeout())?;
        let (sinks, sink) = (self.clone(), sink.to_owned());
        // A task, so that it finishes even if the caller gives up: it drops the table that it creates.
        let checking = tokio::spawn(async move {
            let _permit = permit;
            sinks.check_destination(&sink).await
        });
        let checked = call.deadline.bound(checking).await;
        let checked = checked.ok_or_else(|| call.check_timeout())?;
        // Tasks are only cancelled when the node stops.
        let steps = checked.map_err(|_| call.unavailable())??;
        let node = self.node();
        Ok(v1::CheckSinkResponse { steps, node })
    }

    /// The answer of the leader, once there is one that answers; `None` if this node leads.
    async fn ask_leader<M: Clone, A, F>(
        &self,
        call: &Call,
        sink: &str,
        message: M,
        ask: impl Fn(SinksClient<Channel>, Request<M>) -> F,
    ) -> Result<Option<A>, SinksError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        loop {
            let standing = (self.standing)();
            if standing.role == Role::Leader {
                return Ok(None);
            }
            // The node that forwarded the request looks for the leader again.
            if call.hop == Hop::Last {
                return Err(call.unavailable());
            }
            // A leader that has stepped down may not know of another yet.
            let other = standing.leader.filter(|(id, _)| *id != standing.node_id);
            if let Some((id, member)) = other
                && let Ok(channel) = self.peers.channel(id, &member.grpc_address)
            {
                let request = call.request(message.clone());
                match ask(SinksClient::new(channel), request).await {
                    Ok(answer) => return Ok(Some(answer.into_inner())),
                    Err(status) => call.check_final(&status, sink)?,
                }
            }
            if !call.deadline.sleep(PAUSE).await {
                return Err(call.unavailable());
            }
        }
    }

    fn node(&self) -> String {
        self.service.status().node.member.name
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
struct Call {
    hop: Hop,
    deadline: Deadline<TokioRuntime>,
    /// Limit for one attempt.
    attempt_max: Duration,
}

impl Call {
    fn new(hop: Hop, timeout: Duration, attempt_max: Duration) -> Self {
        Self {
            hop,
            deadline: Deadline::after(timeout),
            attempt_max,
        }
    }

    /// A request to the leader, with the time that is left.
    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline.left().min(self.attempt_max));
        let yes = tonic::metadata::MetadataValue::from_static("1");
        request.metadata_mut().insert(FORWARDED_KEY, yes);
        request
    }

    /// Fails if another attempt would get the same answer.
    fn check_final(&self, status: &Status, sink: &str) -> Result<(), SinksError> {
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
                Ok(())
            }
        }
    }

    fn unavailable(&self) -> SinksError {
        let waited = self.deadline.waited();
        SinksError::Service(ServiceError::Unavailable { waited })
    }

    fn check_timeout(&self) -> SinksError {
        let waited = self.deadline.waited();
        SinksError::CheckTimeout { waited }
    }
}

#[cfg(test)]
mod tests;
