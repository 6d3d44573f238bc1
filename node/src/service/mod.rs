//! The use cases of a node: write, read, list, watch, define, report status.
//!
//! HTTP and gRPC parse a request, call [`Service`] and encode the answer; everything between is here.
//!
//! - **Writes.** [`Service::execute`] gives a command to the [`Router`]. On the leader it is proposed;
//!   on any other node it is forwarded to the leader, and sent again when leadership moves. The
//!   `sequencer` numbers each request (session, sequence, lowest unanswered sequence), so that a
//!   request that is sent twice is executed once.
//! - **Reads.** [`Service::view`] returns the whole state at one moment, as a cheap clone. A
//!   linearizable view first confirms the leader's read point and waits until this node has applied
//!   it; a stale view is what this node has applied. Each answer is read from one [`View`], so that all of its
//!   parts belong to one revision.
//! - **Watches.** [`Watch`] follows the applied events from an [`EventCursor`], and ends with an error
//!   when events it has not returned are no longer kept.
//! - **Backups.** [`Service::backup`] streams the state of one log index as a file.
//! - **Maintenance.** `housekeeping` runs on the leader: it proposes timeouts that are due.
//!
//! Guarantees: a request is executed at most once; an error says whether it may have been executed
//! ([`ServiceError`]); a linearizable read sees every write acknowledged before it. Not here: request
//! formats, status codes and admission limits, which belong to HTTP and gRPC; consensus and storage, which
//! are `lockstep-raft`.

mod backup;
mod definitions;
mod error;
mod housekeeping;
mod invalid;
mod lists;
#[cfg(test)]
mod lone;
pub(crate) mod peers;
mod pictures;
mod reads;
mod router;
mod sequencer;
mod view;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lockstep_machine::{
    Command, EventCursor, EventFilter, FeatureLevel, IdempotencyKey, Outcome, Reply, State,
    Timestamp,
};

use crate::lifecycle::{Lifecycle, Phase};
pub(crate) use definitions::{DefineError, Document, Language};
pub use error::{Distrust, ServiceError};
pub use housekeeping::maintain;
pub(crate) use invalid::Invalid;
pub(crate) use lists::{LIMIT_MAX, Listed, PageAsked, PageQuery, page_limit};
use lockstep_raft::Deadline;
pub(crate) use lockstep_raft::consensus::Role;
use lockstep_raft::consensus::network::ClusterTag;
pub(crate) use lockstep_raft::consensus::{Member, MemberStatus, Standing};
use lockstep_raft::consensus::{NodeId, Runtime, SharedState};
use lockstep_raft::store::Storage;
use parking_lot::Mutex;
pub(crate) use pictures::{Depicted, PictureError, PictureFormat};
pub(crate) use reads::{Consistency, Freshness};
pub use router::{ForwardObserver, Peers, Router};
use tokio::sync::Semaphore;
pub(crate) use view::View;
pub(crate) use watch::{EventId, Watch, WatchAsked, WatchEnded, WatchError, WatchFrom, Watched};

/// Cluster time that is this much ahead of a node's clock is reported: timeouts wait until the clock has
/// caught up.
pub(crate) const CLUSTER_TIME_AHEAD_MAX: Duration = Duration::from_secs(5);

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Empty until the node belongs to a cluster.
    pub cluster_id: String,
    pub node: MemberStatus,
    pub standing: Standing,
    /// The cluster's feature level, as this node has applied it.
    pub feature_level: FeatureLevel,
    /// What keeps it below the highest that this node supports.
    pub feature_level_waits_for: Vec<String>,
}

/// The use cases. One per node, shared by the edges.
pub(crate) struct Service {
    core: Arc<dyn Core>,
    cluster: ClusterTag,
    node: MemberStatus,
    lifecycle: Arc<Lifecycle>,
    /// One permit for each backup that is sent at the same time.
    backups: Arc<Semaphore>,
    level_waits_for: Mutex<Vec<String>>,
    /// Why the state must not be shown; `None` if it may.
    distrust: Mutex<Option<Distrust>>,
}

