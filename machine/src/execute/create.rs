//! The command [`Create`]: one more instance.

use crate::command::Create;
use crate::event::{Cause, Event, EventKind};
use crate::ids::{GlobalRevision, Revision};
use crate::instance::Instance;
use crate::limits::Quota;
use crate::outcome::Created;
use crate::rejection::Rejection;
use crate::world::World;

pub(crate) fn execute(world: &mut World, command: &Create) -> Result<Created, Rejection> {
    let id = &command.instance;
    let machine = world.machine(&id.machine)?;
    let (version, compiled) = machine.version(&id.machine, command.version)?;
    if let Some(there) = machine.instances.get(id.instance_name()) {
        return Err(Rejection::InstanceExists {
            instance: id.clone(),
            current: there.state.clone(),
            revision: there.revision,
        });
    }
    world.check_metadata(&command.metadata)?;
    world.check_quota(Quota::Instances, world.instances + 1)?;

    let at = world.clock;
    let state = compiled.initial().clone();
    let mut instance = Instance::new(version, state.clone(), at, command.metadata.clone());
    instance.deadline = world.deadline(compiled.exits(&state));
    let machine = compiled.definition().name.clone();
    let event = Event {
        revision: GlobalRevision(0),
        position: 0,
        kind: EventKind::Created,
        machine,
        name: Some(id.instance_name().clone()),
        version,
        from_version: None,
        from: None,
        to: Some(state.clone()),
        event: None,
        instance_revision: Revision(0),
        at,
        cause: Cause::Request,
        metadata: command.metadata.clone(),
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
