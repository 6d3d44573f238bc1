//! `lockstep instance`: the instances of machines.

mod bulk;
mod create;
mod delete;
mod export;
mod history;
mod import;
mod list;
mod migrate;
mod walk;

use super::{commands, get};

commands! {
    /// Create, list, migrate, export and import instances
    #[command(after_help = "\
`lockstep send` and `lockstep next` make transitions.

Examples:
  lockstep instance create order/42 --meta customer=ann
  lockstep instance list order --state open
  lockstep instance history order/42")]
    pub(super) Instance {
        Create(create),
        List(list),
        Get(get),
        History(history),
        Delete(delete),
        Migrate(migrate),
        Export(export),
        Import(import),
    }
}
