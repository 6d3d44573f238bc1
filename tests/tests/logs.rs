//! If standard error is closed, full or slow, the node keeps serving, and counts the log lines that it drops.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::http::Api;
use lockstep_tests::ports::Port;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use tokio::process::{Child, Command};

const DEADLINE: Duration = Duration::from_secs(30);

/// A cluster of one node that logs a lot, with this standard error. Killed when dropped.
struct Node {
    child: Child,
    api: Api,
    _folder: tempfile::TempDir,
    _ports: [Port; 2],
}

impl Node {
    async fn start(stderr: impl Into<Stdio>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = [Port::free()?, Port::free()?];
        let [http, grpc] = [ports[0].address(), ports[1].address()];
        let mut command = Command::from(binaries::lockstepd()?);
        let child = command
            .arg("run")
            .env("LOCKSTEP_NAME", "solo")
            .env("LOCKSTEP_DATA_DIR", folder.path())
            .env("LOCKSTEP_HTTP_LISTEN", http.to_string())
            .env("LOCKSTEP_GRPC_LISTEN", grpc.to_string())
            .env("LOCKSTEP_DISCOVERY", "static")
            .env("LOCKSTEP_PEERS", format!("solo={grpc}"))
            .env("LOCKSTEP_LOG_FILTER", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()?;
        let node = Self {
            child,
            api: Api::new(http),
            _folder: folder,
            _ports: ports,
        };
        wait_for("a node that is ready", DEADLINE, async || {
            node.api.get("/readyz").await?.expect(StatusCode::OK)
        })
        .await?;
        Ok(node)
    }

    async fn serves(&mut self) -> Result<()> {
        for state in ["second", "third", "first"] {
            self.api.next(state).await?.expect(StatusCode::OK)?;
        }
        ensure!(self.child.try_wait()?.is_none(), "it has ended");
        Ok(())
    }

    async fn lost_lines(&self) -> Result<u64> {
        let metrics = self.api.get("/metrics").await?.text;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("lockstep_log_lines_lost_total "));
        Ok(line.context("the metric")?.parse()?)
    }
}

#[tokio::test]
async fn a_full_disk_behind_the_log_stops_nothing() -> Result<()> {
    let mut node = Node::start(File::options().write(true).open("/dev/full")?).await?;
    node.serves().await?;
    ensure!(node.lost_lines().await? > 0, "every line is lost");
    Ok(())
}

#[tokio::test]
async fn a_reader_of_the_log_that_ends_stops_nothing() -> Result<()> {
    let mut node = Node::start(Stdio::piped()).await?;
    drop(node.child.stderr.take());
    node.serves().await?;
    wait_for("a lost line", DEADLINE, async || {
        ensure!(node.lost_lines().await? > 0, "none is lost");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_reader_of_the_log_that_does_not_read_blocks_nothing() -> Result<()> {
    let mut node = Node::start(Stdio::piped()).await?;
    // More than the pipe and the queue hold.
    wait_for("a lost line", DEADLINE, async || {
        for _ in 0..50 {
            node.api.get("/v1/machines").await?.expect(StatusCode::OK)?;
        }
        ensure!(node.lost_lines().await? > 0, "none is lost");
        Ok(())
    })
    .await?;
    node.serves().await
}
