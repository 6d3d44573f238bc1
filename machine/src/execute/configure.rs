//! The command [`Configure`](crate::Command::Configure): other limits from now on.

use crate::limits::Limits;
use crate::outcome::Outcome;
use crate::world::World;

/// Replaces the limits. No definition or instance changes, so the revision stays; the tables that
/// remember requests shrink where they are, in [`State`](crate::State).
pub(crate) fn execute(world: &mut World, limits: &Limits) -> Outcome {
    world.limits = *limits;
    world.ring.shrink(limits);
    Outcome::Configured
}
