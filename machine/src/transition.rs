//! The command [`Transition`]: one instance, one step.

use crate::command::{Transition, Trigger};
use crate::definition::{Compiled, Exits};
use crate::ids::{EventName, Revision, StateName};
use crate::instance::Instance;
use crate::outcome::{Outcome, Rejection, Transitioned};
use crate::state::State;

/// Moves the instance, or says why not.
pub(crate) fn execute(state: &mut State, command: &Transition) -> Outcome {
    match check(state, command) {
        Ok((to, event)) => step(state, command, to, event),
        Err(rejection) => Outcome::Rejected(rejection),
    }
}

fn step(
    state: &mut State,
    command: &Transition,
    to: StateName,
    event: Option<EventName>,
) -> Outcome {
    let at = state.now();
    let Some(instance) = state.instance_mut(&command.instance) else {
        return Outcome::Rejected(Rejection::UnknownInstance {
            instance: command.instance.clone(),
        });
    };
    let from = std::mem::replace(&mut instance.state, to.clone());
    instance.revision = Revision(instance.revision.0.saturating_add(1));
    instance.changed_at = at;
    Outcome::Transitioned(Transitioned {
        instance: command.instance.clone(),
        version: instance.version,
        from,
        to,
        event,
        revision: instance.revision,
        at,
    })
}

/// Where the instance goes and by which event. The order of the checks is part of the contract:
/// the same request gets the same reason on every node and in every build.
fn check(state: &State, command: &Transition) -> Result<(StateName, Option<EventName>), Rejection> {
    let id = &command.instance;
    if !state.has_machine(&id.machine) {
        return Err(Rejection::UnknownMachine {
            machine: id.machine.clone(),
        });
    }
    let unknown = || Rejection::UnknownInstance {
        instance: id.clone(),
    };
    let instance = state.instance(id).ok_or_else(unknown)?;
    check_expectations(command, instance)?;

    let definition = state
        .compiled(&id.machine, instance.version)
        .ok_or_else(unknown)?;
    let exits = definition.exits(&instance.state).ok_or_else(unknown)?;
    match &command.trigger {
        Trigger::To(to) => {
            check_target(command, instance, definition, exits, to)?;
            Ok((to.clone(), None))
        }
        Trigger::Event(event) => match exits.by_event(event) {
            Some(to) => Ok((to.clone(), Some(event.clone()))),
            None => Err(Rejection::UnknownEvent {
                instance: id.clone(),
                event: event.clone(),
                current: instance.state.clone(),
                revision: instance.revision,
            }),
        },
    }
}

fn check_expectations(command: &Transition, instance: &Instance) -> Result<(), Rejection> {
    if let Some(expected) = command
        .expect_state
        .as_ref()
        .filter(|state| **state != instance.state)
    {
        return Err(Rejection::StateMismatch {
            instance: command.instance.clone(),
            expected: expected.clone(),
            current: instance.state.clone(),
            revision: instance.revision,
        });
    }
    if let Some(expected) = command
        .expect_revision
        .filter(|revision| *revision != instance.revision)
    {
        return Err(Rejection::RevisionMismatch {
            instance: command.instance.clone(),
            expected,
            current: instance.state.clone(),
            revision: instance.revision,
        });
    }
    Ok(())
}

fn check_target(
    command: &Transition,
    instance: &Instance,
    definition: &Compiled,
    exits: &Exits,
    to: &StateName,
) -> Result<(), Rejection> {
    if exits.lead_to(to) {
        return Ok(());
    }
    if definition.exits(to).is_none() {
        return Err(Rejection::UnknownState {
            machine: command.instance.machine.clone(),
            state: to.clone(),
            known: definition.definition().states.clone(),
            current: instance.state.clone(),
            revision: instance.revision,
        });
    }
    Err(Rejection::IllegalTransition {
        instance: command.instance.clone(),
        from: instance.state.clone(),
        to: to.clone(),
        allowed: exits.allowed().to_vec(),
        revision: instance.revision,
    })
}