/// The routing core without its type parameters.
#[async_trait]
pub(crate) trait Core: Send + Sync + 'static {
    /// Executes a command once, on whichever node leads.
    async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        timeout: Duration,
    ) -> Result<Reply, ServiceError>;
    /// Waits until this node has applied every write acknowledged before the call.
    async fn confirm(&self, timeout: Duration) -> Result<(), ServiceError>;
    fn standing(&self) -> Standing;
    fn shared(&self) -> &SharedState;
    fn now(&self) -> Timestamp;
}

#[async_trait]
impl<RT: Runtime, S: Storage> Core for Router<RT, S> {
    async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        timeout: Duration,
    ) -> Result<Reply, ServiceError> {
        Router::submit(self, command, key, Deadline::after(timeout)).await
    }

    async fn confirm(&self, timeout: Duration) -> Result<(), ServiceError> {
        Router::confirm(self, Deadline::after(timeout)).await
    }

    fn standing(&self) -> Standing {
        self.consensus().standing()
    }

    fn shared(&self) -> &SharedState {
        self.consensus().state()
    }

    fn now(&self) -> Timestamp {
        self.consensus().now()
    }
}

impl Service {
    pub fn new(
        core: impl Core,
        cluster: ClusterTag,
        node: NodeId,
        member: Member,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        Self {
            core: Arc::new(core),
            cluster,
            node: MemberStatus {
                id: node,
                member,
                voter: false,
                matched_index: None,
                contact: None,
            },
            lifecycle,
            backups: Arc::new(Semaphore::new(1)),
            level_waits_for: Mutex::default(),
            distrust: Mutex::new(None),
        }
    }

    pub fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    pub fn set_level_waits_for(&self, what: Vec<String>) {
        *self.level_waits_for.lock() = what;
    }

    /// Refuses a command that some member could not apply: it would have to stop. This node may lag behind
    /// the cluster's level, and never ahead of it.
    fn check_level(&self, command: &Command) -> Result<(), ServiceError> {
        let needed = command.level();
        if needed == FeatureLevel::FIRST {
            return Ok(());
        }
        let level = self.peek(State::level);
        if needed <= level {
            return Ok(());
        }
        let waits_for = match &self.level_waits_for.lock()[..] {
            [] => "it will rise shortly".to_owned(),
            reasons => reasons.join(", "),
        };
        Err(ServiceError::NotSupportedYet {
            needed,
            level,
            waits_for,
        })
    }

    pub fn set_distrust(&self, distrust: Option<Distrust>) {
        *self.distrust.lock() = distrust;
    }

    /// Fails while this node's state may be wrong.
    pub fn check_trust(&self) -> Result<(), ServiceError> {
        match *self.distrust.lock() {
            None => Ok(()),
            Some(distrust) => Err(ServiceError::StateDiffers { distrust }),
        }
    }

    /// Executes a command at most once: proposes it here or forwards it to the leader, and retries
    /// when leadership moves. A transition that is not allowed is answered with the events that are.
    pub async fn execute(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        deadline: Duration,
    ) -> Result<Reply, ServiceError> {
        self.check_trust()?;
        self.check_level(&command)?;
        let began = Instant::now();
        let mut reply = self.core.submit(command, key, deadline).await?;
        if let Outcome::Rejected(rejection) = &mut reply.outcome
            && !self.peek(|state| state.name_events(rejection))
        {
            // This node lags behind the leader that rejected it. If it cannot catch up in time, the answer
            // names no events.
            let left = deadline.saturating_sub(began.elapsed());
            if self.core.confirm(left).await.is_ok() {
                self.peek(|state| state.name_events(rejection));
            }
        }
        Ok(reply)
    }

    /// Follows the events from a point on. It may lie ahead of what this node has applied, so that a
    /// watch can resume on any node.
    pub async fn watch(
        &self,
        from: WatchFrom,
        filter: EventFilter,
        deadline: Duration,
    ) -> Result<Watch, WatchError> {
        self.check_trust()?;
        if let WatchFrom::After(id) = &from {
            self.check_cluster(id.cluster.as_deref())?;
        }
        let began = Instant::now();
        let left = || deadline.saturating_sub(began.elapsed());
        // On a clone, which is cheap: the walk over all definitions must not block the task that applies.
        let unmatchable = || watch::unmatchable(&filter, &self.peek(State::clone));
        if unmatchable().is_some() {
            // This node may lag behind the definition.
            self.core.confirm(deadline).await?;
            if let Some(error) = unmatchable() {
                return Err(error);
            }
        }
        let stale = Consistency::Stale;
        let cursor = match from {
            WatchFrom::After(EventId { cursor, .. }) => {
                let revision = cursor.revision;
                self.reached(revision, revision, stale, left()).await?;
                cursor
            }
            WatchFrom::Revision(first) => {
                let cursor = EventCursor::before(first);
                self.reached(cursor.revision, first, stale, left()).await?;
                cursor
            }
            WatchFrom::Now => {
                self.core.confirm(left()).await?;
                EventCursor::after(self.core.shared().read().state.revision())
            }
        };
        Ok(Watch::new(self.core.shared().clone(), cursor, filter))
    }

