//! The nodes, their disks and clocks, and the network between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{AbortHandle, abortable};
use lockstep_machine::SessionId;
use openraft_rt::AsyncRuntime as _;
use openraft_rt::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};

use super::bugs::Bug;
use super::chance::{one_of, up_to};
use super::clock::SimClock;
use super::disk::{Medium, SimDisk};
use super::network::{SimConsensus, SimNetwork};
use super::oracle::Oracle;
use super::process;
use lockstep_node::service::{ForwardObserver, Router};
use lockstep_raft::consensus::node::Clock;
use lockstep_raft::consensus::{
    Addresses, BatchLimits, Clocks, CompactionSettings, Consensus, Environment, Fitness, Member,
    NodeId, Settings,
};

/// The router as it ships, on the simulated runtime, disk and network.
pub type SimRouter = Router<SimRuntime, SimDisk>;

/// How many nodes found the cluster.
pub const FOUNDERS: u64 = 3;
/// Below this much free space, a node rejects writes.
const FREE_BYTES_MIN: u64 = 1 << 20;

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
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    last_id: AtomicU64,
    last_run: AtomicU64,
    oracle: Oracle,
    bug: Option<Bug>,
    quiet: AtomicBool,
    began: SimInstant,
}

/// A node. Its disk and its clock outlive its process.
struct Node {
    name: String,
    disk: Medium,
    clock: Arc<SimClock>,
    process: Option<Process>,
    starting: bool,
}

struct Process {
    consensus: SimConsensus,
    router: Arc<SimRouter>,
    tasks: AbortHandle,
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
            free_bytes_warn: 2 * FREE_BYTES_MIN,
            free_bytes_min: FREE_BYTES_MIN,
        },
        log_cache_bytes: [0, 2_000, 1 << 20][one_of(3) as usize],
        batch,
    }
}

impl Cluster {
    /// A cluster without nodes, perhaps with a planted bug.
    pub fn new(bug: Option<Bug>) -> Self {
        let oracle = Oracle::default();
        Self(Arc::new(Inner {
            settings: settings(),
            network: SimNetwork::new(oracle.clone(), bug),
            nodes: Mutex::default(),
            last_id: AtomicU64::new(0),
            last_run: AtomicU64::new(0),
            oracle,
            bug,
            quiet: AtomicBool::new(false),
            began: SimInstant::now(),
        }))
    }

    pub fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    pub fn oracle(&self) -> &Oracle {
        &self.0.oracle
    }

