//! The command [`Create`]: creates an instance.

use super::exists;
use crate::command::Create;
use crate::definition::Compiled;
use crate::event::{Event, EventKind};
use crate::ids::Version;
use crate::instance::Instance;
use crate::limits::Quota;
use crate::outcome::Created;
use crate::rejection::Rejection;
use crate::world::World;

/// The version to pin it to, or why it cannot be created beside so many instances.
pub(crate) fn check<'w>(
    world: &'w World,
    command: &Create,
    instances: u64,
) -> Result<(Version, &'w Compiled), Rejection> {
    let id = &command.instance;
    let machine = world.machine(&id.machine)?;
    let version = machine.version(&id.machine, command.version)?;
    if let Some(there) = machine.instances.get(id.instance_name()) {
        return Err(exists(id, there));
    }
    world.check_metadata(&command.metadata)?;
    world.check_quota(Quota::Instances, instances + 1)?;
    Ok(version)
}

pub(crate) fn execute(world: &mut World, command: &Create) -> Result<Created, Rejection> {
    let id = &command.instance;
    let (version, compiled) = check(world, command, world.instances)?;
    let at = world.clock;
    let state = compiled.initial().clone();
    let mut instance = Instance::new(version, state.clone(), at, command.metadata.clone());
    instance.deadline = world.deadline(compiled.exits(&state));
    let machine = compiled.definition.name.clone();
    let event = Event {
        name: Some(id.instance_name().clone()),
        to: Some(state.clone()),
        metadata: command.metadata.clone(),
        ..Event::new(EventKind::Created, machine, version, at)
    };
    world.insert(id, instance);
    world.record(event);
    Ok(Created {
        instance: id.clone(),
        version,
        state,
        at,
    })
}
