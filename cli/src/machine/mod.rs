//! `lockstep machine`.

mod apply;
mod delete;
mod graph;
mod list;
mod show;

use super::commands;

commands! {
    /// Define and show machines
    #[command(after_help = "\
Examples:
  lockstep machine apply order.yaml --dry-run
  lockstep machine list
  lockstep machine graph order --format svg > order.svg")]
    pub(super) Machine {
        Apply(apply),
        List(list),
        Show(show),
        Graph(graph),
        Delete(delete),
    }
}
