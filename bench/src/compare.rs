//! Lockstep beside etcd and PostgreSQL, each as three durable processes on this machine.
//!
//! Every round starts each system anew, one after the other and each round in another order, puts the same load on
//! it, and then kills its leader. Only one system runs at a time. A ratio is taken within a round and shown as the
//! median of all rounds with its spread, because a machine's speed may change between rounds.
//!
//! All are loaded through the same generator, [`lockstep_load`], which shares the cores with them: Lockstep by
//! `lockstep bench`, the others from here. Clients connect to the leader, and eight share a gRPC connection.

mod etcd;
mod lockstep;
mod postgres;
mod table;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use lockstep_load::{Operation, Plan, Report, Service, Stop};
use lockstep_tests::wait::wait_for;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::table::Column;
use crate::generator::{Speed, number};

/// Lockstep beside etcd and PostgreSQL
#[derive(Debug, Args)]
pub struct Compare {
    /// The program etcd; without it, etcd is left out
    #[arg(long, value_name = "FILE")]
    etcd: Option<PathBuf>,
    /// How many times to run each system
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Seconds for each load
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// One round of one second for each load: whether everything works, not how fast
    #[arg(long)]
    quick: bool,
}

/// Clients that share a gRPC connection.
const SHARING: usize = 8;
/// Of one operation.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two writes that look for the new leader.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// In each round.
const KILLS: usize = 3;
/// For a new leader to acknowledge a write.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(60);

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    operation: Operation,
    /// Changes in one request.
    batch: usize,
    clients: usize,
}

impl Load {
    const fn new(operation: Operation, batch: usize, clients: usize) -> Self {
        Self {
            operation,
            batch,
            clients,
        }
    }

    /// In the order in which they run and are shown.
    const ALL: [Self; 9] = [
        Self::new(Operation::Transition, 1, 1),
        Self::new(Operation::Transition, 1, 64),
        Self::new(Operation::Transition, 1, 256),
        Self::new(Operation::Transaction, 1, 256),
        Self::new(Operation::Transition, 100, 64),
        Self::STREAMED,
        Self::new(Operation::Read, 1, 1),
        Self::new(Operation::Read, 1, 64),
        Self::new(Operation::Read, 1, 256),
    ];
    /// Over streams, where a system has them.
    const STREAMED: Self = Self::new(Operation::Transition, 1, 1024);
    /// The one whose cost for each write is shown.
    const COST: Self = Self::new(Operation::Transition, 1, 256);
    /// Before anything is measured.
    const WARM_UP: Self = Self::new(Operation::Transition, 1, 64);

    fn name(self) -> String {
        let clients = match self.clients {
            1 => "1 client".to_owned(),
            clients => format!("{clients} clients"),
        };
        if self == Self::STREAMED {
            return format!("write over a stream, {clients}");
        }
        match (self.operation, self.batch) {
            (Operation::Transition, 1) => format!("write, {clients}"),
            (Operation::Transition, batch) => format!("writes in batches of {batch}, {clients}"),
            (Operation::Transaction, _) => format!("check and write, {clients}"),
            (Operation::Read | Operation::StaleRead, _) => format!("linearizable read, {clients}"),
        }
    }

    fn plan(self, measured: Duration) -> Plan {
        Plan {
            clients: self.clients,
            threads: lockstep_load::threads_default().min(self.clients),
            rate: None,
            warm_up: Duration::ZERO,
            measured,
            overtime: TIMEOUT,
            mix: self.operation.into(),
        }
    }
}

/// What one load measured.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    speed: Speed,
    /// Processor time of all nodes for each change or read.
    cpu_us: f64,
    /// Bytes that all nodes wrote for each change or read.
    written: f64,
    /// Processor time of the generator for each operation.
    generator_us: f64,
}

/// A system under load: three nodes, or what comes closest.
trait System {
    /// What it is, and how it is reached.
    fn name(&self) -> String;

    /// The process of each node, which may have children.
    fn processes(&self) -> Vec<u32>;

    /// Whether it takes a load.
    fn takes(&self, load: Load) -> bool {
        load != Load::STREAMED
    }

    /// Puts a load on it.
    async fn load(&self, load: Load, measured: Duration) -> Result<Value>;

    /// Kills the leader, and starts it again; returns how long no write was acknowledged. None where no node takes
    /// over.
    async fn fail_over(&mut self) -> Result<Option<Duration>>;
}

