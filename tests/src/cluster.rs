//! Nodes that make one cluster, and what can be done to them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::agreement;
use crate::binaries::{lockstepd, lockstepd_in};
use crate::http::{Api, ClusterView, answer};
use crate::ports::Port;
use crate::process::{Process, read_log};
use crate::wait::wait_for;

/// For a cluster to form, or a node to come back: two cores may be busy with something else.
pub const READY_DEADLINE: Duration = Duration::from_secs(30);
/// For the end of a process that was asked to end.
pub const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// How the nodes find each other.
#[derive(Debug, Clone)]
pub enum Discovery {
    /// Each knows all.
    Static,
    /// Through the Consul agent at this URL, under this service name.
    Consul {
        /// `http://host:port`.
        url: String,
        /// The service name.
        service: String,
    },
}

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes.
    pub size: usize,
    /// How they find each other.
    pub discovery: Discovery,
    /// Further settings, by the name of the environment variable.
    pub settings: Vec<(&'static str, String)>,
    /// Cluster settings, set once the nodes are ready.
    pub cluster_settings: BTreeMap<&'static str, u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            size: 3,
            discovery: Discovery::Static,
            settings: Vec::new(),
            cluster_settings: BTreeMap::new(),
        }
    }
}

impl Plan {
    /// One node alone.
    pub fn single() -> Self {
        Self {
            size: 1,
            ..Self::default()
        }
    }

    /// With one more setting.
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.settings.push((key, value.to_string()));
        self
    }
}

impl Plan {
    /// With one more cluster setting.
    pub fn setting(mut self, name: &'static str, value: u64) -> Self {
        self.cluster_settings.insert(name, value);
        self
    }
}

/// Nodes on loopback, in folders of their own that go with it.
pub struct Cluster {
    /// The nodes, `node1` first.
    pub nodes: Vec<Node>,
    folder: TempDir,
}

impl Cluster {
    /// Three nodes that know each other, started and ready.
    pub async fn start() -> Result<Self> {
        Self::start_as(Plan::default()).await
    }

    /// Nodes as planned, started and ready.
    pub async fn start_as(plan: Plan) -> Result<Self> {
        let update = json!(plan.cluster_settings);
        let mut cluster = Self::lay_out(plan)?;
        cluster.start_all()?;
        cluster.wait_ready().await?;
        if update != json!({}) {
            let api = cluster.nodes[0].api();
            let request = api.request(Method::PATCH, "/v1/cluster/settings");
            let answered = answer(request.json(&update)).await?;
            answered.expect(StatusCode::OK)?;
        }
        Ok(cluster)
    }

    /// Nodes as planned, none started.
    pub fn lay_out(plan: Plan) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the cluster")?;
        let mut nodes = (1..=plan.size)
            .map(|number| Node::lay_out(&format!("node{number}"), folder.path()))
            .collect::<Result<Vec<_>>>()?;
        let peers = peers(&nodes);
        for node in &mut nodes {
            match &plan.discovery {
                Discovery::Static => {
                    node.set("LOCKSTEP_DISCOVERY", "static");
                    node.set("LOCKSTEP_PEERS", &peers);
                }
                Discovery::Consul { url, service } => {
                    node.set("LOCKSTEP_DISCOVERY", "consul");
                    node.set("LOCKSTEP_CONSUL_ADDRESS", url);
                    node.set("LOCKSTEP_CONSUL_SERVICE", service);
                    // Consul checks every second at most; the interval also bounds what a busy
                    // machine may take for an answer.
                    node.set("LOCKSTEP_CONSUL_CHECK_INTERVAL", "1s");
                    node.set("LOCKSTEP_EXPECT", plan.size);
                }
            }
            for (key, value) in &plan.settings {
                node.set(key, value);
            }
        }
        Ok(Self { nodes, folder })
    }

    /// Starts every node that is down.
    pub fn start_all(&mut self) -> Result<()> {
        self.nodes
            .iter_mut()
            .filter(|node| node.process.is_none())
            .try_for_each(Node::start)
    }

    /// Waits until every node that was started serves.
    pub async fn wait_ready(&mut self) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| node.process.is_some()) {
            node.wait_ready().await?;
        }
        Ok(())
    }

    /// Waits until the running nodes agree on one leader among them; returns its position.
    pub async fn leader(&self) -> Result<usize> {
        let running: Vec<usize> = (0..self.nodes.len())
            .filter(|&position| self.nodes[position].process.is_some())
            .collect();
        Ok(running[agreement::one_leader(&self.apis()).await?])
    }

    /// The position of a running node that does not lead.
    pub async fn follower(&self) -> Result<usize> {
        Ok(self.leader_and_follower().await?.1)
    }

    /// The positions of the leader and of a running node that does not lead, of one look: between
    /// two looks another may be elected, and be both.
    pub async fn leader_and_follower(&self) -> Result<(usize, usize)> {
        let leader = self.leader().await?;
        let mut running =
            (0..self.nodes.len()).filter(|&position| self.nodes[position].process.is_some());
        let follower = running
            .find(|&position| position != leader)
            .context("no follower runs")?;
        Ok((leader, follower))
    }

    /// Waits until the running nodes have applied the same and hold the same state.
    pub async fn agree(&self) -> Result<()> {
        agreement::equal_states(&self.apis()).await
    }

    /// The HTTP interfaces of the running nodes.
    pub fn apis(&self) -> Vec<Api> {
        self.running().map(|node| node.api().clone()).collect()
    }

    /// The nodes whose processes run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.process.is_some())
    }

    /// The list of all nodes, as each is configured.
    pub fn peers(&self) -> String {
        peers(&self.nodes)
    }

    /// One more node, which knows all others, and is not started. Returns its position.
    pub fn lay_out_another(&mut self) -> Result<usize> {
        let position = self.nodes.len();
        let name = format!("node{}", position + 1);
        let mut node = Node::lay_out(&name, self.folder.path())?;
        node.set("LOCKSTEP_DISCOVERY", "static");
        self.nodes.push(node);
        let peers = self.peers();
        self.nodes[position].set("LOCKSTEP_PEERS", peers);
        Ok(position)
    }

    /// Gives every node the list of all nodes as they are now.
    pub fn tell_peers(&mut self) {
        let peers = self.peers();
        for node in &mut self.nodes {
            node.set("LOCKSTEP_PEERS", &peers);
        }
    }

    /// What every running node says about the cluster, with its position.
    pub async fn views(&self) -> Result<Vec<(usize, ClusterView)>> {
        let mut views = Vec::new();
        for (position, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.process.is_some())
        {
            views.push((position, node.api().cluster().await?));
        }
        Ok(views)
    }
}

