//! The command [`Define`](crate::Command::Define): stores the first or next version of a machine.

use super::refuse_built_in_machine;
use crate::definition::{Compiled, Definition};
use crate::event::{Event, EventKind};
use crate::ids::Version;
use crate::limits::Quota;
use crate::outcome::Defined;
use crate::rejection::Rejection;
use crate::world::{Pinned, World};

pub(crate) fn execute(world: &mut World, definition: &Definition) -> Result<Defined, Rejection> {
    let name = &definition.name;
    refuse_built_in_machine(name)?;
    let defined = |version, created| Defined {
        machine: name.clone(),
        version,
        created,
        warnings: definition.warnings(),
    };
    let stored = world.machines.get(name);
    if let Some((version, newest)) = stored.and_then(|machine| machine.versions.get_max())
        && newest.compiled.definition.is_equal(definition)
    {
        return Ok(defined(*version, false));
    }
    world.check_quota(Quota::States, definition.states.len() as u64)?;
    world.check_quota(Quota::Transitions, definition.step_count())?;
    world.check_quota(Quota::DocumentBytes, definition.stored_bytes())?;
    let compiled =
        Compiled::new(definition.clone(), &world.limits).map_err(Rejection::InvalidDefinition)?;
    let (machines, versions) = match stored {
        Some(machine) => (0, machine.versions.len() as u64 + 1),
        None => (world.machines.len() as u64 + 1, 1),
    };
    world.check_quota(Quota::Definitions, machines)?;
    world.check_quota(Quota::Versions, versions)?;

    let version = store(world, compiled);
    let event = Event::new(EventKind::Defined, name.clone(), version, world.clock);
    world.record(event);
    Ok(defined(version, true))
}

fn store(world: &mut World, compiled: Compiled) -> Version {
    let name = compiled.definition.name.clone();
    let last = match world.machines.get(&name) {
        Some(machine) => machine.last_version,
        None => world.retired.last_version(&name),
    };
    world.retired.machines.remove(&name);
    let version = Version(last.0.saturating_add(1));
    let machine = world.machines.entry(name).or_default();
    machine.last_version = version;
    machine.versions.insert(version, Pinned::new(compiled));
    version
}
