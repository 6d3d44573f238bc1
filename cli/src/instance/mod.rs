//! `lockstep instance`: what runs on the machines that users define.

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

use clap::{Args, Subcommand};

use super::Context;
use super::failure::Failure;

/// Create instances, look at them, and carry them elsewhere
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

#[derive(Debug, Subcommand)]
enum Command {
    Create(create::Create),
    List(list::List),
    Get(get::Get),
    History(history::History),
    Delete(delete::Delete),
    Migrate(migrate::Migrate),
    Export(export::Export),
    Import(import::Import),
}

impl Instance {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        match self.command {
            Command::Create(create) => create.run(context).await,
            Command::List(list) => list.run(context).await,
            Command::Get(get) => get.run(context).await,
            Command::History(history) => history.run(context).await,
            Command::Delete(delete) => delete.run(context).await,
            Command::Migrate(migrate) => migrate.run(context).await,
            Command::Export(export) => export.run(context).await,
            Command::Import(import) => import.run(context).await,
        }
    }
}
