//! `lockstep machine delete`.

use clap::Args;
use lockstep_client::{DeleteMachineCall, MachineName, Version};
use serde_json::json;

use crate::Context;
use crate::args::{self, Key, Maybe};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::shape;

/// Forget a machine, or one version of it, that no instance uses
#[derive(Debug, Args)]
#[command(after_help = "\
Refused while an instance uses it. The numbers of its versions are never given again.

Examples:
  lockstep machine delete order --version 1
  lockstep machine delete order")]
pub(super) struct Delete {
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
        let call = DeleteMachineCall::new(&self.machine)
            .maybe(self.version, DeleteMachineCall::version)
            .maybe(self.key.key, DeleteMachineCall::idempotency_key);
        let written = context.target.client()?.delete_machine(call).await?;
        let made = &written.made;
        Ok(match context.output {
            Format::Json => {
                let body = json!({ "machine": made.machine, "versions": made.versions });
                output::json(&shape::written(body, &written))
            }
            _ => {
                let noun = if made.versions.len() == 1 {
                    "version"
                } else {
                    "versions"
                };
                format!(
                    "{}: deleted {noun} {}\n",
                    made.machine,
                    output::list(&made.versions)
                )
            }
        })
    }
}
