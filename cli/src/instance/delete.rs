//! `lockstep instance delete`.

use clap::Args;
use lockstep_client::InstanceId;
use serde_json::json;

use crate::args::Change;
use crate::{Context, Failure, shape};

/// Delete an instance, with its history
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep instance delete order/42
  lockstep instance delete order/42 --expect-state shipped --meta who=ann")]
pub(crate) struct Delete {
    /// The instance, machine/name
    #[arg(value_name = "ID")]
    instance: InstanceId,

    #[command(flatten)]
    change: Change,
}

impl Delete {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let call = self.change.key.on(lockstep_machine::Delete {
            instance: self.instance,
            expect_state: self.change.expect_state,
            expect_revision: self.change.expect_revision,
            metadata: self.change.meta.into_metadata()?,
        });
        let written = context.target.client()?.delete(call).await?;
        let made = &written.made;
        let json = || shape::written(json!({ "deleted": made }), &written);
        Ok(context.show(json, || {
            format!(
                "{}: deleted in state {} at revision {}\n",
                made.instance, made.state, made.revision
            )
        }))
    }
}
