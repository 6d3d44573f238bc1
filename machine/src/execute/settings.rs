//! The command [`UpdateSettings`](crate::Command::UpdateSettings).

use std::collections::BTreeMap;

use crate::level::FeatureLevel;
use crate::rejection::Rejection;
use crate::settings::{Limits, SESSIONS_MIN, Setting};
use crate::world::World;

/// Changes the named settings, all or none. No definition or instance changes, so the revision
/// stays; the tables that remember requests shrink where they are, in [`State`](crate::State).
pub(crate) fn execute(
    world: &mut World,
    update: &BTreeMap<Setting, u64>,
) -> Result<Box<Limits>, Rejection> {
    let mut limits = world.limits;
    for (&setting, &value) in update {
        // A build without levels takes fewer sessions, and all builds must decide alike on the same entry. It
        // applies no entry after the level has risen.
        let as_before = setting == Setting::SessionsMax
            && world.level < FeatureLevel::RECORDED
            && (1..SESSIONS_MIN).contains(&value);
        match as_before {
            true => limits.sessions_max = value,
            false => limits.set(setting, value)?,
        }
    }
    world.limits = limits;
    world.ring.shrink(&limits);
    Ok(Box::new(limits))
}
