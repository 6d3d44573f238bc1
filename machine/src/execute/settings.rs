//! The command [`UpdateSettings`](crate::Command::UpdateSettings).

use std::collections::BTreeMap;

use crate::rejection::Rejection;
use crate::settings::{Limits, Setting};
use crate::world::World;

/// Changes the named settings, all or none. No definition or instance changes, so the revision
/// stays; the tables that remember requests shrink where they are, in [`State`](crate::State).
pub(crate) fn execute(
    world: &mut World,
    update: &BTreeMap<Setting, u64>,
) -> Result<Box<Limits>, Rejection> {
    let mut limits = world.limits;
    for (&setting, &value) in update {
        limits.set(setting, value)?;
    }
    world.limits = limits;
    world.ring.shrink(&limits);
    Ok(Box::new(limits))
}
