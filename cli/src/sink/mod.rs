//! `lockstep sink`: status and operation of sinks.

mod change;
mod check;
mod dead_letters;
mod list;
mod shown;
mod status;

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
        DeadLetters(dead_letters),
        #[command(flatten)]
        ChangeSink(change),
    }
}
