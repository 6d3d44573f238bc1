//! A real PostgreSQL server on loopback, for one test.

mod installed;
mod replicated;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use self::installed::{Account, account, find_binaries};
pub use self::replicated::Replicated;
use crate::disk::Disk;
use crate::ports::Port;
use crate::process::{Process, children, runs};
use crate::wait::wait_for;

/// The user whom [`Postgres::address`] names: owns the database, and may nothing beyond it.
pub const USER: &str = "lockstep";
/// Its password.
pub const PASSWORD: &str = "a secret: for tests";
/// The database.
pub const DATABASE: &str = "lockstep";

/// The server's own user, of the system and of the database.
const ADMINISTRATOR: &str = "postgres";
/// How long the server may take to start or to stop; it may have to recover first.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A PostgreSQL server with a data folder of its own. Ended when dropped, and killed when the thread
/// that started it ends, however that comes about: start it from the test's own thread.
pub struct Postgres {
    binaries: PathBuf,
    /// What the data is on, if it is not the folder's own disk. Gone before the folder.
    disk: Option<Disk>,
    folder: TempDir,
    port: Port,
    account: Option<Account>,
    settings: Vec<String>,
    /// The size of a file of its log. Small ones are created faster.
    segment_mib: u8,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with further settings, each as it would stand in its configuration file:
    /// `fsync=off`.
    pub async fn start_with(settings: &[&str]) -> Result<Self> {
        let mut server = Self::lay_out(settings)?;
        server.set_up().await?;
        Ok(server)
    }

    /// Starts a server with further settings whose data is on a disk with room for so many bytes. None
    /// where no disk can be mounted.
    pub async fn start_on_disk(bytes: u64, settings: &[&str]) -> Result<Option<Self>> {
        let mut server = Self::lay_out(settings)?;
        fs::create_dir(server.data())?;
        server.disk = Disk::mount(&server.data(), bytes)?;
        if server.disk.is_none() {
            return Ok(None);
        }
        server.own(&server.data())?;
        server.set_up().await?;
        Ok(Some(server))
    }

    fn lay_out(settings: &[&str]) -> Result<Self> {
        Ok(Self {
            binaries: find_binaries()?,
            disk: None,
            folder: tempfile::tempdir().context("a folder for postgres")?,
            port: Port::free()?,
            account: account()?,
            settings: settings.iter().map(|&it| it.to_owned()).collect(),
            segment_mib: 1,
            process: None,
        })
    }

    /// Starts it for the first time.
    async fn set_up(&mut self) -> Result<()> {
        self.initialize()?;
        self.run().await?;
        let administrator = self.connect(ADMINISTRATOR, "postgres").await?;
        let user = format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'");
        administrator.batch_execute(&user).await?;
        let database = format!("CREATE DATABASE {DATABASE} OWNER {USER}");
        administrator.batch_execute(&database).await?;
        Ok(())
    }

    /// Where it is, without a password. The same for its whole life.
    pub fn address(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{DATABASE}", self.port())
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The id of its first process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A connection to the database as its owner.
    pub async fn client(&self) -> Result<Client> {
        self.connect(USER, DATABASE).await
    }

    /// A connection to the database as its superuser.
    pub async fn administrator(&self) -> Result<Client> {
        self.connect(ADMINISTRATOR, DATABASE).await
    }

    /// Puts a file beside its data that it alone may read; returns where.
    pub fn put(&self, name: &str, contents: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, contents)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.own(&path)?;
        Ok(path)
    }

    /// The disk that its data is on, if that is one of its own.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Adds a setting, which holds from the next [`restart`](Self::restart) on.
    pub fn set(&mut self, setting: String) {
        self.settings.push(setting);
    }

    /// Kills all its processes as a power cut would.
    pub async fn kill9(&mut self) -> Result<()> {
        // None of them can start another one meanwhile.
        let backends = self.pause()?;
        let mut process = self.process.take().context("postgres does not run")?;
        process.kill9()?;
        for &id in &backends {
            // It is stopped, so it cannot have ended and its id cannot be another's.
            signal(id, libc::SIGKILL)?;
        }
        wait_for("the end of postgres", READY_DEADLINE, async || {
            let left = backends.iter().filter(|&&id| runs(id)).count();
            ensure!(left == 0, "{left} of its processes run");
            Ok(())
        })
        .await
    }

