//! `lockstep next`.

use clap::Args;
use lockstep_client::{
    IdempotencyKey, InstanceId, InvalidName, Revision, StateName, TransitionCall,
};
use serde_json::json;

use super::failure::Failure;
use super::output::{self, Format};
use super::{Context, get};

/// Move an instance to another state, and print that state
#[derive(Debug, Args)]
pub(super) struct Next {
    /// The state to go to
    state: StateName,

    /// The instance to move, machine/name
    #[arg(long, short, value_name = "INSTANCE", default_value = get::INSTANCE_DEFAULT)]
    instance: InstanceId,

    /// Refuse unless the instance is in this state
    #[arg(long, value_name = "STATE")]
    expect_state: Option<StateName>,

    /// Refuse unless the instance is at this revision
    #[arg(long, value_name = "N")]
    expect_revision: Option<u64>,

    /// Idempotency key: the same key gets the first outcome again
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<IdempotencyKey>,
}

fn key(text: &str) -> Result<IdempotencyKey, InvalidName> {
    IdempotencyKey::new(text)
}

impl Next {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Self {
            state,
            instance,
            expect_state,
            expect_revision,
            key,
        } = self;
        let mut call = TransitionCall::to(&instance, state);
        if let Some(state) = expect_state {
            call = call.expect_state(state);
        }
        if let Some(revision) = expect_revision {
            call = call.expect_revision(Revision(revision));
        }
        if let Some(key) = key {
            call = call.idempotency_key(key);
        }
        let moved = context.target.client()?.transition(call).await?;
        let made = &moved.made;
        Ok(match context.output {
            Format::Table => format!("{}\n", made.to),
            Format::Json => output::json(&json!({
                "instance": made.instance.to_string(),
                "version": made.version,
                "from": made.from,
                "state": made.to,
                "event": made.event,
                "revision": made.revision,
                "at_ms": made.at,
                "replayed": moved.replayed,
            })),
        })
    }
}
