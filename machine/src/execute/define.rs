//! The command [`Define`](crate::Command::Define): a machine's first version, or its next one.

use std::sync::Arc;

use super::BUILT_IN_MACHINE;
use crate::definition::{Compiled, Definition};
use crate::event::{Cause, Event, EventKind};
use crate::ids::{GlobalRevision, MachineName, Revision, Version};
use crate::limits::Quota;
use crate::metadata::Metadata;
use crate::outcome::Defined;
use crate::rejection::Rejection;
use crate::world::{Pinned, World};

pub(crate) fn execute(world: &mut World, definition: &Definition) -> Result<Defined, Rejection> {
    let name = &definition.name;
    if name.as_str() == BUILT_IN_MACHINE {
        return Err(Rejection::BuiltIn {
            name: name.to_string(),
        });
    }
    let stored = world.machines.get(name);
    if let Some((version, newest)) = stored.and_then(|machine| machine.versions.get_max())
        && newest.compiled.definition().is_equal(definition)
    {
        let warnings = definition.warnings();
        return Ok(Defined {
            machine: name.clone(),
            version: *version,
            created: false,
            warnings,
        });
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

    let version = store(world, Arc::new(compiled));
    let event = event(world, EventKind::Defined, name.clone(), version);
    world.record(event);
    let warnings = definition.warnings();
    Ok(Defined {
        machine: name.clone(),
        version,
        created: true,
        warnings,
    })
}

fn store(world: &mut World, compiled: Arc<Compiled>) -> Version {
    let name = compiled.definition().name.clone();
    let last = match world.machines.get(&name) {
        Some(machine) => machine.last_version,
        None => world.retired.last_version(&name),
    };
    world.retired.machines.remove(&name);
    let version = Version(last.0.saturating_add(1));
    let machine = world.machines.entry(name).or_default();
    machine.last_version = version;
    machine.versions.insert(
        version,
        Pinned {
            compiled,
            instances: 0,
        },
    );
    version
}

/// The event of a change to a definition.
pub(crate) fn event(
    world: &World,
    kind: EventKind,
    machine: MachineName,
    version: Version,
) -> Event {
    Event {
        revision: GlobalRevision(0),
        position: 0,
        kind,
        machine,
        name: None,
        version,
        from_version: None,
        from: None,
        to: None,
        event: None,
        instance_revision: Revision(0),
        at: world.clock,
        cause: Cause::Request,
        metadata: Metadata::default(),
    }
}
