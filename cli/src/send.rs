//! `lockstep send`.

use clap::Args;
use lockstep_client::{Client, Consistency, EventName, InstanceId, Rejected, StateName, Trigger};
use lockstep_machine::Transition;
use serde_json::json;

use super::args::{Expect, Key, Meta};
use super::{Context, Failure, shape};

const EXAMPLES: &str = "\
Prints only the new state of the instance.

Examples:
  lockstep send order/42 --event pay
  lockstep send order/42 --to paid --expect-state open --meta who=ann --meta why='paid in cash'
  lockstep send order/42 --event pay --idempotency-key payment-7   # executed once, however often it is run";

/// Move an instance to another state, by event or by target state
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Send {
    /// The instance, machine/name
    #[arg(value_name = "INSTANCE")]
    instance: InstanceId,

    #[command(flatten)]
    by: By,

    #[command(flatten)]
    expect: Expect,

    #[command(flatten)]
    meta: Meta,

    #[command(flatten)]
    key: Key,
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
        let call = self.key.on(Transition {
            expect_state: self.expect.expect_state,
            expect_revision: self.expect.expect_revision,
            metadata: self.meta.into_metadata()?,
            ..Transition::new(self.instance.clone(), self.by.trigger()?)
        });
        let client = context.target.client()?;
        let written = match client.transition(call).await {
            Ok(written) => written,
            Err(lockstep_client::Error::Rejected(rejected)) => {
                return Err(explained(&client, &self.instance, *rejected).await);
            }
            Err(error) => return Err(error.into()),
        };
        let json = || {
            let made = json!({ "transitioned": written.made });
            shape::written(made, &written)
        };
        Ok(context.show(json, || format!("{}\n", written.made.to)))
    }
}

/// The rejection; of an unknown event, with the events that have a transition, if they can be read.
async fn explained(client: &Client, instance: &InstanceId, rejected: Rejected) -> Failure {
    let is_unknown = rejected.code == "unknown_event";
    let current = rejected.current_state.clone();
    let failure = Failure::from(lockstep_client::Error::Rejected(Box::new(rejected)));
    match current {
        Some(state) if is_unknown => match events(client, instance, &state).await {
            Some(events) if events.is_empty() => {
                failure.because("no event is allowed in this state")
            }
            Some(events) => failure
                .because(format!("allowed events: {}", events.join(", ")))
                .with("events", events),
            None => failure,
        },
        _ => failure,
    }
}

/// The events that lead out of a state, in order of name; none if the definition cannot be read.
async fn events(client: &Client, instance: &InstanceId, state: &str) -> Option<Vec<String>> {
    let found = client.get(instance, Consistency::Linearizable).await.ok()?;
    let version = Some(found.found.version);
    let machine = client.machine(&instance.machine, version, Consistency::Linearizable);
    let definition = machine.await.ok()?.found.definition;
    let steps = definition
        .steps()
        .filter(|(from, _)| from.as_str() == state);
    let mut events: Vec<_> = steps
        .filter_map(|(_, it)| it.event.as_ref().map(ToString::to_string))
        .collect();
    events.sort_unstable();
    events.dedup();
    Some(events)
}
