//! The command line of `lockstepd`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use lockstep_node::config::{self, KEYS, KeyDefault, Sources};
use lockstep_node::telemetry::build;

use crate::Usage;
use crate::dev;
use crate::recover::Recover;
use crate::rejoin::Rejoin;

/// The Lockstep server: a replicated finite-state-machine service.
#[derive(Debug, Parser)]
#[command(name = "lockstepd", version = build::version())]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the process's arguments. Ends the process if they are wrong, or ask for help.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let tip = tip(&error);
            // If stderr is closed, nothing can be reported.
            let _ = error.print();
            if let Some(tip) = tip {
                let _ = writeln!(std::io::stderr(), "\n{tip}");
            }
            std::process::exit(error.exit_code())
        })
    }
}

/// What to use instead of a flag that does not exist, if it is the name of a setting.
fn tip(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => config::instead_of_flag(flag),
        _ => None,
    }
}

/// The commands of `lockstepd`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node.
    Run(Settings),
    /// Run a cluster of three nodes on this machine, for experiments.
    Dev(dev::Options),
    /// Check the configuration; with --show, print it.
    CheckConfig(CheckConfig),
    /// Measure whether a disk suits a data folder; exit code 0 if so.
    CheckDisk(CheckDisk),
    /// Ask the node on this machine whether it is healthy; exit code 0 if so.
    Health(Health),
    /// Discard a data folder, so that its node joins the cluster again as a new member.
    Rejoin(Rejoin),
    /// Delete from Consul the bootstrap plan of a cluster that no longer exists, so that a new one can be bootstrapped.
    ForgetCluster(ForgetCluster),
    /// Make a new cluster from a backup, in this node's empty data folder.
    Restore(Restore),
    /// After the majority is lost: make a new cluster from the data folder of one node.
    Recover(Recover),
    /// Give the stopped node of the data folder the configured name.
    Rename(Settings),
    /// Print the nodes that discovery lists.
    Discover(Settings),
    /// Print a script that completes the arguments, for example: source <(lockstepd completions bash)
    Completions {
        /// The shell to complete in.
        shell: Shell,
    },
    /// Print the manual page, for example: lockstepd man | man -l -
    Man {
        /// The command to print the page of, instead of the program's own.
        command: Option<String>,
    },
    /// Print the version.
    Version,
}

