//! The command [`DeleteDefinition`]: deletes a definition that no instance uses.

use super::refuse_built_in_machine;
use crate::command::DeleteDefinition;
use crate::event::{Event, EventKind};
use crate::ids::Version;
use crate::outcome::DefinitionDeleted;
use crate::rejection::Rejection;
use crate::world::World;

pub(crate) fn execute(
    world: &mut World,
    command: &DeleteDefinition,
) -> Result<DefinitionDeleted, Rejection> {
    let name = &command.machine;
    refuse_built_in_machine(name)?;
    let machine = world.machine(name)?;
    let versions: Vec<Version> = match command.version {
        Some(version) => vec![machine.version(name, Some(version))?.0],
        None => machine.versions.keys().copied().collect(),
    };
    let uses = |version: &Version| machine.versions.get(version).map_or(0, |it| it.instances);
    if let Some(used) = versions.iter().find(|version| uses(version) > 0) {
        let (version, instances) = (*used, uses(used));
        return Err(Rejection::DefinitionInUse {
            machine: name.clone(),
            version,
            instances,
        });
    }

    for version in &versions {
        let kind = EventKind::DefinitionDeleted;
        let event = Event::new(kind, name.clone(), *version, world.clock);
        world.record(event);
    }
    if let Some(machine) = world.machines.get_mut(name) {
        for version in &versions {
            machine.versions.remove(version);
        }
        machine.forget_empty_states();
        if machine.versions.is_empty() {
            let last = machine.last_version;
            world.machines.remove(name);
            world
                .retired
                .retire(name.clone(), world.next_revision(), last);
        }
    }
    Ok(DefinitionDeleted {
        machine: name.clone(),
        versions,
    })
}
