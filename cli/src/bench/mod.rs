//! `lockstep bench`.
//!
//! Creates instances of the built-in machine, has clients change and read them for a while, shows rates and
//! latencies, and deletes the instances. [`lockstep_load`] decides when operations are sent and records how long
//! they took; [`cluster`] is the cluster as it loads one, over [`http`] or gRPC.

mod cluster;
mod http;
mod instances;
mod show;

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lockstep_client::{Address, Client, Consistency, Metadata, TIMEOUT_DEFAULT};
use lockstep_load::{Chart, Mix, Operation, Plan, Record, Report, Stop, threads_default};

use self::cluster::Cluster;
use self::instances::Instances;
use super::args;
use super::failure::{Exit, Failure};
use super::progress::Progress;
use super::{Context, output};

const EXAMPLES: &str = "\
Each client has instances of its own and moves them along their transitions, one operation after the other. A client
whose node is lost goes on with the next.

Without --rate, each client sends an operation when it has the answer to the last. With --rate, operations are due at
a constant rate, and latency counts from the time at which each was due, so that waiting for a slow cluster shows.
--clients is then the largest number of operations in flight.

An operation that fails is counted under its error code. The exit code is 1 if any was rejected, 3 if any was not
answered. Ctrl-C ends the run early.

Examples:
  lockstep bench
  lockstep bench --clients 256 --mix transition=1,read=9 --duration 30s
  lockstep bench --rate 2000 --plot latency.svg
  lockstep bench --via grpc --batch 100 -o json
  lockstep bench --via stream --clients 1024";

/// Put load on a cluster, and show rates and latencies
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Bench {
    /// How many operations are in flight at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = args::range(1, 10_000))]
    clients: u32,

    /// Operations per second, whether or not the cluster keeps up
    #[arg(long, value_name = "N", value_parser = args::range(1, 10_000_000))]
    rate: Option<u32>,

    /// Operations and their weights: transition, transaction (a check and a transition), read (linearizable) and
    /// stale-read
    #[arg(
        long,
        value_name = "OPERATION=WEIGHT,...",
        default_value = "transition"
    )]
    mix: Mix,

    /// Transitions in one request, executed as a transaction
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = args::range(1, 10_000))]
    batch: u32,

    /// Bytes of metadata of each transition
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = args::range(0, 65_000))]
    payload: u32,

    /// The protocol
    #[arg(long, value_enum, default_value_t = Via::Http)]
    via: Via,

    /// Which nodes the clients start with
    #[arg(long, value_enum, default_value_t = Through::Leader)]
    through: Through,

    /// HTTP addresses of nodes, instead of those that the nodes give; may be repeated
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        conflicts_with = "through"
    )]
    http: Vec<Address>,

    /// How many instances to create [default: one for each client, and for each transition of a batch]
    #[arg(long, value_name = "N", value_parser = args::range(1, 100_000_000))]
    instances: Option<u32>,

    /// How long to run before anything is recorded
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = args::duration)]
    warm_up: Duration,

    /// How long to record
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = args::duration)]
    duration: Duration,

    /// Threads that generate the load [default: half of the cores]
    #[arg(long, value_name = "N", value_parser = args::range(1, 256))]
    threads: Option<u32>,

    /// gRPC connections, which the clients share [default: one for 8 clients, or for 256 with --via stream]. Over
    /// HTTP, each client has its own
    #[arg(long, value_name = "N", value_parser = args::range(1, 10_000))]
    connections: Option<u32>,

    /// What the names of the instances start with; random characters follow
    #[arg(long, value_name = "NAME", default_value = "bench")]
    prefix: String,

    /// Do not delete the instances at the end
    #[arg(long)]
    keep: bool,

    /// Draw the latencies by percentile into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// The protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Via {
    /// HTTP, `/v1`
    Http,
    /// gRPC, `lockstep.v1`
    Grpc,
    /// gRPC; the transitions of all clients of a connection share a stream
    Stream,
}

