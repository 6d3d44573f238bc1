//! A node's Raft instance: start, propose, confirm reads, follow, stop.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use derive_where::derive_where;
use lockstep_machine::{EncodedBatch, EncodedRequest, Reply, Timestamp};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::raft::AppendEntriesRequest;
use openraft::storage::RaftLogStorage;
use openraft::{
    Config, EntryPayload, Instant as _, Raft, ReadPolicy, SnapshotPolicy, StepDownPolicy,
};
use parking_lot::Mutex;

use super::addresses::Addresses;
use super::batcher::{BatchLimits, Batcher, Confirm, ProposeError, ProposeResult};
use super::compaction::{CompactionSettings, Compactor};
use super::hand_over::Fitness;
use super::log::LogStore;
use super::room::LogRoom;
use super::standing::Standing;
use super::state_machine::{Observer, SharedState, StateMachine};
use super::types::{LogId, Member, NodeId, Payload, Runtime, Types};
use crate::Deadline;
use crate::store::{Storage, StoreError};

/// The view changes several times with every log entry.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reads the wall clock. The state machine keeps its time monotonic, whatever this does.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a node's consensus uses of its surroundings, beside the disk and the network.
#[derive(Clone)]
pub struct Environment {
    /// The wall clock.
    pub clock: Clock,
    /// Whom to tell what happens.
    pub observer: Arc<dyn Observer>,
    /// Where the members are now.
    pub addresses: Addresses,
    /// Which of the other nodes should not lead.
    pub fitness: Fitness,
}

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
    /// Bounds on the log and the disk.
    pub compaction: CompactionSettings,
    /// Bytes of log kept in memory, about.
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
            // Both are compaction's.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
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
    /// A committed log entry cannot be applied, because a newer build wrote it: the process must end. Says which
    /// entry, why, and what to do.
    #[error("{0}")]
    Apply(String),
    /// The consensus core stopped or failed: the process must end.
    #[error("the consensus core ended: {0}")]
    Core(String),
}

impl ConsensusError {
    /// Names the data folder in which damage was found.
    #[must_use]
    pub fn found_in(self, data_dir: &Path) -> Self {
        match self {
            Self::Storage(error) => Self::Storage(StoreError::found_by_reader(error, data_dir)),
            other => other,
        }
    }
}

