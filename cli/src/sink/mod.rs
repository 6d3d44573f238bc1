//! `lockstep sink`: status and operation of sinks.

mod change;
mod check;
mod dead_letters;
mod list;
mod shown;
mod status;

use clap::Args;
use lockstep_client::{EventCursor, Letters};

use super::commands;

commands! {
    /// Inspect and operate sinks, which copy events to databases and webhooks
    #[command(after_help = "\
Sinks are configured identically on all nodes, and the leader runs them. These commands work through any
node.

Examples:
  lockstep sink list
  lockstep sink status reports
  lockstep sink check reports           can it write to its destination?
  lockstep sink dead-letters reports    events that the destination rejected, and why
  lockstep sink replay reports --all")]
    pub(super) Sink {
        List(list),
        Status(status),
        Check(check),
        Reseed(change),
        DeadLetters(dead_letters),
        Replay(change),
        Discard(change),
    }
}

/// One dead letter, or all: never all by omission.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The dead letter of this event, as `lockstep sink dead-letters` shows it
    #[arg(value_name = "EVENT")]
    event: Option<EventCursor>,

    /// All dead letters
    #[arg(long)]
    all: bool,
}

impl From<Which> for Letters {
    fn from(which: Which) -> Self {
        which.event.map_or(Letters::All, Letters::One)
    }
}
