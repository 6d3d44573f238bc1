//! `docker compose up --build --wait`, as the README says, and what a user does next.
//!
//! The file publishes fixed ports on loopback: one of these tests runs at a time, and none beside a
//! cluster that somebody has started from it.

use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_tests::binaries::lockstep;
use lockstep_tests::compose::{
    CONSUL_PORT, Compose, GRPC_PORTS, HTTP_PORTS, NODES, at, leader, prometheus_says,
    prometheus_targets,
};
use lockstep_tests::docker::skipped;
use lockstep_tests::traffic::Writer;
use reqwest::StatusCode;
use tokio::sync::Mutex;

/// A killed leader must be replaced, and writes must go on, within this.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);
/// For writes that nothing hinders.
const WRITES_DEADLINE: Duration = Duration::from_secs(30);

/// For a runner that runs the tests of one file at once.
static PORTS: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_healthy_and_prometheus_sees_every_node() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let _alone = PORTS.lock().await;
    let compose = Compose::new().await?;
    compose.up().await?;
    let expected = [NODES.as_slice(), &["consul", "prometheus"]].concat();
    let mut expected: Vec<_> = expected
        .iter()
        .map(|name| (name.to_string(), "healthy".to_owned()))
        .collect();
    expected.sort();
    assert_eq!(compose.health().await?, expected);

    // A move through one port is seen through every other, HTTP and gRPC.
    for (port, to) in HTTP_PORTS.into_iter().zip(["second", "third", "first"]) {
        at(port).next(to).await?.expect(StatusCode::OK)?;
        for reader in HTTP_PORTS {
            assert_eq!(at(reader).state().await?, to, "read from {reader}");
        }
        for reader in GRPC_PORTS {
            let endpoint = format!("127.0.0.1:{reader}");
            let output = lockstep()?.args(["-e", &endpoint, "get"]).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && said.contains(to),
                "{endpoint}: {output:?}"
            );
        }
    }
    let registered = at(CONSUL_PORT)
        .get("/v1/health/service/lockstep?passing")
        .await?
        .expect(StatusCode::OK)?
        .json()?;
    assert_eq!(registered.as_array().context("a list")?.len(), NODES.len());

    prometheus_says(&[
        ("sum(up{job=\"app\"})", 3.0),
        ("sum(lockstep_is_leader)", 1.0),
        ("sum(lockstep_has_leader)", 3.0),
        ("sum(lockstep_ready)", 3.0),
        ("count(count by (version) (lockstep_build_info))", 1.0),
        // Every node applied the three moves of above, and exported them.
        ("min(sum by (instance) (lockstep_transitions_total))", 3.0),
        ("max(sum by (instance) (lockstep_transitions_total))", 3.0),
    ])
    .await?;
    assert_eq!(prometheus_targets().await?, ["up"; 3]);

    compose.run(&["down", "-v"]).await?;
    assert_eq!(compose.left_over().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_or_stopped_is_replaced_and_comes_back() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let _alone = PORTS.lock().await;
    let compose = Compose::new().await?;
    compose.up().await?;
    prometheus_says(&[("sum(up{job=\"app\"})", 3.0)]).await?;

    let killed = leader().await?;
    let through = at(HTTP_PORTS[(killed + 1) % 3]);
    let writer = Writer::persistent(&through).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    compose
        .run(&["kill", "-s", "SIGKILL", NODES[killed]])
        .await?;
    writer.wait_for_more(20, FAILOVER_DEADLINE).await?;
    // The dead one is no target any more, and one of the others leads.
    prometheus_says(&[
        ("sum(up{job=\"app\"})", 2.0),
        ("count(up{job=\"app\"})", 2.0),
        ("sum(lockstep_is_leader)", 1.0),
        ("sum(lockstep_has_leader)", 2.0),
    ])
    .await?;
    compose.run(&["start", NODES[killed]]).await?;
    compose.up().await?;
    prometheus_says(&[
        ("sum(up{job=\"app\"})", 3.0),
        ("sum(lockstep_is_leader)", 1.0),
        ("sum(lockstep_has_leader)", 3.0),
    ])
    .await?;
    let written = writer.finish().await?;
    for port in HTTP_PORTS {
        assert_eq!(at(port).instance().await?.1, written.revision);
    }

    // Asked to stop, a leader hands over: no request through another port fails, and it leaves in
    // order and in time, which is exit code 0 and not the 137 of one that had to be killed.
    let stopped = leader().await?;
    let through = at(HTTP_PORTS[(stopped + 1) % 3]);
    let writer = Writer::strict(&through).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    compose.run(&["stop", NODES[stopped]]).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    assert_eq!(compose.exit_code(NODES[stopped]).await?, 0);
    assert_eq!(through.instance().await?.1, written.revision);
    Ok(())
}