fn core_ended(error: impl ToString) -> ConsensusError {
    ConsensusError::Core(error.to_string())
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
    pub(super) log: LogStore<S>,
    shared: SharedState,
    pub(super) storage: S,
    pub(super) compaction: CompactionSettings,
    proposals: Batcher<EncodedRequest, Reply>,
    /// Set while the disk is nearly full and proposals are rejected.
    pub(super) disk_full: Arc<AtomicBool>,
    /// Set while this node's state may be wrong.
    distrusted: Arc<AtomicBool>,
    /// Whether the log may grow.
    pub(super) room: LogRoom,
    reads: Batcher<Confirm, ReadPoint>,
    pub(super) environment: Environment,
    /// When this node last accepted entries or a heartbeat.
    pub(super) heard: Arc<Mutex<Option<RT::Instant>>>,
    /// Held while the membership changes and while the feature level rises: one must see the other.
    pub(super) raising: Arc<tokio::sync::Mutex<()>>,
    /// The highest level that was proposed here; whether it is committed may not be known.
    pub(super) raised_to: Arc<AtomicU32>,
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
        environment: Environment,
    ) -> Result<Self, ConsensusError>
    where
        N: openraft::RaftNetworkFactory<Types<RT>>,
        N::Network: openraft::network::NetSnapshot<Types<RT>, SnapshotData = S::Snapshot>,
    {
        let mut log = LogStore::open(storage.clone(), settings.log_cache_bytes).await?;
        let observer = environment.observer.clone();
        let (machine, shared) = StateMachine::open(storage.clone(), observer.clone()).await?;
        let committed = RaftLogStorage::<Types<RT>>::read_committed(&mut log).await?;
        observer.reapplying(shared.read().index(), committed.map_or(0, |id| id.index));
        let raft = Raft::build(node_id, Arc::new(config), network, log.clone(), machine)
            .await
            .map_err(core_ended)?;
        let room = LogRoom::default();
        let proposals = {
            let (raft, environment, room) = (raft.clone(), environment.clone(), room.clone());
            Batcher::start::<RT, _, _>(settings.batch, move |requests| {
                append(raft.clone(), environment.clone(), room.clone(), requests)
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
            storage,
            compaction: settings.compaction,
            proposals,
            disk_full: Arc::default(),
            distrusted: Arc::default(),
            room,
            reads,
            environment,
            heard: Arc::default(),
            raising: Arc::default(),
            raised_to: Arc::default(),
        })
    }

    /// Starts participating in the cluster.
    pub fn run(&self) {
        self.raft.run();
    }

    /// Whether this node has ever belonged to a cluster.
    pub async fn is_initialized(&self) -> Result<bool, ConsensusError> {
        let initialized = self.raft.is_initialized().await;
        initialized.map_err(|error| self.ended(error))
    }

    /// Makes these the first members. Every member may call it, with the same members; on a node
    /// that has a log already it does nothing.
    pub async fn initialize(
        &self,
        members: BTreeMap<NodeId, Member>,
    ) -> Result<(), ConsensusError> {
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(e) => Err(self.ended(e)),
        }
    }

    /// Why the core ended: what the state machine reported, or else the error of the core.
    fn ended(&self, error: impl ToString) -> ConsensusError {
        match self.shared.failure() {
            Some(reason) => ConsensusError::Apply(reason.to_owned()),
            None => core_ended(error),
        }
    }

    /// Proposes a request, if this node leads, and returns its reply once it is committed and applied.
    /// May wait forever while the leader has no quorum: set a timeout.
    pub async fn propose(&self, request: EncodedRequest) -> ProposeResult {
        if self.disk_full() && self.leads() {
            return Err(ProposeError::DiskFull);
        }
        if self.distrusted() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        self.proposals.submit(request).await
    }

    /// Keeps the log and the disk within bounds. Ends with the core.
    pub async fn compact(&self) {
        Compactor::new(self.clone()).run().await;
    }

    /// Whether proposals are refused for want of disk space while this node leads.
    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    pub(super) fn distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed)
    }

    /// Sets whether this node's state may be wrong: it then answers no request as leader, because its outcomes
    /// may be wrong as well. It stands for election only if `electable`.
    pub fn distrust(&self, distrusted: bool, electable: bool) {
        self.distrusted.store(distrusted, Ordering::Relaxed);
        self.raft.runtime_config().elect(electable);
    }

    /// Whether this node takes what a leader sends: entries only if the log has room, or soon has, except for
    /// the few without which no leader could lead and no member could be replaced.
    pub(super) async fn takes(&self, append: &AppendEntriesRequest<Types<RT>>) -> bool {
        let committed = append.leader_commit.as_ref().map(|id| id.index);
        let term = append.vote.leader_id.term;
        let is_needed = append.entries.iter().any(|entry| {
            // What an earlier leader left uncommitted is bounded, and precedes this leader's first entry.
            let is_open = committed.is_none_or(|upto| upto < entry.log_id.index);
            !matches!(entry.payload, EntryPayload::Normal(_))
                || (is_open && entry.log_id.leader_id.term < term)
        });
        append.entries.is_empty() || is_needed || self.room.wait::<RT>(TAKE_TIMEOUT).await
    }

    /// Notes that a leader was heard just now.
    pub fn hear(&self) {
        *self.heard.lock() = Some(RT::Instant::now());
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader == Some(self.node_id())
    }

    /// On the leader: a position that a linearizable read starting now must have applied. Reads that
    /// wait at the same time share one confirmation by a quorum.
    pub async fn read_point(&self) -> Result<ReadPoint, ProposeError> {
        if self.distrusted() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        self.reads.submit(Confirm).await
    }

    /// Waits until this node has applied `point`; `false` if the deadline passes first.
    pub async fn await_applied(
        &self,
        point: ReadPoint,
        deadline: Deadline<RT>,
    ) -> Result<bool, ConsensusError> {
        // Openraft's own wait clones its metrics, for every read and at every change.
        if self.shared.reached(point.log_id.index, deadline).await {
            return Ok(true);
        }
        let running = self.raft.metrics().borrow_watched().running_state.clone();
        running.map(|()| false).map_err(|error| self.ended(error))
    }

    /// This node's clock now, as it would stamp a proposal.
    pub fn now(&self) -> Timestamp {
        (self.environment.clock)()
    }

    /// The applied state.
    pub fn state(&self) -> &SharedState {
        &self.shared
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        *self.raft.node_id()
    }

    /// Calls `look` immediately and after changes of this node's view of the cluster, at most every 20 ms,
    /// until the core ends; returns why it ended.
    pub async fn watch(&self, mut look: impl FnMut(&Standing) + Send) -> ConsensusError {
        let mut metrics = self.raft.metrics();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            look(&self.standing());
            if let Err(fatal) = running {
                return self.ended(fatal);
            }
            if metrics.changed().await.is_err() {
                return self.ended("it is gone");
            }
            RT::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until this node has applied again what it knew to be committed before it stopped.
    pub async fn recovered(&self, timeout: Duration) -> bool {
        self.raft.wait_for_recovery(Some(timeout)).await.is_ok()
    }

    /// Stops the Raft instance.
    pub async fn shutdown(&self) {
        // It fails only if the core has already ended.
        drop(self.raft.shutdown().await);
    }
}

