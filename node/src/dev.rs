//! `lockstepd dev`: a cluster of three nodes on this machine.
//!
//! Each node is a process with data of its own, so that an experiment here (kill one and see) shows
//! what happens in production. Nothing is restarted. All nodes end when this process ends, however it
//! ends.

mod children;
mod cluster;
mod folder;
mod ports;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Error, Result, anyhow, bail, ensure};
use clap::Args;
use lockstep_node::node::Signals;
use lockstep_node::telemetry::Output;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use children::{Node, Nodes};
use cluster::{Leader, Status};
use folder::Folder;

const NODE_COUNT: u16 = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(200);
/// Messages that wait to be written, at most.
const TEXTS_MAX: usize = 64;

/// Options of `dev`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder for the nodes' data and logs; kept between runs.
    #[arg(long, value_name = "DIR", default_value = ".lockstep/dev")]
    data: PathBuf,
    /// Delete the data and logs of an earlier run first.
    #[arg(long)]
    fresh: bool,
    /// HTTP port of the first node; the other nodes use the next two ports.
    #[arg(long, value_name = "PORT", default_value_t = 3333, value_parser = first_port)]
    http_port: u16,
    /// gRPC port of the first node; the others take the next two.
    #[arg(long, value_name = "PORT", default_value_t = 4333, value_parser = first_port)]
    grpc_port: u16,
}

/// The first of [`NODE_COUNT`] ports.
fn first_port(text: &str) -> Result<u16, String> {
    let max = u16::MAX - (NODE_COUNT - 1);
    match text.parse() {
        Ok(port) if (1..=max).contains(&port) => Ok(port),
        _ => Err(format!("it must be a port from 1 to {max}")),
    }
}

/// Adds what was done to an error of the system.
fn doing(what: impl Display) -> impl FnOnce(io::Error) -> Error {
    move |error| anyhow!("{what}: {error}")
}

/// Runs three nodes until a signal, or the end of the last node.
///
/// Must run on the main thread, under a current-thread runtime: the kernel ends the children when
/// the *thread* that started them ends.
///
/// No child outlives the return.
pub async fn run(options: Options) -> Result<()> {
    let Options {
        data,
        fresh,
        http_port,
        grpc_port,
    } = options;
    ensure!(
        http_port.abs_diff(grpc_port) >= NODE_COUNT,
        "--http-port {http_port} and --grpc-port {grpc_port}: each is the first of three consecutive ports; the two ranges must not overlap"
    );
    // Before any node starts, so that no signal is missed.
    let signals = Signals::listen().map_err(doing("signals"))?;
    // The terminal was closed.
    let mut hang_up = signal(SignalKind::hangup()).map_err(doing("SIGHUP"))?;

    for index in 0..NODE_COUNT {
        let node = children::name(index);
        ports::check_free(http_port + index, "HTTP", &node)?;
        ports::check_free(grpc_port + index, "gRPC", &node)?;
    }
    let folder = Folder::open(&data, fresh, grpc_port)?;
    // Output may block: `dev` must still handle signals and watch its nodes.
    let out = Output::start("output", TEXTS_MAX, io::stdout(), |lost, out| {
        writeln!(
            out,
            "messages lost because standard output was blocked or closed: {lost}"
        )
    });
    let out = out.map_err(doing("the thread for the output"))?;
    let mut nodes = Nodes::default();
    let result = tokio::select! {
        result = live(&mut nodes, &folder, http_port, grpc_port, &out) => result,
        _ = signals.stop(|| ()) => Ok(()),
        _ = hang_up.recv() => Ok(()),
    };
    if nodes.any_alive() {
        out.say("stopping\n");
    }
    nodes.stop().await;
    out.drain();
    result
}

/// Starts the nodes, waits for the cluster, watches it. Returns only with an error.
async fn live(
    nodes: &mut Nodes,
    folder: &Folder,
    http_port: u16,
    grpc_port: u16,
    out: &Output,
) -> Result<()> {
    nodes.start(folder, http_port, grpc_port)?;
    let dir = &folder.dir;
    out.say(format!(
        "starting three nodes; data and logs in {}\n",
        dir.display()
    ));
    let statuses = wait_until_ready(nodes, folder).await?;
    let mut leader = cluster::leader(&statuses);
    out.say(introduction(&nodes.0, &statuses, leader.as_ref()));
    loop {
        tokio::time::sleep(TICK).await;
        for (node, how) in nodes.newly_ended() {
            out.say(format!(
                "{} (pid {}) {how}; its log: {}\n  to start it again, in another terminal: {}\n",
                node.name,
                node.pid,
                node.log.display(),
                node.command
            ));
        }
        if !nodes.any_alive() {
            bail!("all nodes have exited; the logs are in {}", dir.display());
        }
        let now = cluster::leader(&cluster::statuses(&nodes.http_addresses()).await);
        if let Some(change) = cluster::change(leader.as_ref(), now.as_ref()) {
            out.say(format!("{change}\n"));
            leader = now;
        }
    }
}

async fn wait_until_ready(nodes: &mut Nodes, folder: &Folder) -> Result<Vec<Status>> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Some((node, how)) = nodes.newly_ended().into_iter().next() {
            bail!(
                "{} {how} before the cluster was ready; the end of {}:\n{}",
                node.name,
                node.log.display(),
                folder::tail(&node.log)
            );
        }
        let statuses = cluster::statuses(&nodes.http_addresses()).await;
        if statuses.iter().all(|status| status.ready) && cluster::leader(&statuses).is_some() {
            return Ok(statuses);
        }
        if Instant::now() > deadline {
            let states = nodes.0.iter().zip(&statuses);
            let states = states.map(|(node, status)| format!("{} {}", node.name, status.said));
            bail!(
                "the cluster was not ready after {} s: {}; the logs are in {}",
                READY_TIMEOUT.as_secs(),
                states.collect::<Vec<_>>().join("; "),
                folder.dir.display()
            );
        }
        tokio::time::sleep(TICK).await;
    }
}

/// The table of nodes, and what to try next.
fn introduction(nodes: &[Node], statuses: &[Status], leader: Option<&Leader>) -> String {
    let row = |cells: [&str; 5]| {
        let [name, http, grpc, role, pid] = cells;
        format!("{name:<7} {http:<23} {grpc:<17} {role:<9} {pid}\n")
    };
    let mut text = format!("\n{}", row(["NODE", "HTTP", "GRPC", "ROLE", "PID"]));
    for (node, status) in nodes.iter().zip(statuses) {
        let (http, grpc) = (format!("http://{}", node.http), node.grpc.to_string());
        let role = status.role.as_deref().unwrap_or("-");
        text += &row([&node.name, &http, &grpc, role, &node.pid.to_string()]);
    }
    text += "\nTry:\n";
    for (node, next) in nodes.iter().zip(["second", "third", "second"]) {
        let port = node.http.port();
        text += &format!("  curl 'http://localhost:{port}/?next={next}'\n");
    }
    if let Some(node) = leader.and_then(|leader| nodes.iter().find(|it| it.name == leader.name)) {
        let Node { pid, name, .. } = node;
        text += &format!("  kill -9 {pid}   # the leader, {name}: another takes over\n");
    }
    text + "\nCtrl-C stops all three.\n\n"
}