    /// Whether this bug is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.0.bug == Some(bug)
    }

    fn look<T>(&self, look: impl FnOnce(&mut BTreeMap<NodeId, Node>) -> T) -> T {
        look(&mut self.0.nodes.lock().unwrap())
    }

    /// The ids of all nodes that have a disk, running or not.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.look(|nodes| nodes.keys().copied().collect())
    }

    /// One of [`nodes`](Self::nodes).
    pub fn any_node(&self) -> NodeId {
        let nodes = self.nodes();
        nodes[one_of(nodes.len() as u64) as usize]
    }

    /// The disk of a node.
    pub fn disk(&self, id: NodeId) -> Option<Medium> {
        self.look(|nodes| nodes.get(&id).map(|node| node.disk.clone()))
    }

    /// The clocks of all nodes.
    pub fn clocks(&self) -> Vec<Arc<SimClock>> {
        self.look(|nodes| nodes.values().map(|node| node.clock.clone()).collect())
    }

    /// The router of a node, while that runs.
    pub fn router(&self, id: NodeId) -> Option<Arc<SimRouter>> {
        self.look(|nodes| Some(nodes.get(&id)?.process.as_ref()?.router.clone()))
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<(NodeId, SimConsensus)> {
        self.look(|nodes| {
            let running = nodes.iter().filter_map(|(id, node)| {
                let process = node.process.as_ref()?;
                Some((*id, process.consensus.clone()))
            });
            running.collect()
        })
    }

    /// A node that leads, as far as it knows.
    pub fn leader(&self) -> Option<(NodeId, SimConsensus)> {
        let running = self.running().into_iter();
        let leaders: Vec<_> = running.filter(|(_, it)| it.leads()).collect();
        let any = one_of(leaders.len().max(1) as u64) as usize;
        leaders.into_iter().nth(any)
    }

    /// Whether clients are to stop.
    pub fn quiet(&self) -> bool {
        self.0.quiet.load(Ordering::Relaxed)
    }

    /// Tells clients to stop.
    pub fn stop_clients(&self) {
        self.0.quiet.store(true, Ordering::Relaxed);
    }

    /// A new node with an empty disk, which does not run yet.
    pub fn add_node(&self, name: &str) -> NodeId {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let disk = Medium::new(self.0.bug);
        disk.set_flush_max(Duration::from_micros(500 + up_to(20_000)));
        let clock = SimClock::new(self.0.began);
        if let Some(other) = self.clocks().first() {
            clock.catch_up(other.now());
        }
        let node = Node {
            name: name.to_owned(),
            disk,
            clock: Arc::new(clock),
            process: None,
            starting: false,
        };
        self.look(|nodes| nodes.insert(id, node));
        id
    }

    /// Its entry in the membership.
    pub fn member(&self, id: NodeId) -> Member {
        let name = self.look(|nodes| nodes.get(&id).map(|node| node.name.clone()));
        Member {
            name: name.unwrap_or_default(),
            ..Member::default()
        }
    }

    /// Starts a node, from whatever its disk holds, unless it runs or is gone.
    pub async fn start(&self, id: NodeId) {
        let stopped = self.look(|nodes| {
            let node = nodes.get_mut(&id)?;
            let stopped = node.process.is_none() && !std::mem::replace(&mut node.starting, true);
            stopped.then(|| (node.disk.clone(), node.clock.clone()))
        });
        let Some((disk, clock)) = stopped else { return };
        let run = self.0.last_run.fetch_add(1, Ordering::Relaxed) + 1;
        let peers = self.0.network.at((id, run));
        let mut config = self.0.settings.raft_config().expect("settings make sense");
        if self.has(Bug::LeaderRestored) {
            config.enable_leader_restore = None;
        }
        let wall: Clock = Arc::new(move || clock.now());
        let consensus = Consensus::open(
            id,
            config,
            &self.0.settings,
            disk.open(),
            peers.clone(),
            Environment {
                observer: self.0.oracle.watcher(id),
                addresses: Addresses::default(),
                fitness: Fitness::new(Clocks::new(wall.clone(), Duration::MAX)),
                clock: wall,
            },
        )
        .await;
        let consensus = consensus.unwrap_or_else(|e| panic!("node {id} did not start: {e}"));
        let draw = Arc::new(|| SessionId(up_to(u64::MAX - 1)));
        let batch = self.0.settings.batch;
        let router = Router::new(consensus.clone(), peers, batch, draw, Arc::new(Unobserved));
        let router = Arc::new(router);
        let process = (id, run);
        let tasks = process::tasks(self.clone(), process, consensus.clone(), router.clone());
        let (tasks, handle) = abortable(tasks);
        let process = Process {
            consensus: consensus.clone(),
            router,
            tasks: handle,
        };
        let is_here = self.look(|nodes| match nodes.get_mut(&id) {
            Some(node) => {
                node.starting = false;
                node.process.replace(process).is_none()
            }
            None => false,
        });
        if !is_here {
            return consensus.shutdown().await;
        }
        self.0.network.connect((id, run), consensus.clone());
        consensus.run();
        drop(SimRuntime::spawn(tasks));
    }

    /// Starts the first nodes and makes them a cluster.
    pub async fn found(&self) {
        for number in 1..=FOUNDERS {
            let id = self.add_node(&format!("node-{number}"));
            self.start(id).await;
        }
        let members: BTreeMap<_, _> = self
            .nodes()
            .into_iter()
            .map(|id| (id, self.member(id)))
            .collect();
        for (id, consensus) in self.running() {
            let founded = consensus.initialize(members.clone()).await;
            founded.unwrap_or_else(|e| panic!("node {id} could not found a cluster: {e}"));
        }
    }

    async fn end(&self, id: NodeId, process: Option<Process>, disk: Medium) {
        let Some(process) = process else { return };
        self.0.network.disconnect(id);
        disk.crash();
        process.tasks.abort();
        process.consensus.shutdown().await;
    }

    /// Kills a node, with the disk's unflushed part.
    pub async fn crash(&self, id: NodeId) {
        let ended = self.look(|nodes| {
            let node = nodes.get_mut(&id)?;
            Some((node.process.take(), node.disk.clone()))
        });
        if let Some((process, disk)) = ended {
            self.end(id, process, disk).await;
        }
    }

    /// Ends a node for good.
    pub async fn discard(&self, id: NodeId) {
        if let Some(node) = self.look(|nodes| nodes.remove(&id)) {
            self.end(id, node.process, node.disk).await;
        }
    }

    /// Kills a node and replaces its disk by an empty one.
    pub async fn wipe(&self, id: NodeId) {
        self.crash(id).await;
        let empty = Medium::new(self.0.bug);
        self.look(|nodes| {
            if let Some(node) = nodes.get_mut(&id) {
                node.disk = empty;
            }
        });
    }

    /// Whether the node runs, and its core has not ended.
    pub async fn core_runs(&self, id: NodeId) -> bool {
        let Some(router) = self.router(id) else {
            return false;
        };
        router.consensus().is_initialized().await.is_ok()
    }

    /// Fails if an invariant was violated, or a core has ended.
    pub async fn check(&self) {
        for (id, _) in self.running() {
            // It may have been stopped meanwhile.
            if !self.core_runs(id).await && self.router(id).is_some() {
                self.oracle()
                    .violated(format!("the core of node {id} has ended"));
            }
        }
        self.oracle().check();
    }
}
