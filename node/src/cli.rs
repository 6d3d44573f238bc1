//! The command line of `lockstepd`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use lockstep_node::config::{KEYS, KeyDefault, Sources};
use lockstep_node::telemetry::build;

use crate::dev;

/// The Lockstep server: a replicated finite-state-machine service.
#[derive(Debug, Parser)]
#[command(name = "lockstepd", version = build::version())]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `lockstepd`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node.
    Run(Settings),
    /// Run a cluster of three nodes on this machine, to try things out.
    Dev(dev::Options),
    /// Check the configuration; with --show, print it.
    CheckConfig(CheckConfig),
    /// Ask the node on this machine whether it is healthy; exit code 0 if so.
    Health(Health),
    /// Print the nodes that discovery lists.
    Discover(Settings),
    /// Print the version.
    Version,
}

/// Flags of `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Print every setting as TOML, with the source of its value.
    #[arg(long, conflicts_with = "markdown")]
    pub show: bool,
    /// Print the tables of all settings, of the node and of each sink, as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// The configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// Ask this address instead of the configured one.
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// Ask only whether the node is alive, not whether it is ready to serve.
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

/// `--config` and one flag per setting, from the table of settings.
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
            .next_help_heading("Settings (flag over environment over file over default)");
        KEYS.iter().fold(command, |command, key| {
            let default = match key.default {
                KeyDefault::Is("") | KeyDefault::Unset => String::new(),
                KeyDefault::Is(value) => format!(" [default: {value}]"),
                KeyDefault::Derived(from) => format!(" [default: {from}]"),
                KeyDefault::Required => " [required]".into(),
            };
            let help = format!("{}{default} [env: {}]", key.doc, key.env).replace('`', "");
            command.arg(
                Arg::new(key.flag)
                    .long(key.flag)
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
            flags: KEYS.iter().filter_map(|key| given(key.flag)).collect(),
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_of_run() {
        for key in KEYS {
            let flag = format!("--{}", key.flag);
            let cli = Cli::try_parse_from(["lockstepd", "run", &flag, "x"]).expect("a flag");
            let Command::Run(settings) = cli.command else {
                panic!("run")
            };
            assert_eq!(settings.flags, [(key.flag, "x".to_string())]);
        }
    }
}
