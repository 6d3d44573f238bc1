//! If standard error is closed, full or slow, the node keeps serving, and counts the log lines that it drops.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Plan, STOP_DEADLINE};
use lockstep_tests::http::Api;
use lockstep_tests::ports::Port;
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use tokio::process::{Child, Command};

const DEADLINE: Duration = Duration::from_secs(30);
/// So long between two requests that the log keeps up.
const PAUSE: Duration = Duration::from_millis(50);

/// A cluster of one node that logs a lot, with this standard error. Killed when dropped.
struct Node {
    child: Child,
    api: Api,
    _folder: tempfile::TempDir,
    _ports: [Port; 2],
}

impl Node {
    async fn start(stderr: impl Into<Stdio>) -> Result<Self> {
        Self::start_with(Stdio::null(), stderr).await
    }

    async fn start_with(stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Result<Self> {
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
            .stdout(stdout)
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

    async fn lost_lines(&self) -> Result<f64> {
        self.api.metric("lockstep_log_lines_lost_total").await
    }

    /// Makes it log more than a pipe that is not read and its queue hold.
    async fn lose_lines(&self) -> Result<()> {
        wait_for("a lost line", DEADLINE, async || {
            for _ in 0..50 {
                self.api.get("/v1/machines").await?.expect(StatusCode::OK)?;
            }
            ensure!(self.lost_lines().await? > 0.0, "none is lost");
            Ok(())
        })
        .await
    }

    /// Asks it to stop, and returns its exit code.
    async fn terminate(&mut self) -> Result<Option<i32>> {
        let id = libc::pid_t::try_from(self.child.id().context("it has ended")?)?;
        // SAFETY: kill takes no pointers. The child is not reaped yet, so the id is still its own.
        ensure!(
            unsafe { libc::kill(id, libc::SIGTERM) } == 0,
            "it has ended"
        );
        let ended = tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await;
        Ok(ended.context("it does not stop")??.code())
    }
}

#[tokio::test]
async fn a_full_disk_under_the_log_output_stops_nothing() -> Result<()> {
    let mut node = Node::start(File::options().write(true).open("/dev/full")?).await?;
    node.serves().await?;
    ensure!(node.lost_lines().await? > 0.0, "every line is lost");
    Ok(())
}

#[tokio::test]
async fn a_reader_of_the_log_that_ends_stops_nothing() -> Result<()> {
    let mut node = Node::start(Stdio::piped()).await?;
    drop(node.child.stderr.take());
    node.serves().await?;
    wait_for("a lost line", DEADLINE, async || {
        ensure!(node.lost_lines().await? > 0.0, "none is lost");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_reader_of_the_log_that_does_not_read_blocks_nothing() -> Result<()> {
    let mut node = Node::start(Stdio::piped()).await?;
    node.lose_lines().await?;
    node.serves().await
}

#[tokio::test]
async fn a_node_whose_log_is_not_read_still_stops() -> Result<()> {
    // Standard output is the same pipe, as after `2>&1 |`; or another one, whose reader has ended.
    for is_same in [true, false] {
        let (unread, writer) = std::io::pipe()?;
        let stdout = match is_same {
            true => writer.try_clone()?,
            false => std::io::pipe()?.1,
        };
        let mut node = Node::start_with(stdout, writer).await?;
        node.lose_lines().await?;
        let code = node.terminate().await?;
        assert_eq!(code, Some(0), "same pipe: {is_same}");
        drop(unread);
    }
    Ok(())
}

#[tokio::test]
async fn lost_lines_are_reported_once_the_log_is_read_again() -> Result<()> {
    let (unread, writer) = std::io::pipe()?;
    let node = Node::start(writer).await?;
    node.lose_lines().await?;
    let lost = node.lost_lines().await?;

    // The thread ends with the node.
    let (lines, mut read) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let all = BufReader::new(unread).lines().map_while(Result::ok);
        all.take_while(|line| lines.send(line.clone()).is_ok())
            .count()
    });
    let report = async {
        while let Some(line) = read.recv().await {
            if let Some((_, lines)) = line.split_once("log lines were lost") {
                return Some(lines.to_owned());
            }
        }
        None
    };
    // What it logs meanwhile makes it write on.
    let serve = async {
        loop {
            node.api.get("/v1/machines").await?.expect(StatusCode::OK)?;
            tokio::time::sleep(PAUSE).await;
        }
    };
    let report = tokio::select! {
        report = tokio::time::timeout(DEADLINE, report) => report?.context("the log ended")?,
        failed = serve => return failed,
    };
    let (_, lines) = report.split_once("lines=").context("how many")?;
    let lines: f64 = lines.trim().parse()?;
    assert!(lines >= lost, "{lines} of at least {lost}");

    // And it logs on.
    while read.try_recv().is_ok() {}
    node.api.get("/v1/machines").await?.expect(StatusCode::OK)?;
    let later = tokio::time::timeout(DEADLINE, read.recv()).await?;
    ensure!(later.is_some(), "the log ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_log_disks_are_full_elects_and_serves() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    for node in &mut cluster.nodes {
        node.log_to("/dev/full");
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
    writer.wait_for_more(10, DEADLINE).await?;
    cluster.nodes[leader].kill9()?;
    writer.wait_for_more(10, DEADLINE).await?;
    let written = writer.finish().await?;
    for node in cluster.running() {
        assert_eq!(node.api().instance().await?.1, written.revision);
        let lost = node.api().metric("lockstep_log_lines_lost_total").await?;
        assert!(lost > 0.0, "{} has lost no line", node.name);
    }
    // None of the others ended.
    cluster.wait_ready().await?;
    assert_ne!(cluster.leader().await?, leader);
    Ok(())
}
