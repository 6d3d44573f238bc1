//! The use cases: propose, read, watch, administer. The only thing the edges call.

mod definitions;
mod housekeeping;
mod invalid;
pub(crate) mod json;
mod lists;
#[cfg(test)]
mod lone;
pub mod peers;
mod pictures;
pub mod router;
mod sequencer;
mod view;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lockstep_machine::{
    Command, EventCursor, EventFilter, GlobalRevision, IdempotencyKey, Instance, InstanceId, Reply,
    State, StateName, Transition,
};

pub use crate::consensus::Role;
use crate::consensus::network::ClusterTag;
use crate::consensus::{Runtime, SharedState, Standing};
use crate::store::Storage;
pub use definitions::{DefineError, Document, Language};
pub use housekeeping::keep_house;
pub use invalid::Invalid;
pub use lists::{Listed, PageAsked, PageQuery};
pub use pictures::{Depicted, Picture, PictureError, PictureFormat};
pub use router::{ForwardObserver, Peers, Router};
pub use view::View;
pub use watch::{Watch, WatchAsked, WatchEnded, Watched, from_revision};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// What this node has applied.
    Stale,
}

/// Why a request got no answer from the state machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No leader was found in time. Nothing was executed.
    #[error("the cluster has no leader that this node can reach; nothing was executed; waited {} ms", waited.as_millis())]
    Unavailable {
        /// How long was tried.
        waited: Duration,
    },
    /// The deadline passed after the request may have been sent on.
    #[error("no answer within {} ms: the request may or may not have been executed; repeat it with the same idempotency key to find out", waited.as_millis())]
    OutcomeUnknown {
        /// How long was waited.
        waited: Duration,
    },
    /// Too many requests are waiting. Nothing was executed.
    #[error("too many requests are waiting; nothing was executed; try again in a moment")]
    Overloaded,
    /// This node did not get to the revision that the caller asked for in time.
    #[error("this node is at revision {reached}, not yet at {asked}; waited {} ms", waited.as_millis())]
    Behind {
        /// What the caller asked for.
        asked: GlobalRevision,
        /// Where this node is.
        reached: GlobalRevision,
        /// How long was waited.
        waited: Duration,
    },
    /// The cluster itself has not got to the revision that the caller asked for: no write of it was
    /// answered with that revision.
    #[error(
        "the cluster is at revision {reached}, and has not got to {asked}: no write was answered with that yet"
    )]
    RevisionAhead {
        /// What the caller asked for.
        asked: GlobalRevision,
        /// Where the cluster was.
        reached: GlobalRevision,
    },
    /// The node is stopping or has not caught up with its own past yet. Nothing was executed.
    #[error("this node is not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
}

impl ServiceError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ServiceError::Unavailable { .. } => "unavailable",
            ServiceError::OutcomeUnknown { .. } => "outcome_unknown",
            ServiceError::Overloaded => "overloaded",
            ServiceError::Behind { .. } => "behind",
            ServiceError::RevisionAhead { .. } => "revision_ahead",
            ServiceError::NotReady { .. } => "not_ready",
        }
    }

    /// When to try again, where that makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ServiceError::OutcomeUnknown { .. } | ServiceError::RevisionAhead { .. } => None,
            ServiceError::Overloaded => Some(Duration::from_millis(100)),
            ServiceError::Behind { .. } => Some(Duration::from_millis(100)),
            ServiceError::Unavailable { .. } | ServiceError::NotReady { .. } => {
                Some(Duration::from_secs(1))
            }
        }
    }
}

/// An instance as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// The instance.
    pub instance: Instance,
    /// Where it may go from here.
    pub allowed: Vec<StateName>,
}

/// A read's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReply {
    /// The instance, if there is one.
    pub view: Option<InstanceView>,
    /// The last log index this node had applied.
    pub applied_index: u64,
}

/// How a read wants the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// How fresh it must be.
    pub consistency: Consistency,
    /// At this revision of the cluster or later: what a write's answer named, to read one's own
    /// writes on any node.
    pub min_revision: Option<GlobalRevision>,
}

/// A member of the cluster, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Node id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// `host:port`.
    pub grpc_address: String,
    /// `host:port`.
    pub http_address: String,
    /// Whether it votes.
    pub voter: bool,
    /// How far its log is known to match; only a leader knows.
    pub matched_index: Option<u64>,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Empty until the node belongs to a cluster.
    pub cluster_id: String,
    /// This node.
    pub node: MemberStatus,
    /// Its role.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// The leader it knows.
    pub leader_id: Option<u64>,
    /// Every member, in order of name.
    pub members: Vec<MemberStatus>,
    /// The first log index still kept; 0 for none.
    pub log_first_index: u64,
    /// The last log index; 0 for none.
    pub log_last_index: u64,
    /// Known to be committed; 0 for none.
    pub committed_index: u64,
    /// Applied here; 0 for none.
    pub applied_index: u64,
    /// Covered by the current snapshot; 0 for none.
    pub snapshot_index: u64,
}

