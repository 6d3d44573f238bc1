//! One child process, its signals and its log.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::wait::wait_for;

/// Lines of a log that are shown when a test fails.
const LOG_TAIL_LINES: usize = 60;

/// A child process whose output goes to a file. Killed when dropped, and when the thread that
/// started it ends, however that comes about: start it from the test's own thread.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` and appends both its outputs to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        die_with_this_thread(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            status: None,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it and its predecessors with the same log have said.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        let this = tokio::sync::Mutex::new(self);
        wait_for(format!("the end of {name}"), deadline, async || {
            this.lock().await.ended()?.context("it runs")
        })
        .await
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: libc::c_int) -> Result<()> {
        ensure!(
            self.ended()?.is_none(),
            "{} has ended already:\n{}",
            self.name,
            tail(&self.log())
        );
        let id = libc::pid_t::try_from(self.id()).context("a process id fits")?;
        // SAFETY: kill takes no pointers. The child is not reaped yet, so the id is still its own.
        ensure!(
            unsafe { libc::kill(id, signal) } == 0,
            "{}: {}",
            self.name,
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// Kills it as a power cut would, and reaps it.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        self.status = Some(self.child.wait()?);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        println!(
            "--- {}, the end of its log ---\n{}",
            self.name,
            tail(&self.log())
        );
    }
}

/// What a log file holds; nothing, if it is a device such as `/dev/full`, which never ends.
pub(crate) fn read_log(path: &Path) -> String {
    if !path.is_file() {
        return String::new();
    }
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Whether a process of this id runs; one that has ended and waits to be reaped does not.
pub fn runs(id: u32) -> bool {
    // After the name in parentheses, which may hold anything, comes the state.
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.starts_with(['Z', 'X']))
    })
}

/// The processes that `parent` has started and that still run.
pub fn children(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent_of_it = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        if parent_of_it == Some(parent.to_string().as_str()) && runs(id) {
            children.push(id);
        }
    }
    Ok(children)
}

/// Has the kernel kill the child when this thread ends, so that no crash of a test leaves one.
pub(crate) fn die_with_this_thread(command: &mut Command) {
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
