//! `lockstep`, the command line of Lockstep.
//!
//! The program parses its arguments, runs one command against the cluster through
//! [`lockstep_client`], prints the result and exits. A command is a struct that clap fills
//! ([`args`] holds the arguments that several commands share) with a method `run`, which returns
//! the text for stdout or a [`Failure`]. [`target`] finds the cluster, by address or in Consul;
//! [`output`] prints tables and JSON; [`failure`] maps errors to a message, a hint and an exit code.
//! Commands that print while they work (`watch`, `instance list`, everything in bulk) write to
//! stdout themselves and return no text.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 rejected by the machine,
//! 2 usage, 3 unavailable or outcome unknown. `cli/README.md` lists the fields of the JSON output;
//! fields are added to it, never renamed or removed.

mod args;
mod backup;
mod bench;
mod change_members;
mod cluster;
mod completions;
mod discover;
mod failure;
mod get;
mod input;
mod instance;
mod machine;
mod man;
mod members;
mod next;
mod output;
mod paint;
mod partial;
mod progress;
mod send;
mod settings;
mod shape;
mod sink;
mod status;
mod target;
mod time;
mod txn;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

use failure::Failure;
use output::Format;
use target::Target;

/// Command line of Lockstep, the replicated finite-state-machine service
#[derive(Debug, Parser)]
#[command(name = "lockstep", version = status::OWN, propagate_version = false, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 rejected by the machine, 2 usage, 3 unavailable or outcome unknown."
)]
struct Arguments {
    /// Output format
    #[arg(long, short, global = true, default_value = "table", value_parser = Format::parser())]
    output: Format,

    #[command(flatten)]
    target: Target,

    #[command(subcommand)]
    command: Command,
}

/// Declares a command with subcommands: `Variant(module)` stands for `module::Variant`.
macro_rules! commands {
    ($(#[$attribute:meta])* $vis:vis $name:ident {
        $($(#[$of_variant:meta])* $variant:ident($module:ident),)*
    }) => {
        #[derive(Debug, clap::Subcommand)]
        $(#[$attribute])*
        $vis enum $name {
            $($(#[$of_variant])* $variant($module::$variant),)*
        }

        impl $name {
            $vis async fn run(self, context: &$crate::Context) -> Result<String, $crate::Failure> {
                match self {
                    $($name::$variant(command) => command.run(context).await,)*
                }
            }
        }
    };
}
use commands;

commands! {
    Command {
        Next(next),
        Get(get),
        Send(send),
        #[command(subcommand)]
        Machine(machine),
        #[command(subcommand)]
        Instance(instance),
        Watch(watch),
        Txn(txn),
        #[command(subcommand)]
        Sink(sink),
        #[command(subcommand)]
        Cluster(cluster),
        Status(status),
        Members(members),
        Leader(members),
        Discover(discover),
        Bench(bench),
        Version(status),
        Completions(completions),
        Man(man),
    }
}

/// What every command gets.
struct Context {
    target: Target,
    output: Format,
}

impl Context {
    /// The text to print: one JSON document, or a text for people.
    fn show(&self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> String {
        match self.output {
            Format::Json => output::json(&json()),
            Format::Table | Format::Yaml => text(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            let text = error.render().to_string();
            let message = text.trim().trim_start_matches("error: ");
            return Failure::usage(message).report(Format::Json);
        }
        Err(error) => {
            // Help and version are errors to clap, and their text belongs to stdout.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let Arguments {
        mut target,
        output,
        command,
    } = arguments;
    if let Err(failure) = target.settle(|name| std::env::var(name).ok()) {
        return failure.report(output);
    }
    let context = Context { target, output };
    match run(&context, command).and_then(|text| output::print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(arguments)
}

/// Whether arguments that cannot be parsed ask for JSON.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let arguments: Vec<_> = arguments.collect();
    let joined = ["-ojson", "-o=json", "--output=json"];
    let is = |argument: &OsString, names: &[&str]| names.iter().any(|name| argument == name);
    arguments.iter().any(|it| is(it, &joined))
        || arguments
            .windows(2)
            .any(|pair| is(&pair[0], &["-o", "--output"]) && pair[1] == "json")
}

fn run(context: &Context, command: Command) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::local)?;
    runtime.block_on(command.run(context))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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

    /// What is said of `bad` as the value of each option and each positional argument, with all that was typed.
    fn faults(command: &clap::Command, path: &[String], bad: &str) -> Vec<(Vec<String>, String)> {
        let mut found = vec![];
        for argument in command.get_arguments() {
            let typed = match argument.get_long() {
                _ if !argument.get_action().takes_values() => continue,
                Some(long) => vec![format!("--{long}={bad}")],
                // After those before it.
                None => {
                    let before = argument.get_index().unwrap_or(1) - 1;
                    let before = std::iter::repeat_n("x".to_owned(), before);
                    before.chain(["--".to_owned(), bad.to_owned()]).collect()
                }
            };
            let line = [path, &typed].concat();
            if let Err(error) = parse(line.iter().map(OsString::from)) {
                found.push((line, error.to_string()));
            }
        }
        for inner in command.get_subcommands() {
            let path = [path, &[inner.get_name().to_owned()]].concat();
            found.extend(faults(inner, &path, bad));
        }
        found
    }

    #[test]
    fn no_usage_error_quotes_a_library() {
        let mut command = Arguments::command();
        command.build();
        let mut seen = 0;
        for bad in ["x", "", "-1", "1.5", "18446744073709551616", "a/b/c", "é"] {
            for (line, said) in faults(&command, &["lockstep".to_owned()], bad) {
                // The words of every program's usage errors.
                let reason = said.replacen("invalid value '", "", 1);
                let word = lockstep_machine::library_words(&reason);
                assert_eq!(word, None, "{line:?}: {said}");
                seen += 1;
            }
        }
        assert!(seen > 300, "{seen}");
        for (line, words) in [
            (
                "lockstep send a/b --to c --expect-revision=two",
                "a whole number from 0",
            ),
            ("lockstep get --min-revision=-1", "a whole number from 0"),
            ("lockstep watch --count=0", "a whole number from 1"),
            (
                "lockstep instance import - --concurrency=257",
                "from 1 to 256",
            ),
            (
                "lockstep machine show a --version=0",
                "from 1 to 4294967295",
            ),
        ] {
            let said = parsed(line).expect_err(line);
            assert!(said.contains(words), "{line}: {said}");
        }
    }

    #[test]
    fn json_is_wanted_however_it_is_written() {
        let wanted = |line: &str| wants_json(line.split(' ').map(OsString::from));
        for line in [
            "get -o json x",
            "-ojson get x",
            "get --output=json x",
            "--output json x",
        ] {
            assert!(wanted(line), "{line}");
        }
        assert!(!wanted("get -o table json"));
    }
}
