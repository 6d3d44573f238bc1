//! The command [`RaiseLevel`](crate::Command::RaiseLevel).

use crate::level::FeatureLevel;
use crate::world::World;

/// Raises the level; a lower one changes nothing, because a former leader may have proposed it. Returns the
/// level then. Nothing that a watch shows has changed, so the revision stays.
pub(crate) fn execute(world: &mut World, level: FeatureLevel) -> FeatureLevel {
    world.level = world.level.max(level);
    world.level
}

#[cfg(test)]
mod tests {
    use crate::testing::Driver;
    use crate::{Command, FeatureLevel, GlobalRevision, Limits, Outcome, State};

    #[test]
    fn the_level_rises_and_never_falls() {
        let mut driver = Driver::new(Limits::default());
        let mut raised_to = |level| match driver.run(Command::RaiseLevel(level)) {
            Outcome::LevelRaised { level } => level,
            other => panic!("{other:?}"),
        };
        assert_eq!(raised_to(FeatureLevel::NEWEST), FeatureLevel::NEWEST);
        assert_eq!(raised_to(FeatureLevel::FIRST), FeatureLevel::NEWEST);
        assert_eq!(driver.state.level(), FeatureLevel::NEWEST);
        assert_eq!(driver.state.revision(), GlobalRevision(0));
        assert_eq!(State::default().level(), FeatureLevel::FIRST);
    }
}
