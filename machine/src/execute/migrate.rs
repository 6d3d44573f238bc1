//! The command [`Migrate`]: pins an instance to another version of its definition.

use crate::command::Migrate;
use crate::definition::Exits;
use crate::event::{Cause, EventKind};
use crate::ids::{StateName, Timestamp};
use crate::outcome::Migrated;
use crate::rejection::Rejection;
use crate::world::{Found, Step, World};

pub(crate) fn execute(world: &mut World, command: &Migrate) -> Result<Migrated, Rejection> {
    let id = &command.instance;
    let found = world.find(id)?;
    let instance = found.instance;
    found.check(id, command.expect_state.as_ref(), command.expect_revision)?;
    let (version, compiled) = found.machine.version(&id.machine, command.version)?;
    if version == instance.version {
        return Err(Rejection::AlreadyAtVersion {
            instance: id.clone(),
            version,
            current: instance.state.clone(),
            revision: instance.revision,
        });
    }
    let wanted = command
        .states
        .get(&instance.state)
        .unwrap_or(&instance.state);
    let unmapped = || Rejection::UnmappedState {
        instance: id.clone(),
        version,
        state: wanted.clone(),
        known: compiled.state_names(),
        current: instance.state.clone(),
        revision: instance.revision,
    };
    let to = compiled.shared(wanted).ok_or_else(unmapped)?.clone();
    world.check_metadata(&command.metadata)?;

    let (from, from_version) = (instance.state.clone(), instance.version);
    let step = Step {
        kind: EventKind::Migrated,
        version,
        deadline: deadline(world, &found, &to, compiled.exits(&to)),
        to: to.clone(),
        event: None,
        cause: Cause::Request,
        metadata: &command.metadata,
    };
    let event = world.step(id, step)?;
    Ok(Migrated {
        instance: id.clone(),
        from_version,
        version,
        from,
        to,
        revision: event.instance_revision,
        at: event.at,
    })
}

/// If the state and its timeout are unchanged, the instance keeps its deadline; otherwise the timeout
/// starts again.
fn deadline(
    world: &World,
    found: &Found<'_>,
    to: &StateName,
    exits: Option<&Exits>,
) -> Option<Timestamp> {
    let after = |exits: &Exits| exits.timeout.as_ref().map(|timeout| timeout.after_ms);
    let stays = found.instance.state == *to;
    if stays && exits.is_some_and(|exits| after(exits) == after(found.exits)) {
        return found.instance.deadline;
    }
    world.deadline(exits)
}
