//! A node's Raft instance: start, propose, confirm reads, observe, stop.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derive_where::derive_where;
use lockstep_machine::{EncodedBatch, EncodedRequest, Reply, Timestamp};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::raft::linearizable_read::{Linearizer, ReadLogId};
use openraft::{
    Config, Instant as _, Raft, RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy,
    StepDownPolicy,
};
use parking_lot::Mutex;

use super::batcher::{BatchLimits, Batcher, Confirm, ProposeError, ProposeResult};
use super::log::LogStore;
use super::state_machine::{Observer, SharedState, StateMachine};
use super::types::{LogId, Member, MemberStatus, NodeId, Payload, Runtime, Types};
use crate::Deadline;
use crate::store::Storage;

/// Reads the wall clock. The state machine keeps its time monotonic, whatever this does.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Settings of consensus.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Interval between a leader's heartbeats.
    pub heartbeat: Duration,
    /// Minimum election timeout.
    pub election_timeout_min: Duration,
    /// Maximum election timeout; also the length of the lease in which a follower that heard from the leader
    /// votes for no other node. No read relies on the lease.
    pub election_timeout_max: Duration,
    /// Snapshot after this many log entries.
    pub snapshot_entries: u64,
    /// Number of log entries kept although a snapshot covers them.
    pub log_keep_entries: u64,
    /// Approximate number of bytes of the log kept in memory.
    pub log_cache_bytes: usize,
    /// How requests are batched into log entries.
    pub batch: BatchLimits,
}

impl Settings {
    /// openraft's configuration, including the options that avoid defects of the pinned version.
    pub fn raft_config(&self) -> Result<Config, ConsensusError> {
        let millis = |d: Duration| d.as_millis() as u64;
        Config {
            cluster_name: "lockstep".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_timeout_min),
            election_timeout_max: millis(self.election_timeout_max),
            enable_pre_vote: Some(true),
            // By default, a restarted leader resumes its term, and may assign the same log id twice.
            enable_leader_restore: Some(false),
            // Otherwise a leader that can send but not receive would keep its followers forever.
            quorum_loss_probe_interval: Some((millis(self.election_timeout_max) * 2).max(1000)),
            removed_leader_step_down: StepDownPolicy::After(500),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            // Installing a snapshot on a busy follower can panic: keep enough log that live followers need none.
            max_in_snapshot_log_to_keep: self.log_keep_entries,
            purge_batch_size: 4096.min(self.log_keep_entries.max(1)),
            replication_lag_threshold: 10_000,
            // Covers sending and installing; the default of 200 ms is too short for either.
            install_snapshot_timeout: 60_000,
            max_payload_entries: 1024,
            api_channel_size: Some(4096),
            ..Config::default()
        }
        .validate()
        .map_err(|e| ConsensusError::Settings(e.to_string()))
    }
}

/// Why consensus could not start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The settings contradict each other.
    #[error("the raft settings are not usable: {0}")]
    Settings(String),
    /// The disk could not be read or written.
    #[error("storage failed: {0}")]
    Storage(#[from] io::Error),
    /// The consensus core stopped or failed: the process must end.
    #[error("the consensus core ended: {0}")]
    Core(String),
}

fn core_ended(error: impl ToString) -> ConsensusError {
    ConsensusError::Core(error.to_string())
}

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Receives the log without a vote, or does not belong to a cluster yet.
    #[default]
    Learner,
}

impl Role {
    /// The name in lower case, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
    }
}

/// A node's view of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// This node.
    pub node_id: NodeId,
    /// The current term.
    pub term: u64,
    /// Whether it leads, follows, stands for election, or only learns.
    pub role: Role,
    /// The leader it knows, and how to reach it.
    pub leader: Option<(NodeId, Member)>,
    /// How long ago it last heard from that leader; as leader, how long ago a quorum last answered it.
    pub leader_contact: Option<Duration>,
    /// Every member, in order of name.
    pub members: Vec<MemberStatus>,
    /// The first log index kept; 0 for none.
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

