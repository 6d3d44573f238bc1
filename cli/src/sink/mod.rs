//! `lockstep sink`: the other systems that follow the cluster.

mod check;
mod dead_letters;
mod discard;
mod list;
mod replay;
mod reseed;
mod shown;
mod status;

use clap::{Args, Subcommand};
use lockstep_client::{EventCursor, Letters};

use super::Context;
use super::args;
use super::failure::Failure;

/// Look after the other systems that follow the cluster
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Sinks are configured on the nodes, alike on each; the leader runs them. Any node can be asked.

Examples:
  lockstep sink list
  lockstep sink status reports
  lockstep sink check reports           does its far side take what it is given?
  lockstep sink dead-letters reports    what it refuses for good, and why
  lockstep sink replay reports --all")]
pub(super) struct Sink {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Status(status::Status),
    Check(check::Check),
    Reseed(reseed::Reseed),
    DeadLetters(dead_letters::DeadLetters),
    Replay(replay::Replay),
    Discard(discard::Discard),
}

impl Sink {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        match self.command {
            Command::List(list) => list.run(context).await,
            Command::Status(status) => status.run(context).await,
            Command::Check(check) => check.run(context).await,
            Command::Reseed(reseed) => reseed.run(context).await,
            Command::DeadLetters(letters) => letters.run(context).await,
            Command::Replay(replay) => replay.run(context).await,
            Command::Discard(discard) => discard.run(context).await,
        }
    }
}

/// One dead letter, or all: never all by leaving something out.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The dead letter of this event, as `lockstep sink dead-letters` names it
    #[arg(value_name = "EVENT", value_parser = args::place)]
    event: Option<EventCursor>,

    /// All there are
    #[arg(long)]
    all: bool,
}

impl From<Which> for Letters {
    fn from(which: Which) -> Self {
        which.event.map_or(Letters::All, Letters::One)
    }
}

/// The failure, with where to look for what there is.
fn explained(error: lockstep_client::Error, sink: &str) -> Failure {
    let failure = Failure::from(error);
    match failure.code() {
        "unknown_dead_letter" => {
            failure.hint(format!("`lockstep sink dead-letters {sink}` shows them"))
        }
        _ => failure,
    }
}
