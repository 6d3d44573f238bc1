//! Sinks, wherever they run: the leader runs them and knows how they fare, so a node that does not
//! lead asks it. What goes through the log needs none of this.

mod dead_letters;
mod wire;

use lockstep_proto::ErrorCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_proto::v1;
use lockstep_proto::v1::sinks_client::SinksClient;
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::service::{self, Role, Service, ServiceError};
use crate::sink::{Sinks, SinksError};
use lockstep_raft::consensus::network::channel;

pub(super) use dead_letters::DeadLetterPage;

/// The longest that going through a far side may take.
pub(super) const CHECK_MAX: Duration = Duration::from_secs(60);
/// Metadata: another node asks on behalf of its caller. It is not sent on once more.
pub(super) const FORWARDED_KEY: &str = "lockstep-forwarded";
/// Metadata: the stable code of a refusal.
pub(super) const CODE_KEY: &str = "lockstep-code";
/// Metadata: the sinks that are configured, separated by commas, where an unknown one was named.
pub(super) const KNOWN_KEY: &str = "lockstep-known";

/// Checks under way at once; others wait for their turn.
const CHECKS_MAX: usize = 4;
/// One try at one leader's account takes no longer: a leader that is cut off does not answer.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_millis(50);
/// No sink's name is longer; what is asked for is told back no longer than this.
const NAME_BYTES_MAX: usize = 64;

/// Why the sinks' leader gave no account.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// What its sinks, or the way to it, had against it.
    #[error(transparent)]
    Sinks(#[from] SinksError),
    /// Going through the far side took too long.
    #[error(
        "the check did not end within {} ms: the far side is very slow, or does not answer at all",
        waited.as_millis()
    )]
    Unfinished {
        /// How long was waited.
        waited: Duration,
    },
}

impl AskError {
    /// The stable code.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            AskError::Sinks(error) => error.code(),
            AskError::Unfinished { .. } => ErrorCode::SinkCheckTimeout,
        }
    }
}

/// How far a question may still go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    /// A caller asks: it may be sent on.
    First,
    /// Another node asks: it may not.
    Last,
}

/// Where the sinks run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leader {
    /// On this node.
    Here,
    /// At this gRPC address.
    There(String),
    /// Nowhere that is known.
    Nobody,
}

impl Leader {
    fn of(status: &service::Status) -> Self {
        if status.role == Role::Leader {
            return Leader::Here;
        }
        let id = status.leader_id.filter(|id| *id != status.node.id);
        let member = status.members.iter().find(|it| Some(it.id) == id);
        member.map_or(Leader::Nobody, |it| Leader::There(it.grpc_address.clone()))
    }
}

/// The sinks of whichever node leads. Cheap to clone.
#[derive(Clone)]
pub(super) struct LeadersSinks {
    node: Arc<str>,
    here: Sinks,
    leader: Arc<dyn Fn() -> Leader + Send + Sync>,
    /// The connection to the last leader that was asked, and its address.
    connection: Arc<Mutex<Option<(String, Channel)>>>,
    /// A turn for each check that may be under way.
    checks: Arc<Semaphore>,
}

