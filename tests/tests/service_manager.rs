//! What a service manager such as systemd is told of a node: sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as Socket};

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan, READY_DEADLINE};
use lockstep_tests::held::Held;
use reqwest::StatusCode;
use tokio::net::UnixDatagram;

/// The time within which a sign of life is expected, in microseconds.
const WATCHDOG_USEC: u64 = 1_000_000;

/// Receives messages until one has a line that starts like this, and returns all lines.
async fn told(socket: &UnixDatagram, start: &str) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let receive = async {
        while !lines.iter().any(|line| line.starts_with(start)) {
            let mut message = [0; 4096];
            let length = socket.recv(&mut message).await?;
            let message = std::str::from_utf8(&message[..length])?;
            lines.extend(message.lines().map(str::to_owned));
        }
        Ok::<_, anyhow::Error>(())
    };
    let received = tokio::time::timeout(READY_DEADLINE, receive).await;
    received.with_context(|| format!("waited for {start}"))??;
    Ok(lines)
}

#[tokio::test]
async fn a_service_manager_is_notified_of_start_readiness_liveness_and_stop() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    node.terminate().await?;
    let held = Held::next_start(node)?;
    node.set("NOTIFY_SOCKET", path.display());
    node.set("WATCHDOG_USEC", WATCHDOG_USEC);
    let socket = UnixDatagram::bind(&path)?;
    node.start()?;

    let starting = told(&socket, "EXTEND_TIMEOUT_USEC=").await?;
    let status = "STATUS=not ready: it is opening its log";
    ensure!(starting.iter().any(|line| line == status), "{starting:?}");
    ensure!(
        !starting.iter().any(|line| line == "READY=1"),
        "{starting:?}"
    );

    held.let_go().await?;
    let ready = told(&socket, "READY=1").await?;
    node.api().get("/readyz").await?.expect(StatusCode::OK)?;
    ensure!(ready.iter().any(|line| line == "STATUS=ready"), "{ready:?}");
    for _ in 0..3 {
        let alive = told(&socket, "WATCHDOG=1").await?;
        ensure!(
            !alive.iter().any(|line| line == "READY=1"),
            "twice: {alive:?}"
        );
    }
    node.terminate().await?;
    told(&socket, "STOPPING=1").await?;
    Ok(())
}

#[tokio::test]
async fn an_abstract_socket_is_used_as_well() -> Result<()> {
    let name = format!("lockstep-test-{}", std::process::id());
    let socket = Socket::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    let mut cluster = Cluster::lay_out(Plan::single().with("NOTIFY_SOCKET", format!("@{name}")))?;
    cluster.start_all()?;
    let ready = told(&socket, "READY=1").await?;
    ensure!(!ready.iter().any(|line| line == "WATCHDOG=1"), "{ready:?}");
    Ok(())
}