/// The completion script for `shell`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lockstepd", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program, or of one of its commands.
pub fn man(command: Option<&str>) -> anyhow::Result<String> {
    let mut program = Cli::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let unknown = format!("there is no command {name:?}; see lockstepd --help");
                return Err(Usage(unknown).into());
            }
        },
    };
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(page).manual("Lockstep");
    page.render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Flags of `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Print every setting as TOML, with the source of its value.
    #[arg(long, conflicts_with = "markdown")]
    pub show: bool,
    /// Print the documentation of all settings as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// The configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// Flags of `forget-cluster`.
#[derive(Debug, Args)]
pub struct ForgetCluster {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// The configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// Flags of `check-disk`.
#[derive(Debug, Args)]
pub struct CheckDisk {
    /// A folder on the disk, for example that of a node.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// The address to query, instead of the configured one.
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    pub http: Option<SocketAddr>,
    /// Check only that the node is alive, not that it is ready to serve.
    #[arg(long)]
    pub live: bool,
    /// TOML file to read. [env: LOCKSTEP_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Health {
    /// The configuration's sources.
    pub fn sources(&self) -> Sources {
        Sources::from_process(self.config.clone(), Vec::new())
    }
}

/// Flags of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Start this node first. Then start the other nodes, with empty data folders: they join by themselves. Nodes that
still run for the earlier cluster must be stopped.

Examples:
  lockstepd restore lockstep.backup --name node1 --data-dir /var/lib/lockstep
  gunzip < lockstep.backup.gz | lockstepd restore - --config /etc/lockstep.toml
  lockstepd restore --verify lockstep.backup")]
pub struct Restore {
    /// The backup; - for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only check the whole backup, and describe it
    #[arg(long)]
    pub verify: bool,
    /// The configuration of the node
    #[command(flatten)]
    pub settings: Settings,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "it must be an IP address and a port, for example 127.0.0.1:3333")
}

/// `--config`, and a flag for each setting that differs from node to node.
#[derive(Debug)]
pub struct Settings {
    config: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl Settings {
    /// The configuration's sources.
    pub fn sources(&self) -> Sources {
        Sources::from_process(self.config.clone(), self.flags.clone())
    }
}

const CONFIG: &str = "config";

impl Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file to read [env: LOCKSTEP_CONFIG]");
        let command = command
            .arg(file)
            .next_help_heading("Settings of this node (docs/CONFIGURATION.md lists all settings)");
        let flags = KEYS.iter().filter_map(|key| Some((key, key.flag?)));
        flags.fold(command, |command, (key, flag)| {
            let default = match key.default {
                KeyDefault::Is("") | KeyDefault::Unset => String::new(),
                KeyDefault::Is(value) => format!(" [default: {value}]"),
                KeyDefault::Derived(from) => format!(" [default: {from}]"),
                KeyDefault::Required => " [required]".into(),
            };
            let help = format!("{}{default} [env: {}]", key.doc, key.env()).replace('`', "");
            command.arg(
                Arg::new(flag)
                    .long(flag)
                    .value_name("VALUE")
                    .allow_hyphen_values(true)
                    .help(help),
            )
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let config = matches.get_one::<PathBuf>(CONFIG).cloned();
        let given = |flag| {
            matches
                .get_one::<String>(flag)
                .map(|value| (flag, value.clone()))
        };
        Ok(Settings {
            config,
            flags: (KEYS.iter().filter_map(|key| given(key.flag?))).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_and_manual_pages_name_the_flags() {
        assert!(completions(Shell::Bash).contains("--data-dir"));
        assert!(man(None).expect("a page").contains("check\\-config"));
        assert!(man(Some("run")).expect("a page").contains("data\\-dir"));
        let unknown = man(Some("rnu")).expect_err("no such command").to_string();
        assert!(unknown.contains("rnu"), "{unknown}");
    }

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_usage_error_quotes_a_library() {
        let mut seen = 0;
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                for bad in [
                    "x",
                    "",
                    "-1",
                    "1.5",
                    "0",
                    "65534",
                    "18446744073709551616",
                    "é:1",
                ] {
                    // A flag without a value.
                    if !argument.get_action().takes_values() {
                        continue;
                    }
                    let typed = match argument.get_long() {
                        Some(long) => format!("--{long}={bad}"),
                        None => bad.to_owned(),
                    };
                    let line = ["lockstepd", command.get_name(), &typed];
                    let Err(error) = Cli::try_parse_from(line) else {
                        continue;
                    };
                    // The words of every program's usage errors.
                    let said = error.to_string().replacen("invalid value '", "", 1);
                    let word = lockstep_machine::library_words(&said);
                    assert_eq!(word, None, "{line:?}: {said}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
        for (line, words) in [
            (
                ["lockstepd", "dev", "--http-port=x"],
                "a port from 1 to 65533",
            ),
            (
                ["lockstepd", "dev", "--grpc-port=65534"],
                "a port from 1 to 65533",
            ),
            (
                ["lockstepd", "health", "--http=x"],
                "for example 127.0.0.1:3333",
            ),
        ] {
            let said = Cli::try_parse_from(line).expect_err("no value").to_string();
            assert!(said.contains(words), "{line:?}: {said}");
        }
    }

    #[test]
    fn a_setting_that_differs_from_node_to_node_is_a_flag_of_run() {
        for flag in KEYS.iter().filter_map(|key| key.flag) {
            let cli = Cli::try_parse_from(["lockstepd", "run", &format!("--{flag}"), "x"]);
            let Command::Run(settings) = cli.expect("a flag").command else {
                panic!("run")
            };
            assert_eq!(settings.flags, [(flag, "x".to_string())]);
        }
    }

    #[test]
    fn the_error_for_a_setting_without_a_flag_names_its_variable() {
        let arguments = ["lockstepd", "run", "--raft-heartbeat", "1s"];
        let error = Cli::try_parse_from(arguments).expect_err("no such flag");
        let tip = tip(&error).expect("it is a setting");
        assert!(tip.contains("LOCKSTEP_RAFT_HEARTBEAT"), "{tip}");
    }
}
