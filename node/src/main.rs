//! `lockstepd`: parses the command line, runs the command, sets the exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration.

use std::fmt::Display;
use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use lockstep_node::check_disk::DiskReport;
use lockstep_node::config::{self, Config, ConfigErrors, Loaded, Sources};
use lockstep_node::discovery;
use lockstep_node::node::{Node, NodeError, Signals};
use lockstep_node::telemetry::build;
use lockstep_node::telemetry::logs::{self, Logs, LogsError};
use lockstep_raft::failpoints;
use lockstep_raft::store::{self, IdentityFile};
use tokio::runtime::Runtime;

mod cli;
mod dev;
mod forget;
mod open_files;
mod probe;
mod recover;
mod rejoin;
mod restore;

use cli::{CheckConfig, CheckDisk, Cli, Command, ForgetCluster, Health, Restore};
use restore::Verified;

/// How long `health` waits for one answer. Below the timeout of the health check in the Dockerfile.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a last message on standard error may delay the end of the process.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);

const CHECK_DISK_TIME: Duration = Duration::from_secs(5);

/// A command line that is not valid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn main() -> ExitCode {
    end_on_panic();
    failpoints::configure();
    let result = match Cli::read().command {
        Command::Run(settings) => node(settings.sources()),
        Command::Dev(options) => on_this_thread(dev::run(options)),
        Command::CheckConfig(options) => check_config(&options),
        Command::CheckDisk(options) => check_disk(&options),
        Command::Health(options) => health(&options),
        Command::Rejoin(rejoin) => rejoin.run().and_then(print),
        Command::ForgetCluster(options) => forget_cluster(&options),
        Command::Restore(restore) => restore_backup(&restore),
        Command::Recover(recover) => on_this_thread(recover.run()).and_then(print),
        Command::Rename(settings) => rename(&settings.sources()),
        Command::Discover(settings) => discover(settings.sources()),
        Command::Completions { shell } => print(cli::completions(shell)),
        Command::Man { command } => cli::man(command.as_deref()).and_then(print),
        Command::Version => print(format!("lockstepd {}\n", build::version())),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    complain(&error);
    match error.is::<Usage>() || error.is::<ConfigErrors>() {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

/// Ends the process on any panic, even in a build profile that unwinds: a node without one of its tasks is worse
/// than one that is down. A panic over a damaged data folder is the error that it stands for.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(damage) = store::damage(panic) {
            complain(&damage);
            std::process::exit(1);
        }
        // The report waits for ever if standard error is a pipe that is full and not read.
        std::thread::spawn(|| {
            std::thread::sleep(STDERR_TIMEOUT);
            std::process::abort();
        });
        report(panic);
        std::process::abort();
    }));
}

/// Writes to stderr, for [`STDERR_TIMEOUT`] at most: it may be a pipe that is full and not read.
fn complain(what: &impl Display) {
    let line = format!("lockstepd: {what}");
    let (written, done) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = writeln!(std::io::stderr(), "{line}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(STDERR_TIMEOUT);
}

/// Writes to stdout. A reader that closes early, such as `head`, is not a failure.
fn print(text: String) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => bail!("stdout: {error}"),
        _ => Ok(()),
    }
}

/// Asks on stderr, and reads the answer; `instead` is the flag that makes the question unnecessary.
fn ask(question: &str, instead: &str) -> Result<String> {
    let mut answer = String::new();
    let asked = write!(std::io::stderr(), "{question}");
    let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    match read {
        Ok(_) => Ok(answer.trim().to_owned()),
        Err(error) => bail!("cannot ask for confirmation: {error}; repeat with {instead}"),
    }
}

fn on_this_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    started(tokio::runtime::Builder::new_current_thread())?.block_on(work)
}

fn started(mut runtime: tokio::runtime::Builder) -> Result<Runtime> {
    let built = runtime.enable_all().build();
    built.map_err(|error| anyhow!("cannot start the runtime: {error}"))
}

fn in_configuration(error: LogsError) -> Usage {
    Usage(format!("configuration: {error}"))
}

/// Loads the configuration and prints its warnings.
fn configuration(sources: &Sources) -> Result<Loaded> {
    let loaded = config::load(sources)?;
    logs::parse_filter(&loaded.config.log.filter).map_err(in_configuration)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(loaded)
}

fn node(sources: Sources) -> Result<()> {
    let config = configuration(&sources)?.config;
    let logs = logs::init(&config.log).map_err(in_configuration)?;
    open_files::raise(&config);
    let runtime = started(tokio::runtime::Builder::new_multi_thread())?;
    let reload = || reload(&sources, &logs);
    let ended = runtime.block_on(run_node(config, reload));
    // Does not wait for threads that wait for a name server or a disk.
    runtime.shutdown_background();
    Ok(ended?)
}

