//! `lockstep machine delete`.

use clap::Args;
use lockstep_client::{MachineName, Version};
use lockstep_machine::DeleteDefinition;
use serde_json::json;

use crate::args::{self, Key};
use crate::{Context, Failure, output, shape};

/// Delete a machine, or one version of it, that no instance uses
#[derive(Debug, Args)]
#[command(after_help = "\
Rejected while an instance uses it. Version numbers are never reused.

Examples:
  lockstep machine delete order --version 1
  lockstep machine delete order")]
pub(crate) struct Delete {
    /// The machine
    #[arg(value_name = "NAME")]
    machine: MachineName,

    /// Only this version
    #[arg(long, value_name = "N", value_parser = args::version)]
    version: Option<Version>,

    #[command(flatten)]
    key: Key,
}

impl Delete {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let call = self.key.on(DeleteDefinition {
            machine: self.machine,
            version: self.version,
        });
        let written = context.target.client()?.delete_machine(call).await?;
        let made = &written.made;
        let json = || shape::written(json!(made), &written);
        Ok(context.show(json, || {
            let plural = if made.versions.len() == 1 { "" } else { "s" };
            let versions = output::list(&made.versions);
            format!("{}: deleted version{plural} {versions}\n", made.machine)
        }))
    }
}
