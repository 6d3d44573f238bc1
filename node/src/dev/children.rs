//! The three child processes: started, watched, and never left behind.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::folder::Folder;
use super::{NODE_COUNT, doing};

/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Node {
    pub(super) name: String,
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
    pub(super) pid: u32,
    pub(super) log: PathBuf,
    /// The command that starts it again.
    pub(super) command: String,
    child: Child,
    ended: bool,
}

impl Node {
    fn start(folder: &Folder, index: u16, http_port: u16, grpc_port: u16) -> Result<Self> {
        let program = std::env::current_exe().map_err(doing("finding the path of lockstepd"))?;
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let peer = |index| format!("{}={}", name(index), loopback(grpc_port + index));
        let peers: Vec<String> = (0..NODE_COUNT).map(peer).collect();
        let name = name(index);
        let (http, grpc) = (loopback(http_port + index), loopback(grpc_port + index));
        let data_dir = folder.data_dir(&name);
        let args = [
            ("--name", name.clone()),
            ("--data-dir", data_dir.to_string_lossy().into_owned()),
            ("--http-listen", http.to_string()),
            ("--http-advertise", http.to_string()),
            ("--grpc-listen", grpc.to_string()),
            ("--grpc-advertise", grpc.to_string()),
            ("--discovery", "static".into()),
            ("--peers", peers.join(",")),
            ("--expect", NODE_COUNT.to_string()),
        ];
        let args: Vec<String> = args
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_string(), value])
            .collect();
        let log = folder.log(&name);
        let child = spawn(&program, &args, &log)?;
        Ok(Self {
            name,
            http,
            grpc,
            pid: child.id().unwrap_or_default(),
            log,
            command: shell(&program, &args),
            child,
            ended: false,
        })
    }

    /// How the node ended, if it did since the last call.
    fn newly_ended(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let how = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => how(status),
            Err(error) => format!("can no longer be monitored: {error}"),
        };
        self.ended = true;
        Some(how)
    }
}

/// The name of the node with this index.
pub(super) fn name(index: u16) -> String {
    format!("node{}", index + 1)
}

/// All nodes started so far, in order. Dropping this kills those that still run.
#[derive(Default)]
pub(super) struct Nodes(pub(super) Vec<Node>);

impl Nodes {
    /// Starts every node. On an error, those that were started remain in `self`, to be stopped.
    pub(super) fn start(&mut self, folder: &Folder, http_port: u16, grpc_port: u16) -> Result<()> {
        for index in 0..NODE_COUNT {
            self.0
                .push(Node::start(folder, index, http_port, grpc_port)?);
        }
        Ok(())
    }

    /// HTTP addresses. That of an ended node stays: it may be started again by hand.
    pub(super) fn http_addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|node| node.http).collect()
    }

    /// Whether any process runs.
    pub(super) fn any_alive(&self) -> bool {
        self.0.iter().any(|node| !node.ended)
    }

    /// The nodes that ended since the last call, and how.
    pub(super) fn newly_ended(&mut self) -> Vec<(&Node, String)> {
        let hows: Vec<_> = self.0.iter_mut().map(Node::newly_ended).collect();
        let ends = self.0.iter().zip(hows);
        ends.filter_map(|(node, how)| Some((node, how?))).collect()
    }

    /// Sends SIGTERM to every node, waits, kills those that do not stop.
    pub(super) async fn stop(&mut self) {
        let mut alive: Vec<&mut Node> = self.0.iter_mut().filter(|node| !node.ended).collect();
        // `id` is `None` once the process has been reaped, so that no other process gets the signal.
        let pid = |node: &&mut Node| Pid::from_raw(node.child.id()?.try_into().ok()?);
        for pid in alive.iter().filter_map(pid) {
            // It fails only for a process that is gone.
            let _ = kill_process(pid, Signal::TERM);
        }
        let all = futures::future::join_all(alive.iter_mut().map(|node| node.child.wait()));
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            // Skips those that have ended: tokio knows that they were waited for.
            let killed = futures::future::join_all(alive.iter_mut().map(|node| node.child.kill()));
            // A kill fails only for a process that is gone.
            drop(killed.await);
        }
        for node in alive {
            node.ended = true;
        }
    }
}

fn spawn(program: &Path, args: &[String], log: &Path) -> Result<Child> {
    let at_log = || doing(log.display().to_string());
    let out = File::create(log).map_err(at_log())?;
    let err = out.try_clone().map_err(at_log())?;
    let parent = rustix::process::getpid();
    let mut command = Command::new(program);
    command
        .arg("run")
        .args(args)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true);
    // A process group of its own: Ctrl-C in the terminal reaches only this process, which stops the nodes.
    command.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl and getppid.
    unsafe {
        command.pre_exec(move || die_with(parent));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    command
        .spawn()
        .map_err(doing(format!("starting {}", program.display())))
}

/// Has the kernel send SIGTERM to this process when its parent ends, however it ends.
#[cfg(target_os = "linux")]
fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    if rustix::process::getppid() != Some(parent) {
        // The parent ended before the call took effect: there will be no signal.
        return Err(rustix::io::Errno::SRCH.into());
    }
    Ok(())
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(libc::SIGKILL)) => "was killed (SIGKILL)".into(),
        (None, Some(libc::SIGTERM)) => "was terminated (SIGTERM)".into(),
        (None, Some(libc::SIGABRT)) => "aborted (SIGABRT)".into(),
        (None, Some(libc::SIGSEGV)) => "crashed (SIGSEGV)".into(),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// The command as one types it in a shell.
fn shell(program: &Path, args: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    let quote = |word: &str| match word.chars().all(plain) && !word.is_empty() {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let words = [program.to_string_lossy().into_owned(), "run".into()];
    words
        .iter()
        .chain(args)
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_in_words() {
        assert_eq!(how(ExitStatus::from_raw(0x0100)), "ended with exit code 1");
        assert_eq!(how(ExitStatus::from_raw(9)), "was killed (SIGKILL)");
        assert_eq!(how(ExitStatus::from_raw(7)), "was ended by signal 7");
    }

    #[test]
    fn a_command_survives_the_shell() {
        let shown = shell(
            Path::new("/a b/lockstepd"),
            &["--name".into(), "it's".into()],
        );
        assert_eq!(shown, r"'/a b/lockstepd' run --name 'it'\''s'");
    }
}