    /// Stops it: it breaks its connections off and writes everything down.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("postgres does not run")?;
        process.signal(libc::SIGINT)?;
        let status = process.wait(READY_DEADLINE).await?;
        ensure!(status.success(), "postgres ended with {status}");
        Ok(())
    }

    /// Whether it was started, and neither stopped nor killed since.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it again, at the same address, after [`stop`](Self::stop) or [`kill9`](Self::kill9);
    /// if it runs, it is stopped first.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.stop().await?;
        }
        self.run().await
    }

    /// Waits until it answers after trouble of its own; if that has ended it, it is started again.
    pub async fn recover(&mut self) -> Result<()> {
        let server = tokio::sync::Mutex::new(self);
        wait_for("postgres to recover", READY_DEADLINE, async || {
            let mut server = server.lock().await;
            let ended = server.process.as_mut().map(Process::ended).transpose()?;
            if !matches!(ended, Some(None)) {
                server.process = None;
                return server.run().await;
            }
            server.administrator().await.map(drop)
        })
        .await
    }

    /// Pauses all its processes (SIGSTOP); returns those except the first.
    pub fn pause(&mut self) -> Result<Vec<u32>> {
        let process = self.process.as_mut().context("postgres does not run")?;
        process.signal(libc::SIGSTOP)?;
        let backends = children(process.id())?;
        for &id in &backends {
            signal(id, libc::SIGSTOP)?;
        }
        Ok(backends)
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("postgres does not run")?;
        for id in children(process.id())? {
            signal(id, libc::SIGCONT)?;
        }
        process.signal(libc::SIGCONT)
    }

    /// Keeps a copy of its data as it is now, for [`restore`](Self::restore). It must be stopped.
    pub fn save(&self) -> Result<()> {
        self.copy(&self.data(), &self.saved())
    }

    /// Puts the data back as it was when it was saved. It must be stopped.
    pub fn restore(&self) -> Result<()> {
        self.copy(&self.saved(), &self.data())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        ensure!(self.process.is_none(), "postgres runs");
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        let mut command = Command::new("cp");
        finish(command.arg("-a").arg(from).arg(to))
    }

    async fn connect(&self, user: &str, database: &str) -> Result<Client> {
        let (client, connection) = Config::new()
            .host("127.0.0.1")
            .port(self.port())
            .user(user)
            .password(PASSWORD)
            .dbname(database)
            .connect_timeout(READY_DEADLINE)
            .connect(NoTls)
            .await?;
        // Ends when the client is dropped; whoever waits for an answer gets an error.
        tokio::spawn(connection);
        Ok(client)
    }

    fn initialize(&self) -> Result<()> {
        self.own(self.folder.path())?;
        let password = self.put("password", PASSWORD.as_bytes())?;
        let mut command = self.command("initdb");
        command
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"])
            .args(["--no-sync", "--username", ADMINISTRATOR])
            .arg(format!("--wal-segsize={}", self.segment_mib))
            .arg("--pwfile")
            .arg(password)
            .arg("--pgdata")
            .arg(self.data());
        finish(&mut command)
    }

    async fn run(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "postgres runs already");
        let port = format!("port={}", self.port());
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        // In the data folder, where nothing stays behind of a server that was killed.
        let fixed = [
            &port,
            &sockets,
            "listen_addresses=127.0.0.1",
            "dynamic_shared_memory_type=mmap",
        ];
        for setting in fixed
            .into_iter()
            .chain(self.settings.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        let log = self.folder.path().join("postgres.log");
        self.process = Some(Process::spawn("postgres", command, &log)?);
        let server = tokio::sync::Mutex::new(self);
        wait_for("postgres to answer", READY_DEADLINE, async || {
            let mut server = server.lock().await;
            if let Some(process) = &mut server.process
                && let Some(status) = process.ended()?
            {
                bail!("it ended with {status}");
            }
            server.connect(ADMINISTRATOR, "postgres").await?;
            Ok(())
        })
        .await
    }

    /// Gives a file or a folder to whom the server runs as.
    fn own(&self, path: &Path) -> Result<()> {
        if let Some(account) = self.account {
            chown(path, Some(account.user), Some(account.group))?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn saved(&self) -> PathBuf {
        self.folder.path().join("saved")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        // It removes its shared memory itself if it may; dropping the process kills it.
        let end = Instant::now() + Duration::from_secs(5);
        let _ = process.signal(libc::SIGQUIT);
        let _ = process.signal(libc::SIGCONT);
        while matches!(process.ended(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Sends a signal to one of the server's processes; one that has ended meanwhile needs none.
fn signal(id: u32, signal: libc::c_int) -> Result<()> {
    let id = libc::pid_t::try_from(id).context("a process id fits")?;
    // SAFETY: kill takes no pointers.
    if unsafe { libc::kill(id, signal) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error.into()),
    }
}