fn peers(nodes: &[Node]) -> String {
    let peers: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}={}", node.name, node.grpc_address()))
        .collect();
    peers.join(",")
}

/// One node: its settings, its folder and, while it runs, its process.
pub struct Node {
    /// The operator's name for it.
    pub name: String,
    /// The port of its HTTP interface.
    pub http: Port,
    /// The port of its gRPC interface.
    pub grpc: Port,
    settings: Vec<(String, String)>,
    /// Where the programs of another release are, if it runs one.
    release: Option<PathBuf>,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    api: Api,
}

impl Node {
    /// A node in a folder of its own under `folder`, alone until it is given peers.
    pub fn lay_out(name: &str, folder: &Path) -> Result<Self> {
        let (http, grpc) = (Port::free()?, Port::free()?);
        let api = Api::new(http.address());
        let mut node = Self {
            name: name.to_owned(),
            data: folder.join(name),
            log: folder.join(format!("{name}.log")),
            settings: Vec::new(),
            release: None,
            process: None,
            http,
            grpc,
            api,
        };
        node.set("LOCKSTEP_NAME", name);
        let data = node.data.display().to_string();
        node.set("LOCKSTEP_DATA_DIR", data);
        node.set("LOCKSTEP_HTTP_LISTEN", node.http_address());
        node.set("LOCKSTEP_GRPC_LISTEN", node.grpc_address());
        Ok(node)
    }

    /// Gives it other ports for the next start, as a container gets another address.
    pub fn move_away(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs", self.name);
        (self.http, self.grpc) = (Port::free()?, Port::free()?);
        self.api = Api::new(self.http.address());
        self.set("LOCKSTEP_HTTP_LISTEN", self.http_address());
        self.set("LOCKSTEP_GRPC_LISTEN", self.grpc_address());
        Ok(())
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_string()));
    }

    /// Clears a setting for the next start.
    pub fn unset(&mut self, key: &str) {
        self.settings.retain(|(known, _)| known != key);
    }

    /// Has it run the release whose programs are in `folder` from the next start on; without one, this build.
    pub fn run_release(&mut self, folder: Option<&Path>) {
        self.release = folder.map(Path::to_owned);
    }

    /// Its HTTP interface.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Loses its disk while it is down.
    pub fn lose_disk(&self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs", self.name);
        fs::remove_dir_all(&self.data).with_context(|| format!("the disk of {}", self.name))
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Has it log to this file from the next start on.
    pub fn log_to(&mut self, path: impl Into<PathBuf>) {
        self.log = path.into();
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// `lockstepd run` with its settings.
    pub fn command(&self) -> Result<Command> {
        self.lockstepd("run")
    }

    /// Another of `lockstepd`'s commands with its settings.
    pub fn lockstepd(&self, what: &str) -> Result<Command> {
        let mut command = match &self.release {
            Some(folder) => lockstepd_in(folder),
            None => lockstepd()?,
        };
        command.arg(what).envs(self.settings.iter().cloned());
        Ok(command)
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(Process::spawn(&self.name, self.command()?, &self.log)?);
        Ok(())
    }

    /// Waits until it can serve a linearizable read.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let name = self.name.clone();
        let api = self.api.clone();
        let process = tokio::sync::Mutex::new(self.running()?);
        wait_for(format!("{name} to be ready"), READY_DEADLINE, async || {
            if let Some(status) = process.lock().await.ended()? {
                panic!("{name} has ended with {status} instead of getting ready");
            }
            api.get("/readyz").await?.expect(StatusCode::OK)
        })
        .await?;
        Ok(())
    }

    /// Kills it as a power cut would.
    pub fn kill9(&mut self) -> Result<()> {
        self.running()?.kill9()?;
        self.process = None;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.running()?.signal(libc::SIGTERM)?;
        self.wait_ended(STOP_DEADLINE).await
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: libc::c_int) -> Result<()> {
        self.running()?.signal(signal)
    }

    /// Waits until it ends by itself.
    pub async fn wait_ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let status = self.running()?.wait(deadline).await?;
        self.process = None;
        Ok(status)
    }

    /// Pauses it (SIGSTOP) until resumed.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.signal(libc::SIGSTOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.signal(libc::SIGCONT)
    }

    /// Starts it after it went down, and waits until it serves.
    pub async fn restart(&mut self) -> Result<()> {
        self.start()?;
        self.wait_ready().await
    }

    /// The id of its process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Its HTTP address.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Its gRPC address.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))
    }
}