/// What the edges call. One per node, shared.
pub struct Service {
    core: Arc<dyn Core>,
    cluster: ClusterTag,
    node: MemberStatus,
    phase: AtomicU8,
    outvoted: AtomicBool,
}

/// Where the node is in its life, as far as requests care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Has not yet applied again what it knew before it stopped, or belongs to no cluster.
    Recovering = 0,
    /// Serves.
    Serving = 1,
    /// Is stopping: serves what comes, but says that it is not ready.
    Stopping = 2,
}

/// The routing core without its type parameters.
#[async_trait]
trait Core: Send + Sync + 'static {
    async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        patience: Duration,
    ) -> Result<Reply, ServiceError>;
    async fn read(
        &self,
        id: &InstanceId,
        consistency: Consistency,
        patience: Duration,
    ) -> Result<ReadReply, ServiceError>;
    async fn confirm(&self, patience: Duration) -> Result<(), ServiceError>;
    fn standing(&self) -> Standing;
    fn shared(&self) -> &SharedState;
}

#[async_trait]
impl<RT: Runtime, S: Storage> Core for Router<RT, S> {
    async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        patience: Duration,
    ) -> Result<Reply, ServiceError> {
        Router::submit(self, command, key, patience).await
    }

    async fn read(
        &self,
        id: &InstanceId,
        consistency: Consistency,
        patience: Duration,
    ) -> Result<ReadReply, ServiceError> {
        Router::read(self, id, consistency, patience).await
    }

    async fn confirm(&self, patience: Duration) -> Result<(), ServiceError> {
        Router::confirm(self, patience).await
    }

    fn standing(&self) -> Standing {
        self.consensus().standing()
    }

    fn shared(&self) -> &SharedState {
        self.consensus().state()
    }
}

impl Service {
    /// The service of one node, described by `node`.
    pub fn new<RT: Runtime, S: Storage>(
        router: Router<RT, S>,
        cluster: ClusterTag,
        node: MemberStatus,
    ) -> Self {
        Self {
            core: Arc::new(router),
            cluster,
            node,
            phase: AtomicU8::new(Phase::Recovering as u8),
            outvoted: AtomicBool::new(false),
        }
    }

    /// Says where the node is in its life.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Says whether this node's state differs from that of most members.
    pub fn set_outvoted(&self, outvoted: bool) {
        self.outvoted.store(outvoted, Ordering::Relaxed);
    }

    fn recovering(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Recovering as u8
    }

    fn not_recovered() -> ServiceError {
        let reason =
            "it has not yet caught up with what it knew before, or belongs to no cluster yet";
        ServiceError::NotReady {
            reason: reason.to_owned(),
        }
    }

    /// Executes a command, from whichever node this is: forwards to the leader, retries on a new
    /// one, executes at most once.
    pub async fn execute(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        deadline: Duration,
    ) -> Result<Reply, ServiceError> {
        self.core.submit(command, key, deadline).await
    }

    /// The state, as fresh as asked for. A stale read is refused until the node is where it was
    /// before it stopped.
    pub async fn view(
        &self,
        freshness: Freshness,
        deadline: Duration,
    ) -> Result<View, ServiceError> {
        match freshness.consistency {
            Consistency::Linearizable => self.core.confirm(deadline).await?,
            Consistency::Stale if self.recovering() => return Err(Self::not_recovered()),
            Consistency::Stale => {}
        }
        if let Some(asked) = freshness.min_revision {
            self.reached(asked, freshness.consistency, deadline).await?;
        }
        let applied = self.core.shared().read();
        Ok(View {
            state: applied.state.clone(),
            applied_index: applied.index(),
        })
    }

