//! The command [`Delete`]: deletes an instance.

use super::refuse_built_in_instance;
use crate::command::Delete;
use crate::event::{Event, EventKind};
use crate::outcome::Deleted;
use crate::rejection::Rejection;
use crate::world::{Found, World};

/// The instance, or why it cannot be deleted.
pub(crate) fn check<'w>(world: &'w World, command: &Delete) -> Result<Found<'w>, Rejection> {
    let id = &command.instance;
    refuse_built_in_instance(id)?;
    let found = world.find(id)?;
    found.check(id, command.expect_state.as_ref(), command.expect_revision)?;
    world.check_metadata(&command.metadata)?;
    Ok(found)
}

pub(crate) fn execute(world: &mut World, command: &Delete) -> Result<Deleted, Rejection> {
    let id = &command.instance;
    let found = check(world, command)?;
    let machine = found.compiled.definition.name.clone();
    let instance = world.remove(id)?;
    let at = world.clock;
    world.record(Event {
        name: Some(id.instance_name().clone()),
        from: Some(instance.state.clone()),
        instance_revision: instance.revision,
        metadata: command.metadata.clone(),
        ..Event::new(EventKind::Deleted, machine, instance.version, at)
    });
    Ok(Deleted {
        instance: id.clone(),
        state: instance.state,
        revision: instance.revision,
        at,
    })
}