impl LeadersSinks {
    /// Over the sinks of this node, and what its service knows of the leader.
    pub(super) fn new(service: Arc<Service>, here: Sinks) -> Self {
        let node = service.status().node.name;
        let leader = move || Leader::of(&service.status());
        Self::led_by(node, here, leader)
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
            connection: Arc::default(),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
        }
    }

    /// Every sink, as the leader sees it.
    pub(super) async fn list(
        &self,
        hop: Hop,
        patience: Duration,
    ) -> Result<v1::ListSinksResponse, AskError> {
        let course = Course::begin(patience);
        loop {
            let Some(mut leader) = self.find(hop, &course).await? else {
                let sinks = self.here.list();
                return Ok(v1::ListSinksResponse {
                    sinks: sinks.iter().map(wire::status).collect(),
                    node: self.node.to_string(),
                });
            };
            let request = course.request(v1::ListSinksRequest {}, ATTEMPT_MAX);
            let asked = leader.list_sinks(request).await;
            if let Some(answer) = course.answer(asked, "").await? {
                return Ok(answer);
            }
        }
    }

    /// One sink, as the leader sees it.
    pub(super) async fn status(
        &self,
        sink: &str,
        patience: Duration,
    ) -> Result<(v1::SinkStatus, String), AskError> {
        let v1::ListSinksResponse { mut sinks, node } = self.list(Hop::First, patience).await?;
        match sinks.iter().position(|it| it.name == sink) {
            Some(at) => Ok((sinks.swap_remove(at), node)),
            None => Err(AskError::Sinks(SinksError::Unknown {
                name: named(sink).to_owned(),
                known: sinks.into_iter().map(|it| it.name).collect(),
            })),
        }
    }

    /// Goes through the far side of a sink, from the leader.
    pub(super) async fn check(
        &self,
        sink: &str,
        hop: Hop,
        patience: Duration,
    ) -> Result<v1::CheckSinkResponse, AskError> {
        let sink = named(sink);
        let course = Course::begin(patience.min(CHECK_MAX));
        loop {
            let Some(mut leader) = self.find(hop, &course).await? else {
                return self.check_here(sink, &course).await;
            };
            let message = v1::CheckSinkRequest {
                sink: sink.to_owned(),
            };
            let asked = leader
                .check_sink(course.request(message, course.left()))
                .await;
            if let Some(answer) = course.answer(asked, sink).await? {
                return Ok(answer);
            }
        }
    }

    async fn check_here(
        &self,
        sink: &str,
        course: &Course,
    ) -> Result<v1::CheckSinkResponse, AskError> {
        let turn = tokio::time::timeout(course.left(), self.checks.clone().acquire_owned());
        let turn = turn.await.map_err(|_| course.unfinished())?;
        let (here, sink) = (self.here.clone(), sink.to_owned());
        // To its end, also when nobody waits for it any more: what it has made at the far side it also
        // takes away.
        let checking = tokio::spawn(async move {
            let _turn = turn;
            here.check(&sink).await
        });
        let checked = tokio::time::timeout(course.left(), checking).await;
        let checked = checked.map_err(|_| course.unfinished())?;
        // Only a node that ends gives up its tasks.
        let steps = checked.map_err(|_| course.unavailable())??;
        Ok(v1::CheckSinkResponse {
            steps: steps.into_iter().map(wire::step).collect(),
            node: self.node.to_string(),
        })
    }

    /// The way to the leader, once there is one; none if it is this node.
    async fn find(
        &self,
        hop: Hop,
        course: &Course,
    ) -> Result<Option<SinksClient<Channel>>, AskError> {
        loop {
            match (self.leader)() {
                Leader::Here => return Ok(None),
                Leader::There(address) if hop == Hop::First => {
                    if let Some(channel) = self.connect(address) {
                        return Ok(Some(SinksClient::new(channel)));
                    }
                }
                // Whoever asks looks for the leader again, and has the time for it.
                _ if hop == Hop::Last => return Err(course.unavailable()),
                _ => {}
            }
            course.pause().await?;
        }
    }

    /// The connection to an address, made when it is first used; none if it is no address.
    fn connect(&self, address: String) -> Option<Channel> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*connection {
            Some((known, channel)) if *known == address => Some(channel.clone()),
            _ => {
                let channel = channel(&address).ok()?;
                *connection = Some((address, channel.clone()));
                Some(channel)
            }
        }
    }
}

/// What is told back of a name that may be anything.
pub(super) fn named(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// One deadline for a question, however many nodes it takes.
struct Course {
    began: Instant,
    patience: Duration,
}

impl Course {
    fn begin(patience: Duration) -> Self {
        Self {
            began: Instant::now(),
            patience,
        }
    }

    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.began.elapsed())
    }

    /// A message to the leader, which is told how long it may take.
    fn request<M>(&self, message: M, longest: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.left().min(longest));
        let yes = tonic::metadata::MetadataValue::from_static("1");
        request.metadata_mut().insert(FORWARDED_KEY, yes);
        request
    }

    /// What the leader said about a sink; none if another try may get an answer.
    async fn answer<A>(
        &self,
        asked: Result<tonic::Response<A>, Status>,
        sink: &str,
    ) -> Result<Option<A>, AskError> {
        let status = match asked {
            Ok(answer) => return Ok(Some(answer.into_inner())),
            Err(status) => status,
        };
        match said(&status, CODE_KEY) {
            Some("unknown_sink") => Err(AskError::Sinks(SinksError::Unknown {
                name: sink.to_owned(),
                known: known(&status),
            })),
            Some("sink_check_timeout") => Err(self.unfinished()),
            _ => {
                tracing::debug!(%status, "the leader did not answer about its sinks");
                self.pause().await.map(|()| None)
            }
        }
    }

    /// Waits a little, unless the time is over.
    async fn pause(&self) -> Result<(), AskError> {
        if self.left() <= PAUSE {
            return Err(self.unavailable());
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    fn unavailable(&self) -> AskError {
        let waited = self.began.elapsed();
        AskError::Sinks(SinksError::Service(ServiceError::Unavailable { waited }))
    }

    fn unfinished(&self) -> AskError {
        let waited = self.began.elapsed();
        AskError::Unfinished { waited }
    }
}

fn said<'a>(status: &'a Status, key: &str) -> Option<&'a str> {
    status.metadata().get(key)?.to_str().ok()
}

fn known(status: &Status) -> Vec<String> {
    let names = said(status, KNOWN_KEY).unwrap_or_default();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