    /// Looks at what this node has applied. `look` holds up whoever applies: it must be short.
    pub fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.core.shared().read().state)
    }

    /// Follows the last log index applied here.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.core.shared().changes()
    }

    /// Waits until this node has applied every write acknowledged before the call; on a leader, this
    /// also confirms that it still is the leader.
    pub async fn confirm(&self, deadline: Duration) -> Result<(), ServiceError> {
        self.core.confirm(deadline).await
    }

    /// Makes sure that this node has applied a revision. Where it has not, the leader's word on what
    /// is committed tells a node that lags from a revision that nobody was ever given.
    async fn reached(
        &self,
        asked: GlobalRevision,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<(), ServiceError> {
        let revision = || self.core.shared().read().state.revision();
        if revision() >= asked {
            return Ok(());
        }
        let began = Instant::now();
        // A linearizable read has the leader's word already.
        if consistency == Consistency::Stale && self.core.confirm(deadline).await.is_err() {
            let (reached, waited) = (revision(), began.elapsed());
            return Err(ServiceError::Behind {
                asked,
                reached,
                waited,
            });
        }
        let reached = revision();
        if reached >= asked {
            Ok(())
        } else {
            Err(ServiceError::RevisionAhead { asked, reached })
        }
    }

    /// Follows the events behind `from`; without it, what happens from now on. `from` may lie ahead
    /// of what this node has applied, so that a watch can be resumed on any node.
    pub async fn watch(
        &self,
        from: Option<EventCursor>,
        filter: EventFilter,
        deadline: Duration,
    ) -> Result<Watch, ServiceError> {
        let cursor = match from {
            Some(cursor) => cursor,
            None => {
                self.core.confirm(deadline).await?;
                EventCursor::after(self.core.shared().read().state.revision())
            }
        };
        Ok(Watch::new(self.core.shared().clone(), cursor, filter))
    }

    /// Moves an instance: [`execute`](Self::execute) for the most frequent command.
    pub async fn transition(
        &self,
        transition: Transition,
        key: Option<IdempotencyKey>,
        deadline: Duration,
    ) -> Result<Reply, ServiceError> {
        self.core
            .submit(Command::Transition(transition), key, deadline)
            .await
    }

    /// Reads an instance. A stale read is refused until the node is where it was before it stopped.
    pub async fn instance(
        &self,
        id: InstanceId,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<ReadReply, ServiceError> {
        if consistency == Consistency::Stale && self.recovering() {
            return Err(Self::not_recovered());
        }
        self.core.read(&id, consistency, deadline).await
    }

    /// The cluster as this node sees it.
    pub fn status(&self) -> Status {
        let standing = self.core.standing();
        let mut members: Vec<MemberStatus> = standing
            .members
            .into_iter()
            .map(|(id, (member, voter, matched_index))| MemberStatus {
                id,
                name: member.name,
                grpc_address: member.grpc_address,
                http_address: member.http_address,
                voter,
                matched_index,
            })
            .collect();
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let voter = members.iter().any(|m| m.id == self.node.id && m.voter);
        Status {
            cluster_id: self.cluster.load().as_deref().cloned().unwrap_or_default(),
            node: MemberStatus {
                voter,
                ..self.node.clone()
            },
            role: standing.role,
            term: standing.term,
            leader_id: standing.leader.map(|(id, _)| id),
            members,
            log_first_index: standing.log_first_index,
            log_last_index: standing.log_last_index,
            committed_index: standing.committed_index,
            applied_index: standing.applied_index,
            snapshot_index: standing.snapshot_index,
        }
    }

    /// The hash over the whole state, with the log index it was taken at. Off the runtime's threads.
    pub async fn state_hash(&self) -> (u64, String) {
        let applied = self.core.shared().read().clone();
        let index = applied.index();
        let hash = tokio::task::spawn_blocking(move || applied.state.hash().to_string()).await;
        // The task is never cancelled, and a panic ends the process.
        (index, hash.unwrap_or_default())
    }

    /// Whether this node can serve a linearizable read now and is not lagging.
    pub async fn ready(&self, deadline: Duration) -> Result<(), ServiceError> {
        if self.phase.load(Ordering::Acquire) == Phase::Stopping as u8 {
            return Err(ServiceError::NotReady {
                reason: "it is stopping".to_owned(),
            });
        }
        if self.recovering() {
            return Err(Self::not_recovered());
        }
        if self.outvoted.load(Ordering::Relaxed) {
            return Err(ServiceError::NotReady {
                reason: "its state differs from that of most members".to_owned(),
            });
        }
        self.core.confirm(deadline).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_revision_that_the_cluster_has_not_got_to_is_refused_at_once() {
        let service = Service::lone(lockstep_machine::Limits::default());
        for consistency in [Consistency::Linearizable, Consistency::Stale] {
            let at = |revision| Freshness {
                consistency,
                min_revision: Some(GlobalRevision(revision)),
            };
            // An hour: nothing may be waited for.
            let patience = Duration::from_secs(3600);
            assert!(service.view(at(0), patience).await.is_ok());
            let refused = service.view(at(1), patience).await.err();
            let (asked, reached) = (GlobalRevision(1), GlobalRevision(0));
            let expected = ServiceError::RevisionAhead { asked, reached };
            assert_eq!(refused, Some(expected));
        }
    }
}
