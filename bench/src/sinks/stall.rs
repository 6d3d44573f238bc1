//! Whether commits wait for a sink: their rate and latency without a sink, with one that keeps up, and with
//! one whose destination accepts connections but never answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bulk::{Entrances, create, numbered};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::after;
use lockstep_tests::sinks::Destination;
use lockstep_tests::wait::wait_for;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{lag, stage};
use crate::figures::{Latencies, P99, latencies, shown};

/// Of each kind.
const ROUNDS: usize = 3;
const WRITERS: usize = 64;
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// For a sink to write what it was behind when its round ended.
const CAUGHT_UP_DEADLINE: Duration = Duration::from_secs(300);

/// The kind of sink in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Following,
    Stalled,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Nothing, Self::Following, Self::Stalled];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Following => "following",
            Self::Stalled => "stalled",
        }
    }
}

/// What was measured in one round, or in the middle of several.
#[derive(Debug, Clone, Copy)]
struct Figures {
    answers_per_second: f64,
    latencies: Latencies,
}

pub async fn run<F: Destination>(kind: &str, make: impl AsyncFn() -> Result<F>) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!(
        "A {kind} sink; {WRITERS} writers for {} s a round. Nodes, writers and destination share\n\
         {cores} cores: beside a sink that follows, commits lose what the destination takes of them.\n",
        MEASURED.as_secs()
    );
    let mut measured = Vec::new();
    let mut rows = Vec::new();
    for round in 1..=ROUNDS {
        for beside in Beside::ALL {
            let (figures, behind) = one_round(beside, &make).await?;
            let behind = behind.map_or("-".to_owned(), |behind| behind.to_string());
            let row = format!("| {round} | {} | {figures} | {behind} |", beside.name());
            // Shown at once, and below as one table, not between the logs of the clusters.
            eprintln!("{row}");
            rows.push(row);
            measured.push((beside, figures));
        }
    }
    println!("\n| round | sink | answers/s | p50 | p99 | p99.9 | max | events behind at the end |");
    println!("|---:|---|---:|---:|---:|---:|---:|---:|");
    println!("{}", rows.join("\n"));
    summarize(&measured)
}

/// The medians, and what a sink changes about them.
fn summarize(measured: &[(Beside, Figures)]) -> Result<()> {
    println!("\n| median, sink | answers/s | p50 | p99 | p99.9 | max |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut medians = Vec::new();
    for beside in Beside::ALL {
        let rounds = measured.iter().filter(|(of, _)| *of == beside);
        let figures = Figures::median(rounds.map(|(_, figures)| *figures).collect())?;
        println!("| {} | {figures} |", beside.name());
        medians.push((beside, figures));
    }
    let (_, none) = medians[0];
    println!();
    for (beside, figures) in &medians[1..] {
        println!(
            "{}/none: {:.3} of the answers/s, {:.3} of the p99",
            beside.name(),
            figures.answers_per_second / none.answers_per_second,
            figures.latencies[P99].as_secs_f64() / none.latencies[P99].as_secs_f64()
        );
    }
    Ok(())
}

/// On a cluster, and with a destination, of its own; also how many events the sink was behind when the
/// writers stopped.
async fn one_round<F: Destination>(
    beside: Beside,
    make: &impl AsyncFn() -> Result<F>,
) -> Result<(Figures, Option<u64>)> {
    if beside == Beside::Nothing {
        let cluster = Cluster::start().await?;
        return Ok((write(&cluster).await?, None));
    }
    // As it is by default, not as tests have it.
    let plan = Plan::default()
        .with("LOCKSTEP_SINK_FAR_TIMEOUT", "10s")
        .with("LOCKSTEP_SINK_FAR_RETRY_MAX", "30s");
    let mut stage = stage(make().await?, plan).await?;
    if beside == Beside::Following {
        let figures = write(&stage.cluster).await?;
        let behind = lag(&stage.status().await?)?;
        wait_for("the sink to catch up", CAUGHT_UP_DEADLINE, async || {
            let status = stage.status().await?;
            ensure!(status["lag_events"] == 0, "it is {status}");
            Ok(())
        })
        .await?;
        return Ok((figures, Some(behind)));
    }
    stage.destination.pause().await?;
    let figures = write(&stage.cluster).await;
    let status = stage.status().await;
    // Also after an error: a stopped process cannot end.
    stage.destination.resume().await?;
    let (figures, behind) = (figures?, lag(&status?)?);
    let answers = (figures.answers_per_second * MEASURED.as_secs_f64()) as u64;
    ensure!(
        behind >= answers,
        "{behind} events behind after {answers}: the destination did answer"
    );
    Ok((figures, Some(behind)))
}

/// Each writer moves an instance of its own through the leader, one answer after the other.
async fn write(cluster: &Cluster) -> Result<Figures> {
    let leader = cluster.leader().await?;
    let api = cluster.nodes[leader].api();
    let ids: Vec<String> = (0..WRITERS).map(|n| numbered("triad", n)).collect();
    let creates: Vec<_> = ids.iter().map(|id| create(id)).collect();
    Entrances::new(std::slice::from_ref(api), 0)
        .commit(None, &creates)
        .await?;
    let from = Instant::now() + WARM_UP;
    let mut tasks = JoinSet::new();
    for id in ids {
        let entrance = Entrances::new(std::slice::from_ref(api), 0);
        tasks.spawn(write_one(entrance, id, from));
    }
    let times: Vec<_> = tasks.join_all().await.into_iter().collect::<Result<_>>()?;
    ensure!(
        cluster.leader().await? == leader,
        "another node leads meanwhile"
    );
    let times = times.concat();
    Ok(Figures {
        answers_per_second: times.len() as f64 / MEASURED.as_secs_f64(),
        latencies: latencies(times).context("nothing was answered")?,
    })
}

/// How long each move took that began while it was measured.
async fn write_one(mut leader: Entrances, id: String, from: Instant) -> Result<Vec<Duration>> {
    let (mut state, mut times) = ("first", Vec::new());
    loop {
        let began = Instant::now();
        if began >= from + MEASURED {
            return Ok(times);
        }
        state = after(state);
        leader.transition(&id, state, None).await?;
        if began >= from {
            times.push(began.elapsed());
        }
    }
}

impl Figures {
    /// Each figure's own.
    fn median(mut rounds: Vec<Self>) -> Result<Self> {
        let middle = rounds.len() / 2;
        rounds.sort_by(|a, b| a.answers_per_second.total_cmp(&b.answers_per_second));
        let mut median = *rounds.get(middle).context("no rounds")?;
        for (at, latency) in median.latencies.iter_mut().enumerate() {
            rounds.sort_by_key(|round| round.latencies[at]);
            *latency = rounds[middle].latencies[at];
        }
        Ok(median)
    }
}

impl std::fmt::Display for Figures {
    /// As the columns of a table.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let latencies = shown(Some(self.latencies));
        write!(f, "{:.0} | {latencies}", self.answers_per_second)
    }
}
