//! `watch`: what it prints, and that losing its node costs no change.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::process::Process;
use lockstep_tests::program;
use lockstep_tests::wait::wait_for;
use serde_json::Value;

use super::endpoints;
use super::order::Desk;

/// For changes to arrive, also when a node must be replaced first.
const DEADLINE: Duration = Duration::from_secs(60);

/// A watch that runs, and what it has printed.
struct Watch(Process);

impl Watch {
    fn start(desk: &Desk, arguments: &[&str], endpoints: &str) -> Result<Self> {
        let mut command = binaries::lockstep()?;
        command.arg("watch").args(arguments).args(["-e", endpoints]);
        let log = Path::new(&desk.path("watch.log")).to_owned();
        Ok(Self(Process::spawn("watch", command, &log)?))
    }

    /// The changes it has printed as JSON so far.
    fn changes(&self) -> Vec<Value> {
        let lines = self.0.log();
        let documents = lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        documents
            .filter(|line: &Value| line["kind"].is_string())
            .collect()
    }

    async fn wait_for(&self, count: usize) -> Result<Vec<Value>> {
        wait_for(format!("{count} changes"), DEADLINE, async || {
            let changes = self.changes();
            ensure!(
                changes.len() >= count,
                "{} so far:\n{}",
                changes.len(),
                self.0.log()
            );
            Ok(changes)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_survives_the_loss_of_the_node_it_asked() -> Result<()> {
    const ROUNDS: usize = 30;
    let mut desk = Desk::with_orders().await?;
    // It asks a follower first, and the writers ask the others.
    let watched = desk.cluster.follower().await?;
    let order = [watched, (watched + 1) % 3, (watched + 2) % 3];
    let first = desk.json(&["instance", "create", "order/begin"]).await?;
    let from = first["revision"].to_string();
    let arguments = ["order", "--from-revision", &from, "-o", "json"];
    let mut watch = Watch::start(&desk, &arguments, &endpoints(&desk.cluster, order))?;
    watch.wait_for(1).await?;

    desk.endpoints = endpoints(&desk.cluster, order.into_iter().skip(1));
    for round in 0..ROUNDS {
        if round == ROUNDS / 3 {
            watch.wait_for(2).await?;
            desk.cluster.nodes[watched].kill9()?;
        }
        desk.run(&["instance", "create", &format!("order/{round}")])
            .await?;
    }
    let changes = watch.wait_for(1 + ROUNDS).await?;
    let ids: Vec<_> = changes
        .iter()
        .map(|it| it["id"].as_str().unwrap_or_default())
        .collect();
    let expected: Vec<_> = std::iter::once("order/begin".to_owned())
        .chain((0..ROUNDS).map(|round| format!("order/{round}")))
        .collect();
    assert_eq!(ids, expected, "each once, and in order");
    let said = watch.0.log();
    let lost = desk.cluster.nodes[watched].grpc_address().to_string();
    ensure!(
        said.contains("\"lost\"") && said.contains(&lost),
        "it does not say whom it lost: {said}"
    );

    watch.0.signal(libc::SIGINT)?;
    assert_eq!(watch.0.wait(DEADLINE).await?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_compacted_revision_names_the_oldest_one() -> Result<()> {
    let plan = lockstep_tests::cluster::Plan::default().setting("events_max", 8);
    let cluster = lockstep_tests::cluster::Cluster::start_as(plan).await?;
    let all = endpoints(&cluster, 0..3);
    for round in 0..20 {
        let state = ["second", "third", "first"][round % 3];
        super::lockstep(&["next", state, "-e", &all])
            .await?
            .done()?;
    }
    let watch = ["watch", "triad", "--from-revision", "1", "-e", &all];
    let said = super::lockstep(&watch).await?.failed(3)?;
    ensure!(said.contains("compacted"), "{said}");
    // It gives the command that goes on.
    let (_, command) = said.split_once("`lockstep watch ").context("a command")?;
    let command = command.split('`').next().context("a command")?;
    let mut resumed = vec!["watch"];
    resumed.extend(command.split(' '));
    resumed.extend(["--count", "8", "-o", "json", "-e", &all]);
    let changes = super::lockstep(&resumed).await?.done()?;
    assert_eq!(changes.lines().count(), 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_quiet_cluster_ends_with_the_reader_of_its_pipe() -> Result<()> {
    let desk = Desk::with_orders().await?;
    let watch = format!(
        "lockstep watch order --from-revision 1 -e {}",
        desk.endpoints
    );
    let mut piped = binaries::shell(&format!("{watch} | head -n 1"));
    piped.env("PATH", binaries::search_path()?);
    let line = program::run(piped, DEADLINE).await?.done()?;
    ensure!(line.ends_with("order  defined  version 1\n"), "{line:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_can_never_start_is_refused_at_once() -> Result<()> {
    let desk = Desk::with_orders().await?;
    for (watch, code, hint) in [
        (
            &["watch", "order", "--from-revision", "999999999"][..],
            "revision_ahead",
            "`lockstep watch order` starts after the latest revision",
        ),
        (
            &["watch", "--from-revision", "999999999"],
            "revision_ahead",
            "`lockstep watch` starts after the latest revision",
        ),
        (
            &["watch", "none"],
            "unknown_machine",
            "`lockstep machine list` lists the machines",
        ),
        (
            &["watch", "order", "--state", "fourth"],
            "unknown_state",
            "`lockstep machine show order` lists the states",
        ),
    ] {
        let said = desk.ended(watch).await?.failed(1)?;
        ensure!(said.contains(hint), "{watch:?}: {said}");
        if code == "revision_ahead" {
            let named = "revision 999999999 does not exist yet";
            ensure!(said.contains(named), "{watch:?}: {said}");
        }
        let error = desk.rejected(watch).await?;
        assert_eq!(error["code"], code, "{watch:?}: {error}");
        assert_eq!(error["hint"], hint, "{watch:?}");
    }
    Ok(())
}