/// How long entries from a leader wait for room in the log, before it has to send them again. Shorter than a leader
/// waits for an answer: otherwise it would take this node for one that cannot be reached.
const TAKE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long proposals wait for room in the log: for a snapshot of the whole state to be written.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Puts a group of requests into one log entry, and waits until it is applied.
async fn append<RT: Runtime, S: Storage>(
    raft: Raft<Types<RT>, StateMachine<S>>,
    environment: Environment,
    room: LogRoom,
    requests: Vec<EncodedRequest>,
) -> Vec<ProposeResult> {
    let count = requests.len();
    if !room.wait::<RT>(ROOM_TIMEOUT).await {
        return vec![Err(ProposeError::Overloaded); count];
    }
    let Environment {
        clock, observer, ..
    } = environment;
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
            let leader = forward.leader_id;
            ProposeError::NotLeader { leader }
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
    let leader = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => {
            let (leader, log_id) = (*raft.node_id(), *linearizer.read_log_id().log_id());
            return Ok(ReadPoint { leader, log_id });
        }
        Err(RaftError::APIError(E::ForwardToLeader(forward))) => forward.leader_id,
        Err(_) => None,
    };
    Err(ProposeError::NotLeader { leader })
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{Command, FeatureLevel, Origin, RequestBody, SessionId};
    use openraft_rt_tokio::TokioRuntime;

    use super::*;
    use crate::consensus::Clocks;
    use crate::consensus::network::GrpcNetwork;
    use crate::store::{DiskStore, IdentityFile, StoreOptions};

    fn settings() -> Settings {
        Settings {
            heartbeat: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(200),
            election_timeout_max: Duration::from_millis(400),
            compaction: CompactionSettings {
                snapshot_entries: 50_000,
                log_keep_entries: 200_000,
                log_bytes_max: 1 << 30,
                free_bytes_warn: 256 << 20,
                free_bytes_min: 128 << 20,
            },
            log_cache_bytes: 1 << 20,
            batch: BatchLimits {
                requests_max: 256,
                bytes_max: 512 << 10,
                in_flight_max: 4,
                queue_max: 1024,
            },
        }
    }

    /// Each of these options avoids a defect of the pinned version: see `docs/decisions`.
    #[test]
    fn the_core_is_configured_with_every_fence() {
        let config = settings().raft_config().unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert!(config.install_snapshot_timeout >= 60_000);
        assert!(config.quorum_loss_probe_interval.is_some());
        assert_eq!(config.allow_log_reversion, None);
    }

    /// A cluster of one node.
    async fn alone(dir: &std::path::Path) -> Consensus<TokioRuntime, DiskStore> {
        let mut identity = IdentityFile::open(dir).unwrap();
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            reserve_bytes: 0,
            free_bytes_min: 0,
        };
        let store = DiskStore::open(&mut identity, options, Arc::new(())).unwrap();
        let clock: Clock = Arc::new(|| Timestamp(1));
        let clocks = Clocks::new(clock.clone(), Duration::ZERO);
        let environment = Environment {
            clock,
            observer: Arc::new(()),
            addresses: Addresses::default(),
            fitness: Fitness::new(clocks.clone()),
        };
        let network = GrpcNetwork {
            cluster: Arc::default(),
            addresses: environment.addresses.clone(),
            clocks,
            fitness: environment.fitness.clone(),
            observer: Arc::new(()),
        };
        let (id, settings) = (identity.identity().node_id, settings());
        let config = settings.raft_config().unwrap();
        let consensus = Consensus::open(id, config, &settings, store, network, environment);
        let consensus = consensus.await.unwrap();
        consensus.run();
        let members = BTreeMap::from([(id, Member::default())]);
        consensus.initialize(members).await.unwrap();
        let deadline = Deadline::<TokioRuntime>::after(Duration::from_secs(30));
        while !consensus.leads() {
            assert!(deadline.sleep(LOOK_EVERY).await, "it does not lead");
        }
        consensus
    }

    #[tokio::test]
    async fn an_entry_of_a_newer_build_ends_the_core_with_its_own_message() {
        let dir = tempfile::tempdir().unwrap();
        let consensus = alone(dir.path()).await;
        let newest = FeatureLevel::NEWEST;
        let command = Command::RaiseLevel(newest);
        let mut body = RequestBody { command, key: None }.encode().to_vec();
        // The level is the last byte.
        *body.last_mut().unwrap() += 1;
        let request = EncodedRequest {
            origin: Origin {
                session: SessionId(1),
                sequence: 1,
                answered_below: 1,
            },
            body: body.into(),
        };
        assert_eq!(consensus.propose(request).await, Err(ProposeError::Unknown));
        let ended = consensus.watch(|_| ()).await.to_string();
        let (above, newest) = (newest.get() + 1, newest.get());
        let expected = format!(
            "is at feature level {above}; this build supports levels up to {newest}: run the release that raised it, or a later one"
        );
        assert!(ended.starts_with("log entry "), "{ended}");
        assert!(ended.ends_with(&expected), "{ended}");
        let asked = consensus.is_initialized().await.unwrap_err();
        assert_eq!(asked.to_string(), ended);
    }
}