impl Via {
    /// How many clients share a connection.
    fn sharing(self) -> u32 {
        match self {
            Self::Http => 1,
            Self::Grpc => 8,
            Self::Stream => 256,
        }
    }
}

/// Where clients start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Through {
    /// The leader
    Leader,
    /// The other nodes
    Followers,
    /// All nodes
    All,
}

const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

impl Bench {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        self.check()?;
        let client = context.target.client()?;
        let instances = Arc::new(self.instances(&client).await?);
        let cluster = self.cluster(context, &client, instances.clone()).await?;
        let stop = Stop::default();
        let stopped = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stopped.set();
            }
        });

        let shown = show::Shown::new(&self, &cluster);
        let created = instances.create(&client, &stop).await?;
        let recorded = self.load(cluster, &stop).await;
        let deleted = match self.keep {
            true => Ok(()),
            false => instances.delete(&client, created).await,
        };
        if let (Err(failure), Err(_)) = (&deleted, &recorded) {
            failure.say(context.output);
        }
        let record = recorded?;
        let report = Report::new(&record, self.batch.into());
        if let Some(path) = &self.plot {
            let chart = Chart::of_latencies(&record, shown.line().to_owned());
            fs::write(path, chart.svg()).map_err(|error| Failure::cannot_write(path, &error))?;
        }
        if context.output == output::Format::Table {
            output::say(&format!("lockstep: {}", shown.line()));
            let cpu = report.generator_cpu_us;
            output::say(&format!(
                "lockstep: the generator used {cpu} us of processor time for each operation"
            ));
        }
        let text = context.show(|| shown.json(&report), || show::table(&report));
        match (failures(&record), deleted) {
            (None, Ok(())) => Ok(text),
            (None, Err(failure)) | (Some(failure), Ok(())) => Err(failure.with_partial(text)),
            (Some(failure), Err(left)) => {
                left.say(context.output);
                Err(failure.with_partial(text))
            }
        }
    }

    /// Whether the arguments make sense together.
    fn check(&self) -> Result<(), Failure> {
        if self.duration.is_zero() || self.duration > DURATION_MAX {
            return Err(Failure::usage("--duration must be from 1ms to 24h"));
        }
        if self.warm_up > DURATION_MAX {
            return Err(Failure::usage("--warm-up must be at most 24h"));
        }
        if self.batch > 1 && !self.mix.contains(Operation::Transition) {
            return Err(Failure::usage(
                "--batch is for transitions, and --mix has none",
            ));
        }
        if self.via != Via::Http && !self.http.is_empty() {
            return Err(Failure::usage(
                "--http has HTTP addresses, which only --via http uses",
            ));
        }
        if self.via == Via::Http && self.connections.is_some() {
            return Err(Failure::usage(
                "--connections is for gRPC: over HTTP, each client has a connection of its own",
            ));
        }
        let needed = self.needed();
        if self.instances.is_some_and(|it| u64::from(it) < needed) {
            return Err(Failure::usage(format!(
                "--instances must be at least {needed}: each client has instances of its own, one for each \
                 transition of a batch"
            )));
        }
        if let Some(path) = &self.plot {
            // Better now than after the run. What it holds stays until then.
            let opened = File::options().create(true).append(true).open(path);
            opened.map_err(|error| Failure::cannot_write(path, &error))?;
        }
        Ok(())
    }

    /// The instances, if the cluster takes transactions of that size.
    async fn instances(&self, client: &Client) -> Result<Instances, Failure> {
        let settings = client.settings(Consistency::Stale).await?.found;
        let operations_max = settings.values.get("operations_max").copied();
        let operations_max = operations_max.unwrap_or(u64::MAX);
        if u64::from(self.batch) > operations_max {
            return Err(Failure::usage(format!(
                "--batch must be at most {operations_max}, the cluster's setting operations_max"
            )));
        }
        let count = self.instances.map_or(self.needed(), u64::from);
        Instances::new(&self.prefix, count as usize, operations_max as usize)
    }

    /// The instances that all clients change at once.
    fn needed(&self) -> u64 {
        u64::from(self.clients) * u64::from(self.batch)
    }

    /// The cluster as the clients reach it.
    async fn cluster(
        &self,
        context: &Context,
        client: &Client,
        instances: Arc<Instances>,
    ) -> Result<Cluster, Failure> {
        let leader = client.leader().await?.member.id;
        let mut members = client.view().await?.members;
        let is_first = |id: u64| match self.through {
            Through::Leader => id == leader,
            Through::Followers => id != leader,
            Through::All => true,
        };
        members.sort_by_key(|member| !is_first(member.id));
        let starts = members.iter().filter(|it| is_first(it.id)).count();
        let (mut nodes, mut starts) = (Vec::new(), starts);
        for member in &members {
            let address = match self.via {
                Via::Http => &member.http_address,
                Via::Grpc | Via::Stream => &member.grpc_address,
            };
            let address: Address = address.parse().map_err(Failure::unavailable)?;
            nodes.push(address);
        }
        if !self.http.is_empty() {
            nodes.clone_from(&self.http);
            starts = nodes.len();
        }
        if starts == 0 {
            return Err(Failure::usage(
                "--through followers: the leader is the only node",
            ));
        }
        let sharing = match self.connections {
            Some(connections) => self.clients.div_ceil(connections),
            None => self.via.sharing(),
        };
        Ok(Cluster {
            via: self.via,
            nodes,
            starts,
            timeout: context.target.timeout.unwrap_or(TIMEOUT_DEFAULT),
            clients: self.clients as usize,
            sharing: sharing as usize,
            batch: self.batch as usize,
            metadata: self.metadata()?,
            instances,
        })
    }

    fn metadata(&self) -> Result<Metadata, Failure> {
        let payload = (self.payload > 0).then(|| ("payload", "x".repeat(self.payload as usize)));
        Metadata::new(payload).map_err(Failure::usage)
    }

    async fn load(&self, cluster: Cluster, stop: &Stop) -> Result<Record, Failure> {
        let plan = self.plan(cluster.timeout);
        let whole = plan.warm_up + plan.measured;
        let progress = Progress::over_seconds(whole.as_secs_f64().ceil() as u64);
        let tick = |second: &Record, since: Duration| {
            let is_warm = since >= self.warm_up;
            progress.show(since.as_secs(), || show::beside(second, is_warm));
        };
        let recorded = lockstep_load::run(cluster, &plan, stop, tick).await;
        recorded.map_err(|failed| Failure::new(exit(failed.rejected), &failed.code, failed.message))
    }

    fn plan(&self, timeout: Duration) -> Plan {
        let threads = self.threads.map(|it| it as usize);
        let clients = self.clients as usize;
        Plan {
            clients,
            threads: threads.unwrap_or_else(threads_default).min(clients),
            rate: self.rate,
            warm_up: self.warm_up,
            measured: self.duration,
            overtime: timeout,
            mix: self.mix.clone(),
        }
    }
}

fn exit(rejected: bool) -> Exit {
    match rejected {
        true => Exit::Rejected,
        false => Exit::Unavailable,
    }
}

/// The failed operations, if there are any: how many of each code, and what the first said.
fn failures(record: &Record) -> Option<Failure> {
    let total = record.total();
    let first = &total.failed.values().next()?.first;
    let codes = total.failed.iter();
    let codes: Vec<_> = codes
        .map(|(code, it)| format!("{} {code}", it.count))
        .collect();
    let worst = total
        .failed
        .values()
        .map(|it| exit(it.first.rejected))
        .max();
    let failed = total.failures();
    let message = format!(
        "{failed} of {} failed: {}; for example: {}",
        output::count(failed + total.done.len(), "operation"),
        codes.join(", "),
        first.message
    );
    Some(Failure::incomplete(worst.unwrap_or(Exit::Unavailable), message).with("failed", failed))
}