async fn run_node(config: Config, reload: impl Fn()) -> Result<(), NodeError> {
    let signals = Signals::listen().map_err(|error| NodeError::Start(error.to_string()))?;
    let mut signal = std::pin::pin!(signals.stop(reload));
    let mut node = tokio::select! {
        started = Node::start(config) => started?,
        signal = &mut signal => {
            tracing::info!(signal, "stopping before the start was complete");
            return Ok(());
        }
    };
    let signal = node.run_until(signal).await?;
    tracing::info!(signal, "stopping");
    node.stop().await;
    Ok(())
}

/// Reads the configuration again, and applies the one setting that can change while the node runs.
/// Password files are read at each connect anyway.
fn reload(sources: &Sources, logs: &Logs) {
    let reloaded = config::load(sources)
        .map_err(|errors| errors.to_string())
        .and_then(|loaded| {
            let filter = loaded.config.log.filter;
            let set = logs.set_filter(&filter).map_err(|error| error.to_string());
            set.map(|()| filter)
        });
    match reloaded {
        Ok(filter) => tracing::info!(
            filter,
            "reloaded log.filter; other settings apply when the node starts"
        ),
        Err(error) => tracing::error!(error, "nothing reloaded: the configuration is not valid"),
    }
}

fn check_config(options: &CheckConfig) -> Result<()> {
    if options.markdown {
        return print(config::markdown());
    }
    let loaded = configuration(&options.settings.sources())?;
    if options.show {
        return print(config::show(&loaded.settings));
    }
    print("the configuration is valid\n".into())
}

fn check_disk(CheckDisk { data_dir }: &CheckDisk) -> Result<()> {
    let report = DiskReport::measure(data_dir, CHECK_DISK_TIME)
        .map_err(|error| anyhow!("cannot measure {}: {error}", data_dir.display()))?;
    print(report.to_string())?;
    let faults = report.faults();
    ensure!(faults.is_empty(), faults.join("\nlockstepd: "));
    Ok(())
}

fn health(options: &Health) -> Result<()> {
    let address = match options.http {
        Some(address) => address,
        None => config::load(&options.sources())?.config.http.listen,
    };
    let paths: &[&str] = if options.live {
        &["/livez"]
    } else {
        &["/livez", "/readyz"]
    };
    on_this_thread(async {
        for path in paths {
            let answer = probe::get(reachable(address), path, HEALTH_TIMEOUT).await?;
            if answer.status != 200 {
                let body: String = answer.body.trim().chars().take(500).collect();
                bail!("http://{address}{path} answered {}: {body}", answer.status);
            }
        }
        Ok(())
    })
}

/// A node that listens on every address is contacted on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn restore_backup(restore: &Restore) -> Result<()> {
    let verified = Verified::open(&restore.file)?;
    if restore.verify {
        return print(verified.description());
    }
    let config = configuration(&restore.settings.sources())?.config;
    on_this_thread(verified.restore(&config)).and_then(print)
}

fn rename(sources: &Sources) -> Result<()> {
    let config = configuration(sources)?.config;
    let Config { name, data_dir, .. } = &config;
    let earlier = IdentityFile::rename(data_dir, name)?;
    let earlier = earlier.map_or_else(|| "it had no name".to_owned(), |it| format!("was {it:?}"));
    let dir = data_dir.display();
    print(format!(
        "renamed the node of data folder {dir} to {name:?}; {earlier}\n"
    ))
}

fn forget_cluster(options: &ForgetCluster) -> Result<()> {
    let config = configuration(&options.settings.sources())?.config;
    on_this_thread(async {
        let discovery = discovery::open(&config)?;
        print(forget::run(discovery.as_ref(), options.yes).await?)
    })
}

fn discover(sources: Sources) -> Result<()> {
    let config = configuration(&sources)?.config;
    on_this_thread(async {
        let discovery = discovery::open(&config)?;
        let peers = discovery.peers().await?;
        complain(&format!(
            "{} lists {} node(s)",
            discovery.kind(),
            peers.len()
        ));
        let mut text = format!("{:<20} {:<28} {:<28} {}\n", "NODE", "GRPC", "HTTP", "TAGS");
        for peer in peers {
            let http = peer.http_address.as_deref().unwrap_or("-");
            text += &format!(
                "{:<20} {:<28} {http:<28} {}\n",
                peer.name,
                peer.grpc_address,
                peer.tags.join(",")
            );
        }
        print(text)
    })
}
