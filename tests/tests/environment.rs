//! What `lockstepd` makes of variables that begin like those of its settings and belong to none.

use anyhow::{Result, ensure};
use lockstep_tests::binaries::lockstepd;
use lockstep_tests::cluster::{Cluster, Plan, READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::dev::Place;
use lockstep_tests::process::Process;
use lockstep_tests::program;
use lockstep_tests::wait::wait_for;

/// What Kubernetes and Docker set for a service named `lockstep`.
const OF_A_SERVICE: [(&str, &str); 8] = [
    ("LOCKSTEP_PORT", "tcp://10.3.104.46:80"),
    ("LOCKSTEP_PORT_3333_TCP", "tcp://10.3.104.46:3333"),
    ("LOCKSTEP_PORT_3333_TCP_ADDR", "10.3.104.46"),
    ("LOCKSTEP_PORT_3333_TCP_PORT", "3333"),
    ("LOCKSTEP_SERVICE_HOST", "10.3.104.46"),
    ("LOCKSTEP_SERVICE_PORT_HTTP", "3333"),
    ("LOCKSTEP_HEADLESS_SERVICE_HOST", "10.3.104.47"),
    ("LOCKSTEP_ENV_PATH", "/bin"),
];
/// What Docker sets for a link to a container named `lockstep`: the node's name is then in its flag.
const OF_A_LINK: (&str, &str) = ("LOCKSTEP_NAME", "/app/lockstep");
/// What set a limit in an earlier build. It is an error: ignored, it would leave the limit of the cluster as it is.
const LIMIT: (&str, &str) = ("LOCKSTEP_LIMITS_EVENTS_MAX", "7");
const CURE: &str = "`lockstep cluster settings set events_max=...`";

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_a_service_of_that_name_disturb_no_command() -> Result<()> {
    let mut check = lockstepd()?;
    check.args(["check-config", "--name", "node1"]);
    check.envs(OF_A_SERVICE).envs([OF_A_LINK]);
    program::run(check, STOP_DEADLINE).await?.done()?;

    let mut cluster = Cluster::lay_out(Plan::single())?;
    let node = &mut cluster.nodes[0];
    for (name, value) in OF_A_SERVICE {
        node.set(name, value);
    }
    node.start()?;
    node.wait_ready().await?;
    ensure!(!node.log().contains("is no setting"), "{}", node.log());

    let place = Place::free()?;
    let mut command = place.command(false)?;
    command.envs(OF_A_SERVICE).envs([OF_A_LINK]);
    let log = tempfile::NamedTempFile::new()?;
    let mut dev = Process::spawn("dev", command, log.path())?;
    wait_for("three nodes", READY_DEADLINE, async || {
        ensure!(dev.log().contains("Ctrl-C stops"), "{}", dev.log());
        Ok(())
    })
    .await?;
    dev.signal(libc::SIGTERM)?;
    let status = dev.wait(STOP_DEADLINE).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_an_earlier_build_is_refused_by_every_command() -> Result<()> {
    let mut check = lockstepd()?;
    check
        .args(["check-config", "--name", "node1"])
        .envs([LIMIT]);
    let fault = program::run(check, STOP_DEADLINE).await?.failed(2)?;
    ensure!(fault.contains(CURE), "{fault}");

    let cluster = Cluster::lay_out(Plan::single())?;
    let mut run = cluster.nodes[0].command()?;
    run.envs([LIMIT]);
    let fault = program::run(run, STOP_DEADLINE).await?.failed(2)?;
    ensure!(fault.contains(CURE), "{fault}");

    let place = Place::free()?;
    let mut dev = place.command(false)?;
    dev.envs([LIMIT]);
    let ended = program::run(dev, READY_DEADLINE).await?;
    ensure!(ended.code == Some(1), "{ended:?}");
    ensure!(ended.stderr.contains(CURE), "{ended:?}");
    Ok(())
}
