//! `lockstepd dev`: three real nodes on this machine.
//!
//! Each node is a process of its own, with its own data, so that what is tried here is what happens
//! in production: kill one and see. Nothing is restarted. All of them end when this process ends,
//! however it ends.

mod children;
mod cluster;
mod folder;
mod ports;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use children::Nodes;
use cluster::{Leader, Status};
use folder::Folder;
pub use ports::{PortOwner, owner};

const NODE_COUNT: u16 = 3;
/// How long the cluster may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at the children.
const TICK: Duration = Duration::from_millis(200);

/// What `dev` is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where data and logs are kept.
    pub data: PathBuf,
    /// Whether to delete what an earlier run left there.
    pub fresh: bool,
    /// HTTP port of the first node; the others follow.
    pub http_port: u16,
    /// gRPC port of the first node; the others follow.
    pub grpc_port: u16,
}

/// Why there is no cluster to try.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Six ports do not fit where they were asked for.
    #[error(
        "--http-port {http_port} and --grpc-port {grpc_port}: each needs three ports in a row up to 65535, and they must not overlap"
    )]
    Ports {
        /// The first HTTP port.
        http_port: u16,
        /// The first gRPC port.
        grpc_port: u16,
    },
    /// Someone else listens there.
    #[error(
        "port {port} ({what} of {node}) is taken by {by}; stop it, or choose others with --http-port and --grpc-port"
    )]
    PortTaken {
        /// Which.
        port: u16,
        /// "HTTP" or "gRPC".
        what: &'static str,
        /// The node it was for.
        node: String,
        /// Who has it, as far as can be told.
        by: String,
    },
    /// The port cannot be used for another reason.
    #[error("port {port} cannot be listened on: {source}")]
    Port {
        /// Which.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder holds something that `dev` did not put there.
    #[error("{} is not empty and was not made by `lockstepd dev` (it has no file lockstep-dev): choose another with --data", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
    },
    /// Another `dev` runs there.
    #[error("{} is in use by another `lockstepd dev`: stop it, or choose another with --data", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The nodes in the folder know each other under other addresses.
    #[error("{} holds a cluster made with --grpc-port {made_with}: use that port, or --fresh to delete it, or another --data", dir.display())]
    OtherPorts {
        /// The folder.
        dir: PathBuf,
        /// The first gRPC port at the time.
        made_with: u16,
    },
    /// A file or a process did not obey.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and to what.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A node ended before the cluster was ready.
    #[error("{node} {how} before the cluster was ready; the end of {}:\n{tail}", log.display())]
    Died {
        /// Which.
        node: String,
        /// How it ended.
        how: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The nodes run but do not become a cluster.
    #[error("the cluster was not ready after {} s: {states}; their logs are in {}", READY_TIMEOUT.as_secs(), dir.display())]
    NotReady {
        /// What each node said last.
        states: String,
        /// Where the logs are.
        dir: PathBuf,
    },
    /// Nothing is left to watch.
    #[error("every node has ended; their logs are in {}", dir.display())]
    AllEnded {
        /// Where the logs are.
        dir: PathBuf,
    },
}

impl DevError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DevError {
        let what = what.into();
        move |source| DevError::Io { what, source }
    }
}

