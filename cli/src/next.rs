//! `lockstep next`.

use clap::Args;
use lockstep_client::{InstanceId, StateName, TransitionCall};
use serde_json::json;

use super::args::{Expect, Key, Maybe};
use super::failure::Failure;
use super::output::{self, Format};
use super::{Context, get, shape};

/// Move an instance to another state, and print that state
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep next second                  moves the built-in instance, triad/default
  lockstep next paid -i order/42        the same as: lockstep send order/42 --to paid")]
pub(super) struct Next {
    /// The state to go to
    state: StateName,

    /// The instance to move, machine/name
    #[arg(long, short, value_name = "INSTANCE", default_value = get::INSTANCE_DEFAULT)]
    instance: InstanceId,

    #[command(flatten)]
    expect: Expect,

    #[command(flatten)]
    key: Key,
}

impl Next {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let call = TransitionCall::to(&self.instance, self.state)
            .maybe(self.expect.expect_state, TransitionCall::expect_state)
            .maybe(self.expect.expect_revision, TransitionCall::expect_revision)
            .maybe(self.key.key, TransitionCall::idempotency_key);
        let moved = context.target.client()?.transition(call).await?;
        let made = &moved.made;
        Ok(match context.output {
            // The fields of HTTP, and beside them the names that `next` has had from the start.
            Format::Json => {
                let mut body = shape::transitioned(made);
                body["instance"] = made.instance.to_string().into();
                body["state"] = json!(made.to);
                body["at_ms"] = json!(made.at);
                body["replayed"] = moved.replayed.into();
                output::json(&body)
            }
            _ => format!("{}\n", made.to),
        })
    }
}
