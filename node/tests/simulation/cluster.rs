//! Three nodes, their disks and the network between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_machine::{IdempotencyKey, SessionId, Timestamp};
use openraft_rt::AsyncRuntime as _;
use openraft_rt::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};

use super::chance::{one_of, sleep_ms, up_to};
use super::disk::{Medium, SimDisk};
use super::network::{SimConsensus, SimNetwork};
use super::oracle::Oracle;
use super::workload::triad;
use lockstep_node::service::{ForwardObserver, Router};
use lockstep_raft::Deadline;
use lockstep_raft::consensus::{
    Addresses, BatchLimits, CompactionSettings, Consensus, Environment, Member, NodeId, Settings,
};

/// The router as it ships, on the simulated runtime, disk and network.
pub type SimRouter = Router<SimRuntime, SimDisk>;

/// Ids of the nodes.
pub const NODES: [NodeId; 3] = [1, 2, 3];

/// Maximum time after healing until the cluster makes progress and all nodes have the same state.
const HEALED_WITHIN: Duration = Duration::from_secs(15);

struct Unobserved;
impl ForwardObserver for Unobserved {
    fn forwarded(&self, _: &'static str, _: &'static str) {}
}

/// A cluster under test. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    settings: Settings,
    network: SimNetwork,
    disks: BTreeMap<NodeId, Medium>,
    nodes: Mutex<BTreeMap<NodeId, (SimConsensus, Arc<SimRouter>)>>,
    runs: Mutex<u64>,
    oracle: Oracle,
    never_executed: Mutex<Vec<IdempotencyKey>>,
    restores_leaders: AtomicBool,
    quiet: AtomicBool,
    began: SimInstant,
}

/// Settings with frequent snapshots and short logs, so that a lagging follower soon needs a snapshot.
fn settings() -> Settings {
    let batch = BatchLimits {
        requests_max: 1 + up_to(15) as usize,
        bytes_max: 4096,
        in_flight_max: 1 + up_to(3) as usize,
        queue_max: 64,
    };
    Settings {
        heartbeat: Duration::from_millis(100),
        election_timeout_min: Duration::from_millis(200),
        election_timeout_max: Duration::from_millis(400),
        compaction: CompactionSettings {
            snapshot_entries: 10 + up_to(150),
            log_keep_entries: one_of(3) * 40,
            // Sometimes the bytes bound the log.
            log_bytes_max: [4 << 10, 1 << 30][one_of(2) as usize],
            free_bytes_warn: 0,
            free_bytes_min: 0,
        },
        log_cache_bytes: [0, 2_000, 1 << 20][one_of(3) as usize],
        batch,
    }
}