/// Runs three nodes until Ctrl-C, SIGTERM, or the end of the last of them.
///
/// Must run on the main thread, under a current-thread runtime: the kernel ends the children when
/// the *thread* that started them ends.
///
/// # Errors
///
/// When there is no cluster, or no longer one. No child outlives the return.
pub async fn run(options: Options) -> Result<(), DevError> {
    let Options {
        data,
        fresh,
        http_port,
        grpc_port,
    } = options;
    let last = NODE_COUNT - 1;
    let fits = http_port.checked_add(last).is_some() && grpc_port.checked_add(last).is_some();
    if !fits || http_port.abs_diff(grpc_port) < NODE_COUNT || http_port == 0 || grpc_port == 0 {
        return Err(DevError::Ports {
            http_port,
            grpc_port,
        });
    }
    // Before anything is started, so that no signal falls between.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DevError::io("SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DevError::io("SIGTERM"))?;

    for index in 0..NODE_COUNT {
        let node = format!("node{}", index + 1);
        ports::check_free(http_port + index, "HTTP", &node)?;
        ports::check_free(grpc_port + index, "gRPC", &node)?;
    }
    let folder = Folder::open(&data, fresh, grpc_port)?;
    let mut nodes = Nodes::default();
    let result = tokio::select! {
        result = live(&mut nodes, &folder, http_port, grpc_port) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    if nodes.any_alive() {
        say("stopping\n");
    }
    nodes.stop().await;
    result
}

/// Starts the nodes, waits for the cluster, watches it. Returns on failure only.
async fn live(
    nodes: &mut Nodes,
    folder: &Folder,
    http_port: u16,
    grpc_port: u16,
) -> Result<(), DevError> {
    nodes.start(folder, http_port, grpc_port)?;
    say(&format!(
        "starting three nodes; data and logs in {}\n",
        folder.dir.display()
    ));
    let statuses = wait_until_ready(nodes, folder).await?;
    let mut leader = cluster::leader(&statuses);
    say(&introduction(nodes, &statuses, leader.as_ref()));
    loop {
        tokio::time::sleep(TICK).await;
        for end in nodes.newly_ended() {
            say(&format!(
                "{} (pid {}) {}; its log: {}\n",
                end.name,
                end.pid,
                end.how,
                end.log.display()
            ));
            say(&format!(
                "  to start it again, in another terminal: {}\n",
                end.command
            ));
        }
        if !nodes.any_alive() {
            return Err(DevError::AllEnded {
                dir: folder.dir.clone(),
            });
        }
        let now = cluster::leader(&cluster::statuses(&nodes.http_addresses()).await);
        if let Some(change) = cluster::change(leader.as_ref(), now.as_ref()) {
            say(&format!("{change}\n"));
            leader = now;
        }
    }
}

async fn wait_until_ready(nodes: &mut Nodes, folder: &Folder) -> Result<Vec<Status>, DevError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Some(end) = nodes.newly_ended().into_iter().next() {
            let tail = folder::tail(&end.log);
            return Err(DevError::Died {
                node: end.name,
                how: end.how,
                log: end.log,
                tail,
            });
        }
        let statuses = cluster::statuses(&nodes.http_addresses()).await;
        if statuses.iter().all(|status| status.ready) && cluster::leader(&statuses).is_some() {
            return Ok(statuses);
        }
        if Instant::now() > deadline {
            let states: Vec<String> = nodes
                .names()
                .iter()
                .zip(&statuses)
                .map(|(name, status)| format!("{name} {}", status.said))
                .collect();
            return Err(DevError::NotReady {
                states: states.join("; "),
                dir: folder.dir.clone(),
            });
        }
        tokio::time::sleep(TICK).await;
    }
}

/// The one table, and what to try next.
fn introduction(nodes: &Nodes, statuses: &[Status], leader: Option<&Leader>) -> String {
    let mut text = format!(
        "\n{:<7} {:<23} {:<17} {:<9} {}\n",
        "NODE", "HTTP", "GRPC", "ROLE", "PID"
    );
    let rows = nodes.rows();
    for (row, status) in rows.iter().zip(statuses) {
        let role = status.role.as_deref().unwrap_or("-");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<7} {:<23} {:<17} {role:<9} {}",
            row.name,
            format!("http://{}", row.http),
            row.grpc.to_string(),
            row.pid
        );
    }
    text += "\nTry:\n";
    for (row, next) in rows.iter().zip(["second", "third", "second"]) {
        let _ = writeln!(
            text,
            "  curl 'http://localhost:{}/?next={next}'",
            row.http.port()
        );
    }
    if let Some(row) = leader.and_then(|leader| rows.iter().find(|row| row.name == leader.name)) {
        let _ = writeln!(
            text,
            "  kill -9 {}   # the leader, {}: another takes over",
            row.pid, row.name
        );
    }
    text += "\nCtrl-C stops all three.\n\n";
    text
}

/// To stdout. If nobody reads it any more, the nodes still run.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
