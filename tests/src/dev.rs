//! `lockstepd dev`, as a person in a terminal sees it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries::lockstepd;
use crate::cluster::{READY_DEADLINE, STOP_DEADLINE};
use crate::http::{Api, ClusterView};
use crate::ports::Port;
use crate::process::{self, Process};
use crate::wait::wait_for;

/// How many nodes `dev` runs.
pub const NODE_COUNT: u16 = 3;
/// The last line of what it prints once the cluster serves.
const INTRODUCED: &str = "Ctrl-C stops all three.\n";

/// Where `dev` may run, again and again: ports, and a folder that goes with it.
pub struct Place {
    http: Vec<Port>,
    grpc: Vec<Port>,
    folder: TempDir,
}

impl Place {
    /// Free ports, and a data folder that is not there yet.
    pub fn free() -> Result<Self> {
        Ok(Self {
            http: Port::free_row(NODE_COUNT)?,
            grpc: Port::free_row(NODE_COUNT)?,
            folder: tempfile::tempdir().context("a folder for dev")?,
        })
    }

    /// The data folder. Its name is one that a shell must have quoted.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("dev's data")
    }

    /// The port of the first node's HTTP interface.
    pub fn http_port(&self) -> u16 {
        self.http[0].number()
    }

    /// The port of the first node's gRPC interface.
    pub fn grpc_port(&self) -> u16 {
        self.grpc[0].number()
    }

    /// `lockstepd dev`, here.
    pub fn command(&self, fresh: bool) -> Result<Command> {
        let mut command = command(&self.data(), self.http_port(), self.grpc_port())?;
        if fresh {
            command.arg("--fresh");
        }
        Ok(command)
    }

    /// Starts it, and waits until it has introduced its nodes.
    pub async fn start(&self, fresh: bool) -> Result<Dev> {
        let log = self.folder.path().join("dev.log");
        // Each run's words alone: what an earlier one said must not be taken for this one's.
        match std::fs::remove_file(&log) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut process = Process::spawn("dev", self.command(fresh)?, &log)?;
        let waiting = tokio::sync::Mutex::new(&mut process);
        let nodes = wait_for("the three nodes", READY_DEADLINE, async || {
            let mut process = waiting.lock().await;
            let said = process.log();
            if !said.contains(INTRODUCED) {
                if let Some(status) = process.ended()? {
                    panic!("dev has ended with {status} instead of getting ready:\n{said}");
                }
                anyhow::bail!("it has said no more than {said:?}");
            }
            Ok(table(&said))
        })
        .await??;
        Ok(Dev { process, nodes })
    }
}

/// `lockstepd dev` with its data in `data`.
pub fn command(data: &Path, http_port: u16, grpc_port: u16) -> Result<Command> {
    let mut command = lockstepd()?;
    command
        .arg("dev")
        .arg("--data")
        .arg(data)
        .args(["--http-port", &http_port.to_string()])
        .args(["--grpc-port", &grpc_port.to_string()]);
    Ok(command)
}

/// One that has introduced its nodes.
pub struct Dev {
    process: Process,
    /// The rows of its table.
    pub nodes: Vec<Row>,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// The node's name.
    pub name: String,
    /// Its HTTP interface.
    pub http: SocketAddr,
    /// Its gRPC interface.
    pub grpc: SocketAddr,
    /// `leader` or `follower`.
    pub role: String,
    /// Its process id.
    pub pid: u32,
}

impl Row {
    /// Its HTTP interface.
    pub fn api(&self) -> Api {
        Api::new(self.http)
    }
}

impl Dev {
    /// Everything it has said.
    pub fn said(&self) -> String {
        self.process.log()
    }

    /// Waits until it has said a line for which `found` gives something.
    pub async fn says<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> Result<T> {
        wait_for(format!("{what} from dev"), READY_DEADLINE, async || {
            let said = self.said();
            // A line that is not whole yet may mislead.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole
                .lines()
                .find_map(&found)
                .with_context(|| format!("it has said:\n{said}"))
        })
        .await
    }

    /// The processes it has started and that still run.
    pub fn children(&self) -> Result<Vec<u32>> {
        process::children(self.process.id())
    }

    /// The position of the node that leads, and how it describes the cluster.
    pub async fn leader(&self) -> Result<(usize, ClusterView)> {
        wait_for("a leader", READY_DEADLINE, async || {
            for (position, row) in self.nodes.iter().enumerate() {
                match row.api().cluster().await {
                    Ok(view) if view.leads() => return Ok((position, view)),
                    _ => {}
                }
            }
            anyhow::bail!("none leads")
        })
        .await
    }

    /// Kills the node at `position`, which must be a child still, as a power cut would.
    pub fn kill9(&self, position: usize) -> Result<()> {
        let row = &self.nodes[position];
        ensure!(
            self.children()?.contains(&row.pid),
            "{row:?} is no child of dev"
        );
        let id = libc::pid_t::try_from(row.pid).context("a process id fits")?;
        // SAFETY: kill takes no pointers.
        ensure!(
            unsafe { libc::kill(id, libc::SIGKILL) } == 0,
            "{row:?}: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    /// Sends it a signal, and waits until it has ended; children may be left.
    pub async fn end(&mut self, signal: libc::c_int) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.wait_ended().await
    }

    /// Waits until it ends by itself.
    pub async fn wait_ended(&mut self) -> Result<ExitStatus> {
        self.process.wait(STOP_DEADLINE).await
    }
}

/// The rows of the one table in `said`.
fn table(said: &str) -> Result<Vec<Row>> {
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(String::from).collect() };
    let mut lines = said
        .lines()
        .skip_while(|line| words(line) != ["NODE", "HTTP", "GRPC", "ROLE", "PID"])
        .skip(1);
    let rows = lines.by_ref().take_while(|line| !line.trim().is_empty());
    rows.map(|line| {
        let [name, http, grpc, role, pid]: [String; 5] = words(line)
            .try_into()
            .ok()
            .with_context(|| format!("not five columns: {line:?}"))?;
        Ok(Row {
            name,
            http: http
                .strip_prefix("http://")
                .with_context(|| format!("no URL: {http:?}"))?
                .parse()?,
            grpc: grpc.parse()?,
            role,
            pid: pid.parse()?,
        })
    })
    .collect()
}
