//! Programs in Python: `requests` over HTTP, `grpcio` with reflection over gRPC.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::cluster::{Cluster, Node};
use lockstep_tests::{program, python};

/// For one program.
const DEADLINE: Duration = Duration::from_secs(90);

/// Runs a program of this folder to its end.
async fn run(program: &str, arguments: &[&dyn Display]) -> Result<()> {
    let interpreter = python::environment("http-clients")?.join("bin/python");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http_clients");
    let mut command = Command::new(interpreter);
    command.arg(folder.join(program));
    command.args(arguments.iter().map(ToString::to_string));
    let ended = program::run(command, DEADLINE).await?;
    ensure!(ended.code == Some(0), "{}{}", ended.stdout, ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_session_of_requests_works_through_a_follower_and_keeps_its_connection() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let url = |position: usize| cluster.nodes[position].api().url("");
    run("requests_session.py", &[&url(leader), &url(follower)]).await
}

#[tokio::test]
async fn a_grpc_client_that_knows_the_services_by_reflection_can_use_them() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let address = |node: &Node| node.grpc_address();
    let follower_address = address(&cluster.nodes[follower]);
    let addresses: [&dyn Display; 3] =
        [&"use", &follower_address, &address(&cluster.nodes[leader])];
    run("grpc_channel.py", &addresses).await?;
    for position in (0..3).filter(|it| *it != follower) {
        cluster.nodes[position].kill9()?;
    }
    run("grpc_channel.py", &[&"wait", &follower_address]).await
}
