//! `docker compose up --build --wait`, as the README says, and what a user does next.
//!
//! It uses other ports than the file, because a cluster started from it may run; a test of its own
//! checks the ports.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_raft::failpoints::Failpoint;
use lockstep_tests::binaries::lockstep;
use lockstep_tests::compose::{Compose, NODES, PORTS};
use lockstep_tests::docker::skipped;
use lockstep_tests::members::{id_of, wait_for_new_id};
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use lockstep_tests::walkthrough::{Terminal, examples};
use reqwest::StatusCode;

/// A killed leader must be replaced, and writes must go on, within this.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);
/// For writes that nothing hinders.
const WRITES_DEADLINE: Duration = Duration::from_secs(30);
/// For a transition to be seen in a database: it is there within a second of its commit, and each look
/// starts a process in a container on a busy machine.
const FOLLOWED_DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn every_port_is_published_on_loopback_and_is_the_documented_one() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut documented = PORTS.map(|(_, port)| format!("127.0.0.1:{port}"));
    documented.sort();
    assert_eq!(Compose::new().await?.default_ports().await?, documented);
    Ok(())
}

/// The program is a release build: nothing in it can be told to kill it.
async fn has_no_failpoints(compose: &Compose) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("lockstepd");
    let to = program.display().to_string();
    compose
        .run(&["cp", "node1:/usr/local/bin/lockstepd", &to])
        .await?;
    let bytes = std::fs::read(program)?;
    let text = String::from_utf8_lossy(&bytes);
    let names = Failpoint::ALL.iter().map(|it| it.name());
    let found: Vec<_> = names
        .chain(["FAILPOINTS"])
        .filter(|it| text.contains(it))
        .collect();
    ensure!(found.is_empty(), "it has {found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_compose_up_build_starts_a_healthy_cluster_that_prometheus_scrapes() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let compose = Compose::building().await?;
    compose.up().await?;
    let prometheus = compose.prometheus();
    let expected = [NODES.as_slice(), &["consul", "prometheus"]].concat();
    let mut expected: Vec<_> = expected
        .iter()
        .map(|name| (name.to_string(), "healthy".to_owned()))
        .collect();
    expected.sort();
    assert_eq!(compose.health().await?, expected);
    has_no_failpoints(&compose).await?;

    // A move through one port is seen through every other, HTTP and gRPC.
    for (node, to) in ["second", "third", "first"].into_iter().enumerate() {
        compose.http(node).next(to).await?.expect(StatusCode::OK)?;
        for (reader, name) in NODES.into_iter().enumerate() {
            let read = compose.http(reader).state().await?;
            assert_eq!(read, to, "read from {name}");
            let endpoint = compose.grpc(reader).to_string();
            let output = lockstep()?.args(["-e", &endpoint, "get"]).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && said.contains(to),
                "{endpoint}: {output:?}"
            );
        }
    }
    let registered = compose
        .consul()
        .get("/v1/health/service/lockstep?passing")
        .await?
        .expect(StatusCode::OK)?
        .json()?;
    assert_eq!(registered.as_array().context("a list")?.len(), NODES.len());

    prometheus
        .says(&[
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
    assert_eq!(prometheus.targets().await?, ["up"; 3]);

    compose.run(&["down", "-v"]).await?;
    assert_eq!(compose.left_over().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_or_stopped_is_replaced_and_comes_back() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let compose = Compose::new().await?;
    compose.up().await?;
    let prometheus = compose.prometheus();
    prometheus.says(&[("sum(up{job=\"app\"})", 3.0)]).await?;

    let killed = compose.leader().await?;
    let through = compose.http((killed + 1) % 3);
    let writer = Writer::persistent(&through).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    compose
        .run(&["kill", "-s", "SIGKILL", NODES[killed]])
        .await?;
    writer.wait_for_more(20, FAILOVER_DEADLINE).await?;
    // The dead one is no target any more, and one of the others leads.
    prometheus
        .says(&[
            ("sum(up{job=\"app\"})", 2.0),
            ("count(up{job=\"app\"})", 2.0),
            ("sum(lockstep_is_leader)", 1.0),
            ("sum(lockstep_has_leader)", 2.0),
        ])
        .await?;
    compose.run(&["start", NODES[killed]]).await?;
    compose.up().await?;
    prometheus
        .says(&[
            ("sum(up{job=\"app\"})", 3.0),
            ("sum(lockstep_is_leader)", 1.0),
            ("sum(lockstep_has_leader)", 3.0),
        ])
        .await?;
    let written = writer.finish().await?;
    for node in compose.https() {
        assert_eq!(node.instance().await?.1, written.revision);
    }

    // Asked to stop, a leader hands over: no request through another port fails, and it leaves in
    // order and in time, which is exit code 0 and not the 137 of one that had to be killed.
    let stopped = compose.leader().await?;
    let through = compose.http((stopped + 1) % 3);
    let writer = Writer::strict(&through).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    compose.run(&["stop", NODES[stopped]]).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    assert_eq!(compose.exit_code(NODES[stopped]).await?, 0);
    assert_eq!(through.instance().await?.1, written.revision);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_volume_is_removed_takes_its_own_place_and_writes_continue() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let compose = Compose::new().await?;
    compose.up().await?;
    let api = compose.http(0);
    let before = id_of(&api, "node2").await?;
    let writer = Writer::persistent(&api).await?;
    compose.run(&["rm", "-sfv", "node2"]).await?;
    compose.remove_volume("node2").await?;
    writer.wait_for_more(20, FAILOVER_DEADLINE).await?;
    compose.up().await?;
    wait_for_new_id(&api, "node2", &before).await?;
    assert_eq!(api.members().await?.len(), 3);
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    for node in compose.https() {
        assert_eq!(node.instance().await?.1, written.revision);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_profile_postgres_shows_transitions_arrive_in_a_database() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let compose = Compose::with_profile("postgres").await?;
    compose.up().await?;
    let healthy = ("postgres".to_owned(), "healthy".to_owned());
    assert!(compose.health().await?.contains(&healthy));
    for to in ["second", "third"] {
        compose.http(0).next(to).await?.expect(StatusCode::OK)?;
        followed(&compose, to).await?;
    }

    // It goes on where it was when the database comes back, with what happened meanwhile.
    compose.run(&["stop", "postgres"]).await?;
    assert_eq!(compose.exit_code("postgres").await?, 0);
    compose
        .http(1)
        .next("first")
        .await?
        .expect(StatusCode::OK)?;
    compose.run(&["start", "postgres"]).await?;
    followed(&compose, "first").await?;

    compose.run(&["down", "-v"]).await?;
    assert_eq!(compose.left_over().await?, Vec::<String>::new());
    Ok(())
}

/// Waits until the database says that the built-in instance is in `state`.
async fn followed(compose: &Compose, state: &str) -> Result<()> {
    let query = "select machine, instance, state from lockstep.instances";
    let expected = format!("triad|default|{state}");
    wait_for(
        format!("{expected} in the database"),
        FOLLOWED_DEADLINE,
        async || {
            let rows = compose.psql(query).await?;
            ensure!(rows.lines().any(|row| row == expected), "{rows}");
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run_as_written() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let compose = Compose::new().await?;
    compose.up().await?;
    let terminal = Terminal::of(compose.addresses())?;
    for document in examples()?.values() {
        terminal.run(document).await?;
    }
    Ok(())
}