/// A log index that a linearizable read must have applied, and the leader that confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPoint {
    /// The leader that confirmed it.
    pub leader: NodeId,
    /// The position.
    pub log_id: LogId,
}

impl ReadPoint {
    /// The position (`term`, `index`), vouched for by `leader` after the read began.
    pub fn new(leader: NodeId, term: u64, index: u64) -> Self {
        Self {
            leader,
            log_id: LogId::new_term_index(term, index),
        }
    }
}

/// One node's Raft instance. Cheap to clone.
#[derive_where(Clone)]
pub struct Consensus<RT: Runtime, S: Storage> {
    /// openraft itself, for the servers that hand it what peers send.
    pub raft: Raft<Types<RT>, StateMachine<S>>,
    log: LogStore<S>,
    shared: SharedState,
    proposals: Batcher<EncodedRequest, Reply>,
    /// Set while the disk is nearly full and proposals are rejected.
    disk_full: Arc<AtomicBool>,
    reads: Batcher<Confirm, ReadPoint>,
    clock: Clock,
    /// When this node last accepted entries or a heartbeat.
    heard: Arc<Mutex<Option<RT::Instant>>>,
}

impl<RT: Runtime, S: Storage> Consensus<RT, S> {
    /// Opens the log and the state on `storage` and prepares the core. Nothing is sent and no vote
    /// is cast before [`run`](Self::run): serve peers first.
    ///
    /// `config` is [`Settings::raft_config`]; the simulation removes workarounds from it, to check that it
    /// detects the defect.
    pub async fn open<N>(
        node_id: NodeId,
        config: Config,
        settings: &Settings,
        storage: S,
        network: N,
        clock: Clock,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ConsensusError>
    where
        N: openraft::RaftNetworkFactory<Types<RT>>,
        N::Network: openraft::network::NetSnapshot<Types<RT>, SnapshotData = S::Snapshot>,
    {
        let log = LogStore::open(storage.clone(), settings.log_cache_bytes).await?;
        let (machine, shared) = StateMachine::open(storage, observer.clone()).await?;
        let raft = Raft::build(node_id, Arc::new(config), network, log.clone(), machine)
            .await
            .map_err(core_ended)?;
        let proposals = {
            let (raft, clock) = (raft.clone(), clock.clone());
            Batcher::start::<RT, _, _>(settings.batch, move |requests| {
                append(raft.clone(), clock.clone(), observer.clone(), requests)
            })
        };
        let reads = {
            let raft = raft.clone();
            Batcher::share::<RT, _, _>(settings.batch.queue_max, move || read_point(raft.clone()))
        };
        Ok(Self {
            raft,
            log,
            shared,
            proposals,
            disk_full: Arc::default(),
            reads,
            clock,
            heard: Arc::default(),
        })
    }

    /// Starts participating in the cluster.
    pub fn run(&self) {
        self.raft.run();
    }

    /// Whether this node has ever belonged to a cluster.
    pub async fn is_initialized(&self) -> Result<bool, ConsensusError> {
        self.raft.is_initialized().await.map_err(core_ended)
    }

    /// Makes these the first members. Every member may call it, with the same members; on a node
    /// that has a log already it does nothing.
    pub async fn initialize(
        &self,
        members: BTreeMap<NodeId, Member>,
    ) -> Result<(), ConsensusError> {
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(e) => Err(core_ended(e)),
        }
    }

    /// Proposes a request, if this node leads, and returns its reply once it is committed and applied.
    /// May wait forever while the leader has no quorum: set a timeout.
    pub async fn propose(&self, request: EncodedRequest) -> ProposeResult {
        if self.disk_full.load(Ordering::Relaxed) && self.leads() {
            return Err(ProposeError::DiskFull);
        }
        self.proposals.submit(request).await
    }