impl Compare {
    pub async fn run(self) -> Result<()> {
        let (rounds, seconds) = match self.quick {
            true => (1, 1),
            false => (usize::from(self.rounds), self.seconds),
        };
        let measured = Duration::from_secs(seconds);
        let mut columns: Vec<Column> = Vec::new();
        let mut left_out = Vec::new();
        let mut contenders = vec![
            Contender::LockstepHttp,
            Contender::LockstepGrpc,
            Contender::Postgres,
        ];
        match self.etcd {
            Some(program) => contenders.push(Contender::Etcd(program)),
            None => left_out.push("etcd: no program was given (--etcd)".to_owned()),
        }
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}");
            let mut able = Vec::new();
            for contender in contenders {
                match contender.one_round(measured).await {
                    Ok(column) => table::add(&mut columns, column),
                    // The comparison is about Lockstep.
                    Err(error) if contender.is_own() => return Err(error),
                    Err(error) => {
                        left_out.push(format!("{error:#}"));
                        continue;
                    }
                }
                able.push(contender);
            }
            contenders = able;
            contenders.rotate_left(1);
        }
        // Below the logs of all processes.
        println!(
            "===== comparison\n{}",
            table::markdown(&columns, rounds, measured)
        );
        for reason in left_out {
            println!("Left out: {reason}");
        }
        Ok(())
    }
}

/// What is compared.
enum Contender {
    LockstepHttp,
    LockstepGrpc,
    Postgres,
    /// The program.
    Etcd(PathBuf),
}

impl Contender {
    fn is_own(&self) -> bool {
        matches!(self, Self::LockstepHttp | Self::LockstepGrpc)
    }

    async fn one_round(&self, measured: Duration) -> Result<Column> {
        match self {
            Self::LockstepHttp => one_round(lockstep::Nodes::start("http").await?, measured).await,
            Self::LockstepGrpc => one_round(lockstep::Nodes::start("grpc").await?, measured).await,
            Self::Postgres => {
                let servers = postgres::Servers::start().await.context("PostgreSQL");
                one_round(servers?, measured).await
            }
            Self::Etcd(program) => {
                let members = etcd::Members::start(program).await.context("etcd");
                one_round(members?, measured).await
            }
        }
    }
}

/// Measures a system that has just started.
async fn one_round(mut system: impl System, measured: Duration) -> Result<Column> {
    let mut column = Column::new(system.name());
    system.load(Load::WARM_UP, measured).await?;
    for load in Load::ALL {
        if !system.takes(load) {
            continue;
        }
        let before = usage::of(&system.processes())?;
        let report = system.load(load, measured).await?;
        let used = usage::of(&system.processes())?.since(before);
        let figures = figures(&report, used)?;
        eprintln!("{}: {}: {figures:?}", column.name, load.name());
        column.loads.push((load, vec![figures]));
    }
    column.memory.push(usage::memory(&system.processes())?);
    for _ in 0..KILLS {
        let gap = system.fail_over().await?;
        eprintln!("{}: leader killed: {gap:?}", column.name);
        column.gaps.extend(gap);
    }
    Ok(column)
}

/// Loads a service from this process.
async fn load_from_here<S: Service>(service: S, load: Load, measured: Duration) -> Result<Value> {
    let plan = load.plan(measured);
    let recorded = lockstep_load::run(service, &plan, &Stop::default(), |_, _| ()).await;
    let record = recorded.map_err(|failed| anyhow::anyhow!("{}", failed.message))?;
    if let Some(failures) = record.total().failed.values().next() {
        bail!(
            "{} failed, for example: {}",
            failures.count,
            failures.first.message
        );
    }
    Ok(serde_json::to_value(Report::new(
        &record,
        load.batch as u64,
    ))?)
}

/// The figures of a report.
fn figures(report: &Value, used: usage::Used) -> Result<Figures> {
    let items = number(&report["total"], "items")?.max(1.);
    Ok(Figures {
        speed: Speed::of(report)?,
        cpu_us: used.cpu.as_secs_f64() * 1e6 / items,
        written: used.written as f64 / items,
        generator_us: number(report, "generator_cpu_us")?,
    })
}

/// How long after a kill the first write is acknowledged by one of the nodes that are left. Each gets a new write
/// every few milliseconds, whether or not the last was answered, because one that waits for a lost leader may wait
/// for its deadline.
async fn until_acknowledged<W>(killed: Instant, write: impl Fn(usize) -> W) -> Result<Duration>
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let mut writes = JoinSet::new();
    let mut turns = interval(PROBE_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        tokio::select! {
            _ = turns.tick() => {
                writes.spawn(write(number));
                number += 1;
            }
            Some(Ok(Ok(()))) = writes.join_next() => return Ok(killed.elapsed()),
        }
        if killed.elapsed() > FAILOVER_DEADLINE {
            bail!("no write was acknowledged within {FAILOVER_DEADLINE:?}");
        }
    }
}

/// Waits until a system that has just started answers.
async fn started<T>(what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    wait_for(what, Duration::from_secs(60), async || look().await).await
}
