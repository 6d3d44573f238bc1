//! The command [`Delete`]: one instance less.

use super::{check_expectations, refuse_built_in_instance};
use crate::command::Delete;
use crate::event::{Cause, Event, EventKind};
use crate::ids::GlobalRevision;
use crate::outcome::Deleted;
use crate::rejection::Rejection;
use crate::world::World;

pub(crate) fn execute(world: &mut World, command: &Delete) -> Result<Deleted, Rejection> {
    let id = &command.instance;
    refuse_built_in_instance(id)?;
    let found = world.find(id)?;
    let (state, revision) = (command.expect_state.as_ref(), command.expect_revision);
    check_expectations(id, found.instance, state, revision)?;
    world.check_metadata(&command.metadata)?;

    let machine = found.compiled.definition().name.clone();
    let unknown = || Rejection::UnknownInstance {
        instance: id.clone(),
    };
    let instance = world.remove(id).ok_or_else(unknown)?;
    let at = world.clock;
    world.record(Event {
        revision: GlobalRevision(0),
        position: 0,
        kind: EventKind::Deleted,
        machine,
        name: Some(id.instance_name().clone()),
        version: instance.version,
        from_version: None,
        from: Some(instance.state.clone()),
        to: None,
        event: None,
        instance_revision: instance.revision,
        at,
        cause: Cause::Request,
        metadata: command.metadata.clone(),
    });
    let (state, revision) = (instance.state, instance.revision);
    Ok(Deleted {
        instance: id.clone(),
        state,
        revision,
        at,
    })
}
