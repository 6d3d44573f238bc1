//! `lockstep next`.

use clap::Args;
use lockstep_client::{InstanceId, StateName, Trigger};
use serde_json::json;

use super::args::Change;
use super::{Context, Failure, get};

/// Make a transition to another state, and print that state
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep next second                  of the built-in instance, triad/default
  lockstep next paid -i order/42        the same as: lockstep send order/42 --to paid")]
pub(super) struct Next {
    /// The state to go to
    state: StateName,

    /// The instance, machine/name
    #[arg(long, short, value_name = "INSTANCE", default_value = get::INSTANCE_DEFAULT)]
    instance: InstanceId,

    #[command(flatten)]
    change: Change,
}

impl Next {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let call = self
            .change
            .transition(self.instance, Trigger::To(self.state))?;
        let written = context.target.client()?.transition(call).await?;
        let made = &written.made;
        // The fields of HTTP, and the older names of some of them.
        let json = || {
            let mut body = json!(made);
            body["instance"] = made.instance.to_string().into();
            body["state"] = json!(made.to);
            body["at_ms"] = json!(made.at.0);
            body["replayed"] = written.replayed.into();
            body
        };
        Ok(context.show(json, || format!("{}\n", made.to)))
    }
}