    /// Sets whether proposals are rejected while this node leads.
    pub fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    /// Notes that a leader was heard just now.
    pub(super) fn hear(&self) {
        *self.heard.lock() = Some(RT::Instant::now());
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader == Some(self.node_id())
    }

    /// On the leader: a position that a linearizable read starting now must have applied. Reads that
    /// wait at the same time share one confirmation by a quorum.
    pub async fn read_point(&self) -> Result<ReadPoint, ProposeError> {
        self.reads.submit(Confirm).await
    }

    /// Waits until this node has applied `point`; `false` if the deadline passes first.
    pub async fn await_applied(
        &self,
        point: ReadPoint,
        deadline: Deadline<RT>,
    ) -> Result<bool, ConsensusError> {
        let linearizer =
            Linearizer::<Types<RT>>::new(point.leader, ReadLogId::from_log_id(point.log_id), None);
        let timeout = Some(deadline.left());
        let ready = linearizer.try_await_ready(&self.raft, timeout).await;
        Ok(ready.map_err(core_ended)?.is_ok())
    }

    /// This node's clock now, as it would stamp a proposal.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The applied state.
    pub fn state(&self) -> &SharedState {
        &self.shared
    }

    /// Where this node stands now.
    pub fn standing(&self) -> Standing {
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let matched = |id: &NodeId| {
            metrics
                .replication
                .as_ref()
                .and_then(|peers| peers.get(id))
                .map(|matched| index(*matched))
        };
        let mut members: Vec<MemberStatus> = membership
            .nodes()
            .map(|(id, member)| MemberStatus {
                id: *id,
                member: member.clone(),
                voter: voters.contains(id),
                matched_index: matched(id),
            })
            .collect();
        members.sort_by(|a, b| (&a.member.name, a.id).cmp(&(&b.member.name, b.id)));
        let (log_first_index, log_last_index) = self.log.extent();
        Standing {
            node_id: metrics.id,
            term: metrics.current_term,
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Learner | ServerState::Shutdown => Role::Learner,
            },
            leader: leader(&metrics),
            leader_contact: self.contact(&metrics),
            members,
            log_first_index,
            log_last_index,
            committed_index: index(metrics.local_committed),
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
        }
    }

    /// The leader as this node knows it: cheaper than [`standing`](Self::standing).
    pub fn leader(&self) -> Option<(NodeId, Member)> {
        leader(&self.raft.metrics().borrow_watched())
    }

    /// [`Standing::leader_contact`]: cheaper than [`standing`](Self::standing).
    pub fn leader_contact(&self) -> Option<Duration> {
        self.contact(&self.raft.metrics().borrow_watched())
    }

    fn contact(&self, metrics: &RaftMetrics<Types<RT>>) -> Option<Duration> {
        let voters = metrics.membership_config.membership().voter_ids();
        match metrics.state {
            // Without peers, it is a quorum by itself.
            ServerState::Leader if voters.count() == 1 => Some(Duration::ZERO),
            ServerState::Leader => metrics.last_quorum_acked.map(|at| at.elapsed()),
            _ => leader(metrics)
                .and(*self.heard.lock())
                .map(|at| at.elapsed()),
        }
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        *self.raft.node_id()
    }

    /// Calls `look` immediately and after every change of this node's view of the cluster, until the core ends;
    /// returns why it ended.
    pub async fn watch(&self, mut look: impl FnMut(&Standing) + Send) -> ConsensusError {
        let mut metrics = self.raft.metrics();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            look(&self.standing());
            if let Err(fatal) = running {
                return core_ended(fatal);
            }
            if metrics.changed().await.is_err() {
                return core_ended("it is gone");
            }
        }
    }

    /// Waits until this node has applied again what it knew to be committed before it stopped.
    pub async fn recovered(&self, timeout: Duration) -> bool {
        self.raft.wait_for_recovery(Some(timeout)).await.is_ok()
    }

    /// Transfers leadership to the voter whose log matches furthest, if this node leads. Returns
    /// whether another node leads, after `timeout` at most.
    pub async fn hand_over(&self, timeout: Duration) -> bool {
        let standing = self.standing();
        if standing.role != Role::Leader {
            return true;
        }
        let me = standing.node_id;
        let successor = standing
            .members
            .iter()
            .filter(|it| it.voter && it.id != me)
            .max_by_key(|it| it.matched_index);
        let Some(successor) = successor else {
            return false;
        };
        let trigger = self.raft.trigger();
        if trigger.transfer_leader(successor.id).await.is_err() {
            return false;
        }
        self.raft
            .wait(Some(timeout))
            .metrics(
                |m| m.current_leader.is_some_and(|l| l != me),
                "another node leads",
            )
            .await
            .is_ok()
    }

    /// Stops the Raft instance.
    pub async fn shutdown(&self) {
        // It fails only if the core has already ended.
        drop(self.raft.shutdown().await);
    }
}