    /// Fails when a watch continues one of another cluster.
    pub fn check_cluster(&self, asked: Option<&str>) -> Result<(), WatchError> {
        let own = self.cluster_id();
        match asked {
            Some(asked) if asked != own => Err(WatchError::AnotherCluster {
                asked: asked.to_owned(),
                own,
                reached: self.peek(State::revision),
            }),
            _ => Ok(()),
        }
    }

    /// The id of the cluster; empty until the node has joined one.
    pub fn cluster_id(&self) -> String {
        self.cluster.load().as_deref().cloned().unwrap_or_default()
    }

    /// How far cluster time is ahead of this node's clock. Timeouts wait until the leader's clock has
    /// caught up.
    pub fn cluster_time_ahead(&self) -> Duration {
        let cluster = self.peek(State::now);
        Duration::from_millis(cluster.0.saturating_sub(self.core.now().0))
    }

    pub fn status(&self) -> Status {
        let standing = self.core.standing();
        let mut node = self.node.clone();
        node.voter = standing
            .members
            .iter()
            .any(|it| it.id == node.id && it.voter);
        Status {
            cluster_id: self.cluster_id(),
            node,
            standing,
            feature_level: self.peek(State::level),
            feature_level_waits_for: self.level_waits_for.lock().clone(),
        }
    }

    /// The hash of the whole state and the log index it belongs to. Runs off the runtime's threads.
    pub async fn state_hash(&self) -> (u64, String) {
        let applied = self.core.shared().read().clone();
        let index = applied.index();
        let hash = tokio::task::spawn_blocking(move || applied.state.hash().to_string()).await;
        // The task is never cancelled, and a panic ends the process.
        (index, hash.unwrap_or_default())
    }

    /// Whether this node can serve a linearizable read now and is not lagging.
    pub async fn ready(&self, deadline: Duration) -> Result<(), ServiceError> {
        if self.lifecycle.phase() != Phase::Serving {
            return Err(ServiceError::not_ready(&self.lifecycle));
        }
        self.check_trust()?;
        self.core.confirm(deadline).await
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{Create, EventName, InstanceId, Transition, Trigger};

    use super::*;

    #[tokio::test]
    async fn a_transition_that_is_not_allowed_is_answered_with_the_events_that_are() {
        let service = Service::lone(lockstep_machine::Limits::default());
        let timeout = Duration::from_secs(5);
        let text = r#"{
            "name": "door", "initial": "shut", "states": {"shut": {}, "open": {}},
            "transitions": [
                {"from": "shut", "to": "open", "event": "open"},
                {"from": "*", "to": "shut", "event": "close"}
            ]}"#;
        let document = Document {
            language: Language::Json,
            text,
        };
        service
            .define(document, false, None, timeout)
            .await
            .unwrap();
        let door: InstanceId = "door/1".parse().unwrap();
        let create = Create {
            instance: door.clone(),
            version: None,
            metadata: lockstep_machine::Metadata::default(),
        };
        let create = Command::Create(create);
        service.execute(create, None, timeout).await.unwrap();
        let knock = Trigger::Event(EventName::new("knock").unwrap());
        let knock = Command::Transition(Transition::new(door, knock));
        let reply = service.execute(knock, None, timeout).await.unwrap();
        let Outcome::Rejected(rejection) = reply.outcome else {
            panic!("{reply:?}");
        };
        assert!(
            rejection
                .to_string()
                .ends_with("; allowed events: close, open")
        );
        let events: Vec<_> = rejection
            .events()
            .unwrap()
            .iter()
            .map(|it| it.as_str())
            .collect();
        assert_eq!(events, ["close", "open"]);
    }
}
