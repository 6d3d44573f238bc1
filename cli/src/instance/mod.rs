//! `lockstep instance`: the instances of machines.

mod bulk;
mod create;
mod delete;
mod export;
mod get;
mod history;
mod import;
mod list;
mod migrate;
mod walk;

use clap::Args;

use super::failure::Failure;
use super::{Context, commands};

/// Create, list, migrate, export and import instances
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
`lockstep send` and `lockstep next` move an instance.

Examples:
  lockstep instance create order/42 --meta customer=ann
  lockstep instance list order --state open
  lockstep instance history order/42")]
pub(super) struct Instance {
    #[command(subcommand)]
    command: Command,
}

commands!(Command {
    Create(create),
    List(list),
    Get(get),
    History(history),
    Delete(delete),
    Migrate(migrate),
    Export(export),
    Import(import),
});

impl Instance {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        self.command.run(context).await
    }
}
