//! A MongoDB for one test: nx-27017, which speaks its wire protocol and keeps its documents in SQLite.
//!
//! `LOCKSTEP_TEST_MONGODB=mongodb://...` has the same tests run against a real server instead, each in a
//! database of its own. Tests that would stop, kill or restore the server are skipped then, with a message.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongodb::{Client, Database};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::ports::Port;
use crate::process::Process;
use crate::python;
use crate::wait::wait_for;

/// How long a server may take until it answers.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Where files are that no disk has to keep: the stand-in syncs after every document, and no test cuts
/// the power.
const MEMORY: &str = "/dev/shm";
/// Why a test does nothing.
const LEFT_OUT: &str = "left out: LOCKSTEP_TEST_MONGODB names a server that others use too";

/// Where a test's documents go. Its database is dropped with it, a stand-in killed: start it from the
/// test's own thread.
pub struct Mongo {
    address: String,
    database: String,
    stand_in: Option<StandIn>,
}

/// A server that is the test's own, at the same address for its whole life.
pub struct StandIn {
    program: PathBuf,
    /// What its data is on, if it is not the folder's own disk. Gone before the folder.
    disk: Option<Disk>,
    folder: TempDir,
    port: Port,
    process: Process,
}

/// What a server held at some time.
pub struct Saved {
    folder: TempDir,
}

impl Mongo {
    /// A database that holds nothing: of the real server that the environment names, else of a
    /// stand-in that is started.
    pub async fn start() -> Result<Self> {
        if let Some(address) = shared() {
            return Ok(Self {
                address,
                database: database(),
                stand_in: None,
            });
        }
        let folder = folder()?;
        Ok(Self::of(StandIn::start(folder, None).await?))
    }

    /// The same, for tests that stop, kill or set the server back; none if it is not theirs, which is
    /// said.
    pub async fn start_own() -> Result<Option<Self>> {
        let mut started = Self::start().await?;
        Ok(started.stand_in().is_some().then_some(started))
    }

    /// A server of the test's own whose data is on a disk with room for so many bytes. None where
    /// there can be none, which is said.
    pub async fn start_on_disk(bytes: u64) -> Result<Option<Self>> {
        if shared().is_some() {
            println!("{LEFT_OUT}");
            return Ok(None);
        }
        let folder = folder()?;
        let data_dir = data(folder.path());
        fs::create_dir(&data_dir)?;
        let Some(disk) = Disk::mount(&data_dir, bytes)? else {
            println!("left out: this user may not mount a disk");
            return Ok(None);
        };
        Ok(Some(Self::of(StandIn::start(folder, Some(disk)).await?)))
    }

    fn of(stand_in: StandIn) -> Self {
        Self {
            address: format!("mongodb://{}", stand_in.port.address()),
            database: database(),
            stand_in: Some(stand_in),
        }
    }

    /// Its address, as a configuration has it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name of the test's database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The database itself, through a client of its own.
    pub async fn connect(&self) -> Result<Database> {
        let client = Client::with_uri_str(&self.address).await?;
        Ok(client.database(&self.database))
    }

    /// Ends the test's use of a server that goes on after it.
    pub async fn leave(&self) -> Result<()> {
        if !self.is_own() {
            self.connect().await?.drop().await?;
        }
        Ok(())
    }

    /// Whether the server ends with the test.
    pub fn is_own(&self) -> bool {
        self.stand_in.is_some()
    }

    /// The server, if it is the test's to stop; if not, says that the test is left out, and why.
    pub fn stand_in(&mut self) -> Option<&mut StandIn> {
        if !self.is_own() {
            println!("{LEFT_OUT}");
        }
        self.stand_in.as_mut()
    }
}

impl StandIn {
    async fn start(folder: TempDir, disk: Option<Disk>) -> Result<Self> {
        let program = find_program()?;
        let port = Port::free()?;
        let process = spawn(&program, folder.path(), &port)?;
        let started = Self {
            program,
            disk,
            folder,
            port,
            process,
        };
        started.wait_until_ready().await?;
        Ok(started)
    }

    /// Kills it as a power cut would. What was acknowledged is kept.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Starts it again after [`kill9`](Self::kill9), with what it held.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.process.ended()?.is_some(), "the stand-in runs already");
        self.process = spawn(&self.program, self.folder.path(), &self.port)?;
        self.wait_until_ready().await
    }

    /// Whether it was started, and not killed since.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// The disk that its data is on, if that is one of its own.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Pauses it (SIGSTOP): it accepts connections, but does not answer until resumed.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(libc::SIGSTOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(libc::SIGCONT)
    }

    /// Keeps a copy of what it holds now.
    pub fn save(&mut self) -> Result<Saved> {
        let saved = Saved { folder: folder()? };
        self.pause()?;
        let copied = copy(&data(self.folder.path()), &data(saved.folder.path()));
        self.resume()?;
        copied?;
        Ok(saved)
    }

    /// Puts it back to what it held when that was saved: it is killed, if it runs, and started again.
    pub async fn restore(&mut self, saved: &Saved) -> Result<()> {
        if self.runs()? {
            self.kill9()?;
        }
        let data_dir = data(self.folder.path());
        fs::remove_dir_all(&data_dir)?;
        copy(&data(saved.folder.path()), &data_dir)?;
        self.restart().await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let address = self.port.address();
        let look = async || Ok(TcpStream::connect(address).map(drop)?);
        wait_for(format!("a stand-in at {address}"), READY_DEADLINE, look)
            .await
            .with_context(|| self.process.log())
    }
}

fn spawn(program: &Path, folder: &Path, port: &Port) -> Result<Process> {
    let data_dir = data(folder);
    fs::create_dir_all(&data_dir)?;
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .args(["--host", "127.0.0.1", "--port", &port.number().to_string()])
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--log-file")
        .arg(folder.join("server.log"))
        .arg("--pid-file")
        .arg(folder.join("server.pid"));
    Process::spawn("nx-27017", command, &folder.join("output.log"))
}

/// The real server that the environment names.
fn shared() -> Option<String> {
    std::env::var("LOCKSTEP_TEST_MONGODB").ok()
}

fn database() -> String {
    format!("lockstep_{:016x}", rand::random::<u64>())
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn folder() -> Result<TempDir> {
    let folder = if Path::new(MEMORY).is_dir() {
        tempfile::tempdir_in(MEMORY)
    } else {
        tempfile::tempdir()
    };
    folder.context("a folder for the stand-in")
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// `$LOCKSTEP_MONGO_STAND_IN`, else the one that is installed under `target/`.
fn find_program() -> Result<PathBuf> {
    let Some(given) = std::env::var_os("LOCKSTEP_MONGO_STAND_IN") else {
        return Ok(python::environment("mongo-stand-in")?.join("bin/nx-27017"));
    };
    let given = PathBuf::from(given);
    ensure!(
        given.is_file(),
        "LOCKSTEP_MONGO_STAND_IN={} is no file",
        given.display()
    );
    Ok(given)
}
