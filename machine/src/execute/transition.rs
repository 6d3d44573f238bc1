//! The command [`Transition`]: moves an instance along one transition.

use crate::command::{Transition, Trigger};
use crate::event::{Cause, EventKind};
use crate::ids::{EventName, StateName};
use crate::outcome::Transitioned;
use crate::rejection::Rejection;
use crate::world::{Found, Step, World};

/// The instance and where it goes, or why it does not.
pub(crate) fn check<'w>(
    world: &'w World,
    command: &Transition,
) -> Result<(Found<'w>, Target), Rejection> {
    let id = &command.instance;
    let found = world.find(id)?;
    found.check(id, command.expect_state.as_ref(), command.expect_revision)?;
    let target = target(command, &found)?;
    world.check_metadata(&command.metadata)?;
    Ok((found, target))
}

/// Moves the instance, or says why not.
pub(crate) fn execute(world: &mut World, command: &Transition) -> Result<Transitioned, Rejection> {
    let id = &command.instance;
    let (found, (to, event)) = check(world, command)?;
    let step = Step {
        kind: EventKind::Transitioned,
        version: found.instance.version,
        deadline: world.deadline(found.compiled.exits(&to)),
        to: to.clone(),
        event: event.clone(),
        cause: Cause::Request,
        metadata: &command.metadata,
    };
    let (from, version) = (found.instance.state.clone(), found.instance.version);
    let made = world.step(id, step)?;
    Ok(Transitioned {
        instance: id.clone(),
        version,
        from,
        to,
        event,
        revision: made.instance_revision,
        at: made.at,
    })
}

/// The target state and the event, as the definition's shared names.
type Target = (StateName, Option<EventName>);

fn target(command: &Transition, found: &Found<'_>) -> Result<Target, Rejection> {
    let (id, instance) = (&command.instance, found.instance);
    match &command.trigger {
        Trigger::To(to) => match found.exits.lead_to(to) {
            Some(to) => Ok((to.clone(), None)),
            None => Err(no_way(command, found, to)),
        },
        Trigger::Event(event) => match found.exits.by_event(event) {
            Some((event, to)) => Ok((to.clone(), Some(event.clone()))),
            None => Err(Rejection::UnknownEvent {
                instance: id.clone(),
                event: event.clone(),
                current: instance.state.clone(),
                revision: instance.revision,
                events: None,
            }),
        },
    }
}

fn no_way(command: &Transition, found: &Found<'_>, to: &StateName) -> Rejection {
    let (id, instance) = (&command.instance, found.instance);
    if found.compiled.exits(to).is_none() {
        return Rejection::UnknownState {
            machine: id.machine.clone(),
            state: to.clone(),
            known: found.compiled.state_names(),
            current: instance.state.clone(),
            revision: instance.revision,
        };
    }
    Rejection::IllegalTransition {
        instance: id.clone(),
        from: instance.state.clone(),
        to: to.clone(),
        allowed: found.exits.allowed.to_vec(),
        revision: instance.revision,
        events: None,
    }
}