/// The leader that the node of these metrics knows, and how to reach it.
fn leader<RT: Runtime>(metrics: &RaftMetrics<Types<RT>>) -> Option<(NodeId, Member)> {
    let id = metrics.current_leader?;
    let membership = metrics.membership_config.membership();
    Some((id, membership.get_node(&id)?.clone()))
}

/// Puts a batch of requests into one log entry, and waits until it is applied.
async fn append<RT: Runtime, S: Storage>(
    raft: Raft<Types<RT>, StateMachine<S>>,
    clock: Clock,
    observer: Arc<dyn Observer>,
    requests: Vec<EncodedRequest>,
) -> Vec<ProposeResult> {
    let count = requests.len();
    let mut batch = EncodedBatch::new(clock());
    for EncodedRequest { origin, body } in &requests {
        batch.push(*origin, body);
    }
    let payload = Payload(batch.into_bytes());
    observer.pending(count as i64);
    let written = raft.client_write(payload).await;
    observer.pending(-(count as i64));
    let error = match written {
        Ok(written) => {
            observer.proposed(count);
            return written.data.0.into_iter().map(Ok).collect();
        }
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            ProposeError::NotLeader {
                leader: forward.leader_id,
            }
        }
        // A new leader discarded it, or the core failed: whether it will be committed is unknown here.
        Err(_) => ProposeError::Unknown,
    };
    observer.proposal_failed(error.name());
    vec![Err(error); count]
}

/// Asks a quorum whether this node still leads.
async fn read_point<RT: Runtime, S: Storage>(
    raft: Raft<Types<RT>, StateMachine<S>>,
) -> Result<ReadPoint, ProposeError> {
    use openraft::errors::LinearizableReadError as E;
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(ReadPoint {
            leader: *raft.node_id(),
            log_id: *linearizer.read_log_id().log_id(),
        }),
        Err(RaftError::APIError(E::ForwardToLeader(forward))) => Err(ProposeError::NotLeader {
            leader: forward.leader_id,
        }),
        Err(_) => Err(ProposeError::NotLeader { leader: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these options avoids a defect of the pinned version: see `docs/decisions`.
    #[test]
    fn the_core_is_configured_with_every_fence() {
        let config = Settings {
            heartbeat: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(200),
            election_timeout_max: Duration::from_millis(400),
            snapshot_entries: 50_000,
            log_keep_entries: 200_000,
            log_cache_bytes: 1 << 20,
            batch: BatchLimits {
                requests_max: 256,
                bytes_max: 512 << 10,
                in_flight_max: 4,
                queue_max: 1024,
            },
        }
        .raft_config()
        .unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.max_in_snapshot_log_to_keep, 200_000);
        assert!(config.install_snapshot_timeout >= 60_000);
        assert!(config.quorum_loss_probe_interval.is_some());
        assert_eq!(config.allow_log_reversion, None);
    }
}