impl Cluster {
    /// Three nodes that have never run.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            settings: settings(),
            network: SimNetwork::default(),
            disks: NODES.map(|id| (id, Medium::default())).into(),
            nodes: Mutex::default(),
            runs: Mutex::new(0),
            oracle: Oracle::default(),
            never_executed: Mutex::default(),
            restores_leaders: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            began: SimInstant::now(),
        }))
    }

    pub fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    pub fn disk(&self, id: NodeId) -> &Medium {
        &self.0.disks[&id]
    }

    pub fn oracle(&self) -> &Oracle {
        &self.0.oracle
    }

    /// The router of a node, while that runs.
    pub fn router(&self, id: NodeId) -> Option<Arc<SimRouter>> {
        self.0
            .nodes
            .lock()
            .unwrap()
            .get(&id)
            .map(|(_, router)| router.clone())
    }

    fn running(&self) -> Vec<(NodeId, SimConsensus)> {
        self.0
            .nodes
            .lock()
            .unwrap()
            .iter()
            .map(|(id, (consensus, _))| (*id, consensus.clone()))
            .collect()
    }

    /// Disables a safeguard: a leader that restarts continues to lead in its old term.
    pub fn plant_leader_restore(&self) {
        self.0.restores_leaders.store(true, Ordering::Relaxed);
    }

    /// Whether clients are to stop.
    pub fn quiet(&self) -> bool {
        self.0.quiet.load(Ordering::Relaxed)
    }

    /// Records a key whose request was reported as not executed, to verify that at the end.
    pub fn never_executed(&self, key: IdempotencyKey) {
        self.0.never_executed.lock().unwrap().push(key);
    }

    /// Starts a node, from whatever its disk holds.
    pub async fn start(&self, id: NodeId) {
        let run = {
            let mut runs = self.0.runs.lock().unwrap();
            *runs += 1;
            *runs
        };
        let watcher = self.0.oracle.watcher(id);
        let (began, skew_ms) = (self.0.began, one_of(2000));
        // Wall clocks differ between nodes, and jump when a node starts.
        let clock =
            Arc::new(move || Timestamp(1_000_000 + skew_ms + began.elapsed().as_millis() as u64));
        let (disk, peers) = (self.disk(id).open(), self.0.network.at((id, run)));
        let mut config = self.0.settings.raft_config().expect("settings make sense");
        if self.0.restores_leaders.load(Ordering::Relaxed) {
            config.enable_leader_restore = None;
        }
        let consensus = Consensus::open(
            id,
            config,
            &self.0.settings,
            disk,
            peers.clone(),
            Environment {
                clock,
                observer: watcher,
                addresses: Addresses::default(),
            },
        )
        .await;
        let consensus = consensus.unwrap_or_else(|e| panic!("node {id} did not start: {e}"));
        let draw = Arc::new(|| SessionId(up_to(u64::MAX - 1)));
        let router = Router::new(
            consensus.clone(),
            peers,
            self.0.settings.batch,
            draw,
            Arc::new(Unobserved),
        );
        self.0.network.connect((id, run), consensus.clone());
        self.0
            .nodes
            .lock()
            .unwrap()
            .insert(id, (consensus.clone(), Arc::new(router)));
        consensus.run();
        drop(SimRuntime::spawn(async move { consensus.compact().await }));
    }

    /// Starts every node and makes them a cluster.
    pub async fn found(&self) {
        for id in NODES {
            self.start(id).await;
        }
        let member = |id: NodeId| Member {
            name: format!("node-{id}"),
            ..Member::default()
        };
        let members = NODES.map(|id| (id, member(id)));
        for (id, consensus) in self.running() {
            let founded = consensus.initialize(members.clone().into()).await;
            founded.unwrap_or_else(|e| panic!("node {id} could not found a cluster: {e}"));
        }
    }

    /// Kills a node, with the disk's unflushed part.
    pub async fn crash(&self, id: NodeId) {
        let node = self.0.nodes.lock().unwrap().remove(&id);
        let Some((consensus, _)) = node else { return };
        self.0.network.disconnect(id);
        self.disk(id).crash();
        consensus.shutdown().await;
        self.0.oracle.count(|counts| counts.crashes += 1);
    }

    /// Makes the leader hand over.
    pub async fn transfer(&self) {
        for (_, consensus) in self.running() {
            if consensus.standing().role == lockstep_raft::consensus::Role::Leader {
                let handed_over = consensus.hand_over(None, Duration::from_millis(500)).await;
                self.0
                    .oracle
                    .count(|counts| counts.transfers += u64::from(handed_over.is_ok()));
            }
        }
    }

    /// Fails if an invariant was violated, or a core has stopped.
    pub async fn check(&self) {
        for (id, consensus) in self.running() {
            if let Err(error) = consensus.is_initialized().await {
                self.0
                    .oracle
                    .violated(format!("the core of node {id} is dead: {error}"));
            }
        }
        self.0.oracle.check();
    }

    /// After all faults have ended: every node must serve, and all become equal.
    pub async fn must_heal(&self) {
        self.0.quiet.store(true, Ordering::Relaxed);
        let healing = SimInstant::now();
        while !self.is_whole().await {
            self.check().await;
            if healing.elapsed() > HEALED_WITHIN {
                let places: Vec<_> = self.running().iter().map(|(_, c)| c.standing()).collect();
                panic!("not healed after {HEALED_WITHIN:?}: {places:#?}");
            }
            sleep_ms(50).await;
        }
        for (id, consensus) in self.running() {
            let applied = consensus.state().read();
            let instance = applied.state.instance(&triad());
            let revision = instance
                .unwrap_or_else(|| panic!("node {id} lost the instance"))
                .revision;
            self.0.oracle.ended(revision.0);
        }
        for key in self.0.never_executed.lock().unwrap().iter() {
            self.0.oracle.never_executed(key);
        }
        self.check().await;
    }

    /// Whether every node confirms a read and all have applied the same; equal states are checked.
    async fn is_whole(&self) -> bool {
        for id in NODES {
            let Some(router) = self.router(id) else {
                return false;
            };
            if router
                .confirm(Deadline::after(Duration::from_millis(500)))
                .await
                .is_err()
            {
                return false;
            }
        }
        let places: Vec<_> = self
            .running()
            .iter()
            .map(|(_, consensus)| {
                let last = consensus.standing().log_last_index;
                let applied = consensus.state().read();
                (applied.index(), last, applied.state.hash())
            })
            .collect();
        let (index, last, hash) = places[0];
        if index != last
            || places
                .iter()
                .any(|place| (place.0, place.1) != (index, last))
        {
            return false;
        }
        if places.iter().any(|place| place.2 != hash) {
            self.0
                .oracle
                .violated(format!("at log index {index} the nodes differ: {places:?}"));
        }
        true
    }
}
