//! A real Consul agent on loopback, for one test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tempfile::TempDir;

use crate::ports::Port;

/// How long an agent may take until it answers and leads.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long one request to it may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a start is tried: another process may take the one port that is not kept, Serf's for UDP,
/// between its choice and its use.
const START_ATTEMPTS: usize = 3;

/// A Consul agent: a server of its own, in a folder of its own. Killed when dropped, and when the
/// thread that started it ends, however that comes about: start it from the test's own thread.
pub struct ConsulAgent {
    binary: PathBuf,
    folder: TempDir,
    ports: Ports,
    process: Option<Child>,
}

/// A node as Consul shows it to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// The registration's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Where it is.
    pub address: String,
    /// Its port there.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
}

impl Registration {
    /// The metadata under `key`; empty where there is none.
    pub fn meta(&self, key: &str) -> &str {
        self.meta.get(key).map_or("", String::as_str)
    }
}

impl ConsulAgent {
    /// Starts an agent and waits until it can serve reads and writes.
    ///
    /// The binary is `$LOCKSTEP_CONSUL`, else `consul` on the `PATH`, else the one in
    /// `target/tools/consul`, which `scripts/install-consul` puts there if it is missing.
    pub fn start() -> Result<Self> {
        let binary = find_binary()?;
        let mut failure = None;
        for _ in 0..START_ATTEMPTS {
            let mut agent = Self {
                binary: binary.clone(),
                folder: tempfile::tempdir().context("a folder for consul")?,
                ports: Ports::free()?,
                process: None,
            };
            match agent.resume() {
                Ok(()) => return Ok(agent),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no attempt was made to start consul")?)
    }

    /// Where its HTTP interface is, as `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http_address())
    }

    /// The socket address of its HTTP interface. The same for its whole life.
    pub fn http_address(&self) -> SocketAddr {
        self.ports.http.address()
    }

    /// Kills it. What it stored is kept.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may be dead already; either way it is reaped.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again after [`stop`](Self::stop), at the same address, with what it stored, and
    /// waits until it can serve.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "consul runs already");
        self.process = Some(self.spawn()?);
        self.wait_until_ready()
    }

    /// Kills it and starts it again at the same address without its registrations, as an agent
    /// that was replaced. Its key-value store survives, as the one of Consul's servers does.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        for forgotten in ["services", "checks"] {
            match fs::remove_dir_all(self.data_dir().join(forgotten)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        self.resume()
    }

    /// Pauses it (SIGSTOP): it accepts connections, but does not answer until resumed.
    pub fn freeze(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: libc::c_int) -> Result<()> {
        let process = self.process.as_ref().context("consul does not run")?;
        let id = libc::pid_t::try_from(process.id()).context("a process id fits")?;
        // SAFETY: kill takes no pointers. The child is not reaped yet, so the id is still its own.
        let failed = unsafe { libc::kill(id, signal) } != 0;
        ensure!(!failed, "consul: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Asks it directly: `method` on `path` (`/v1/...`) with `body`. Returns status and answer.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let address = self.http_address();
        let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT)?;
        stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("an answer without a head")?;
        let status = head
            .split(' ')
            .nth(1)
            .context("an answer without a status")?;
        Ok((status.parse()?, body.to_string()))
    }

    /// What its health endpoint says about `service`, narrowed by `query` (`passing&tag=blue`), in
    /// the order of the registrations' ids.
    pub fn health(&self, service: &str, query: &str) -> Result<Vec<Registration>> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "Service")]
            service: Registration,
        }
        let path = format!("/v1/health/service/{service}?{query}");
        let (status, answer) = self.request("GET", &path, "")?;
        ensure!(status == 200, "{path}: {status} {answer}");
        let entries: Vec<Entry> = serde_json::from_str(&answer)?;
        let mut found: Vec<_> = entries.into_iter().map(|entry| entry.service).collect();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(found)
    }

    /// The ids of the registrations that the agent itself holds, healthy or not.
    pub fn registered(&self) -> Result<BTreeSet<String>> {
        let (status, answer) = self.request("GET", "/v1/agent/services", "")?;
        ensure!(status == 200, "{status} {answer}");
        let services: BTreeMap<String, IgnoredAny> = serde_json::from_str(&answer)?;
        Ok(services.into_keys().collect())
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("consul.log")
    }

    fn spawn(&self) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = Command::new(&self.binary);
        command
            .args(["agent", "-server", "-bootstrap-expect=1", "-node=test"])
            .args([
                "-bind=127.0.0.1",
                "-client=127.0.0.1",
                "-disable-host-node-id",
            ])
            .args([
                "-dns-port=-1",
                "-grpc-port=-1",
                "-serf-wan-port=-1",
                "-log-level=warn",
            ])
            .arg(format!("-http-port={}", self.ports.http.number()))
            .arg(format!("-serf-lan-port={}", self.ports.serf.number()))
            .arg(format!("-server-port={}", self.ports.server.number()))
            .arg(format!("-data-dir={}", self.data_dir().display()))
            // The shortest election timeout, and no update check.
            .args(["-hcl", "performance { raft_multiplier = 1 }"])
            .args(["-hcl", "disable_update_check = true"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        die_with_this_thread(&mut command);
        command
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))
    }

    /// Ready is an agent whose server answers a consistent read: it leads, and has caught up.
    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait()?
            {
                self.process = None;
                bail!("consul ended with {status}:\n{}", self.log_tail());
            }
            let answer = self.request("GET", "/v1/kv/ready?consistent", "");
            if matches!(answer, Ok((404, _))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("consul is not ready: {answer:?}:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ConsulAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The ports of one agent, kept while it is down.
struct Ports {
    http: Port,
    serf: Port,
    server: Port,
}

impl Ports {
    /// Ports that the system finds free.
    fn free() -> Result<Self> {
        let (http, server) = (Port::free()?, Port::free()?);
        // Serf takes the port for TCP and UDP alike; for UDP without address reuse, so that it cannot
        // be kept for it.
        let serf = loop {
            let tcp = Port::free()?;
            if UdpSocket::bind(tcp.address()).is_ok() {
                break tcp;
            }
        };
        Ok(Self { http, serf, server })
    }
}

/// Has the kernel kill the child when this thread ends, so that no crash of a test leaves one.
fn die_with_this_thread(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl and getppid are called, both async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
}

fn find_binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("LOCKSTEP_CONSUL") {
        let given = PathBuf::from(given);
        ensure!(
            given.is_file(),
            "LOCKSTEP_CONSUL={} is no file",
            given.display()
        );
        return Ok(given);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("consul"));
    if let Some(found) = on_path.into_iter().find(|candidate| candidate.is_file()) {
        return Ok(found);
    }
    installed_binary()
}

/// The binary under `target/`, fetched once by whichever test comes first.
fn installed_binary() -> Result<PathBuf> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock();

    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests have a repository")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || repository.join("target"),
        |target| repository.join(target),
    );
    let prefix = target.join("tools/consul");
    let binary = prefix.join("usr/bin/consul");
    if !binary.is_file() {
        let output = Command::new(repository.join("scripts/install-consul"))
            .arg(&prefix)
            .output()
            .context("running scripts/install-consul")?;
        ensure!(
            output.status.success() && binary.is_file(),
            "consul is neither at LOCKSTEP_CONSUL nor on the PATH, and cannot be installed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(binary)
}
