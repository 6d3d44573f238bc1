//! One run of a program, with its exit code, stdout and stderr.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::process::die_with_this_thread;

/// The first of the programs that is installed. An error names Debian's package of it.
pub fn find(names: &[&str], package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where servers are, which not every user's PATH has.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let folders: Vec<_> = folders.collect();
    let places = |name: &&str| folders.iter().map(|it| it.join(name)).collect::<Vec<_>>();
    let found = names.iter().flat_map(places).find(|it| Path::is_file(it));
    found.with_context(|| {
        format!(
            "there is no {}: install {package} (Debian)",
            names.join(" or ")
        )
    })
}

/// A run that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

/// Runs `command` to its end, without input. At the deadline it is killed, and that is an error.
/// To be awaited on the test's own thread: the kernel kills the program when that thread ends.
pub async fn run(mut command: Command, deadline: Duration) -> Result<Ended> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    die_with_this_thread(&mut command);
    let shown = format!("{command:?}");
    let began = Instant::now();
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(deadline, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{shown} has not ended within {deadline:?}"))?
        .with_context(|| format!("starting {shown}"))?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).context("standard output is UTF-8")?,
        stderr: String::from_utf8(output.stderr).context("standard error is UTF-8")?,
        took: began.elapsed(),
    })
}

impl Ended {
    /// What it wrote to standard output, if it was done and had nothing else to say.
    pub fn done(self) -> Result<String> {
        ensure!(
            self.code == Some(0) && self.stderr.is_empty(),
            "expected success without a complaint, got {self:?}"
        );
        Ok(self.stdout)
    }

    /// Like [`done`](Self::done), for one JSON document.
    pub fn json(self) -> Result<Value> {
        let text = self.done()?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text:?}"))
    }

    /// What it wrote to standard error, if it failed with this exit code and without any data.
    pub fn failed(self, code: i32) -> Result<String> {
        ensure!(
            self.code == Some(code) && self.stdout.is_empty() && !self.stderr.trim().is_empty(),
            "expected exit code {code} with its reason and no data, got {self:?}"
        );
        ensure!(!self.stderr.contains("panicked"), "it panicked: {self:?}");
        Ok(self.stderr)
    }
}
