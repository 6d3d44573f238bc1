//! `lockstep send`.

use clap::Args;
use lockstep_client::{EventName, InstanceId, StateName, Trigger};
use serde_json::json;

use super::args::Change;
use super::{Context, Failure, shape};

/// Make a transition, by event or to a state
#[derive(Debug, Args)]
#[command(after_help = "\
Prints only the new state of the instance.

Examples:
  lockstep send order/42 --event pay
  lockstep send order/42 --to paid --expect-state open --meta who=ann --meta why='paid in cash'
  lockstep send order/42 --event pay --idempotency-key payment-7   # executed once, however often it is run")]
pub(super) struct Send {
    /// The instance, machine/name
    #[arg(value_name = "INSTANCE")]
    instance: InstanceId,

    #[command(flatten)]
    by: By,

    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct By {
    /// The event that triggers the transition
    #[arg(long, value_name = "EVENT")]
    event: Option<EventName>,

    /// The state to go to
    #[arg(long, value_name = "STATE")]
    to: Option<StateName>,
}

impl By {
    fn trigger(self) -> Result<Trigger, Failure> {
        match (self.to, self.event) {
            (Some(to), _) => Ok(Trigger::To(to)),
            (None, Some(event)) => Ok(Trigger::Event(event)),
            (None, None) => Err(Failure::usage("either --event or --to is required")),
        }
    }
}

impl Send {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let call = self.change.transition(self.instance, self.by.trigger()?)?;
        let written = context.target.client()?.transition(call).await?;
        let json = || shape::written(json!({ "transitioned": written.made }), &written);
        Ok(context.show(json, || format!("{}\n", written.made.to)))
    }
}
