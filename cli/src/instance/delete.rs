//! `lockstep instance delete`.

use clap::Args;
use lockstep_client::{DeleteCall, InstanceId};
use serde_json::json;

use crate::args::{Expect, Key, Maybe, Meta};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::{Context, shape};

/// Delete an instance, with its history
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep instance delete order/42
  lockstep instance delete order/42 --expect-state shipped --meta who=ann")]
pub(super) struct Delete {
    /// The instance, machine/name
    #[arg(value_name = "ID")]
    instance: InstanceId,

    #[command(flatten)]
    expect: Expect,

    #[command(flatten)]
    meta: Meta,

    #[command(flatten)]
    key: Key,
}

impl Delete {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let call = DeleteCall::new(&self.instance)
            .metadata(self.meta.into_metadata()?)
            .maybe(self.expect.expect_state, DeleteCall::expect_state)
            .maybe(self.expect.expect_revision, DeleteCall::expect_revision)
            .maybe(self.key.key, DeleteCall::idempotency_key);
        let written = context.target.client()?.delete(call).await?;
        let made = &written.made;
        Ok(match context.output {
            Format::Json => {
                let body = json!({ "deleted": shape::deleted(made) });
                output::json(&shape::written(body, &written))
            }
            _ => format!(
                "{}: deleted in state {} at revision {}\n",
                made.instance, made.state, made.revision
            ),
        })
    }
}
