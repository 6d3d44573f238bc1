//! The command line: reads the arguments, runs one command, says how it ended.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 refused by the machine,
//! 2 usage, 3 unavailable or outcome unknown. The fields of the JSON output are listed in
//! `cli/README.md`; fields are added to it, never renamed or removed.

mod args;
mod cluster;
mod completions;
mod discover;
mod failure;
mod get;
mod input;
mod instance;
mod leader;
mod machine;
mod man;
mod members;
mod next;
mod output;
mod paint;
mod pairs;
mod progress;
mod send;
mod shape;
mod sink;
mod status;
mod target;
mod time;
mod txn;
mod version;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Failure;
use output::Format;
use target::Target;

/// Talks to a Lockstep cluster: replicated state machines.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version = version::OWN, propagate_version = false, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused by the machine, 2 usage, 3 unavailable or outcome unknown."
)]
struct Arguments {
    /// How to print data
    #[arg(long, short, global = true, default_value_t = Format::Table, value_parser = Format::parser())]
    output: Format,

    #[command(flatten)]
    target: Target,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Next(next::Next),
    Get(get::Get),
    Send(send::Send),
    Machine(machine::Machine),
    Instance(instance::Instance),
    Watch(watch::Watch),
    Txn(txn::Txn),
    Sink(sink::Sink),
    Cluster(cluster::Cluster),
    Status(status::Status),
    Members(members::Members),
    Leader(leader::Leader),
    Discover(discover::Discover),
    Version(version::Version),
    Completions(completions::Completions),
    Man(man::Man),
}

/// What every command gets.
struct Context {
    target: Target,
    output: Format,
}

/// Runs the program's arguments.
fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, and their text belongs to stdout.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let Arguments {
        target,
        output,
        command,
    } = arguments;
    let ended = run(&Context { target, output }, command).and_then(|text| output::print(&text));
    match ended {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let matches: ArgMatches = Arguments::command().try_get_matches_from(arguments)?;
    let mut parsed = Arguments::from_arg_matches(&matches)?;
    parsed.target.settle(&matches);
    Ok(parsed)
}

fn run(context: &Context, command: Command) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::local)?;
    runtime.block_on(async {
        match command {
            Command::Next(next) => next.run(context).await,
            Command::Get(get) => get.run(context).await,
            Command::Send(send) => send.run(context).await,
            Command::Machine(machine) => machine.run(context).await,
            Command::Instance(instance) => instance.run(context).await,
            Command::Watch(watch) => watch.run(context).await,
            Command::Txn(txn) => txn.run(context).await,
            Command::Sink(sink) => sink.run(context).await,
            Command::Cluster(cluster) => cluster.run(context).await,
            Command::Status(status) => status.run(context).await,
            Command::Members(members) => members.run(context).await,
            Command::Leader(leader) => leader.run(context).await,
            Command::Discover(discover) => discover.run(context).await,
            Command::Version(version) => version.run(context).await,
            Command::Completions(completions) => Ok(completions.run(Arguments::command())),
            Command::Man(man) => man.run(Arguments::command()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split(' ').map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let arguments =
            parsed("lockstep next second -e a:1,b:2 --endpoint c:3 --timeout 2s -o json")
                .expect("valid");
        assert_eq!(arguments.target.endpoints(), ["a:1", "b:2", "c:3"]);
        assert_eq!(arguments.output, Format::Json);
    }

    #[test]
    fn consul_replaces_the_default_endpoints_and_joins_those_given() {
        let alone = parsed("lockstep get --consul http://127.0.0.1:8500").expect("valid");
        assert!(alone.target.endpoints().is_empty());
        let both = parsed("lockstep get --consul http://127.0.0.1:8500 -e a:1").expect("valid");
        assert_eq!(both.target.endpoints(), ["a:1"]);
        let neither = parsed("lockstep get").expect("valid");
        assert_eq!(neither.target.endpoints().len(), 3);
    }
}
