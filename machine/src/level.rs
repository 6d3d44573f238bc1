//! The feature level: which commands every node of the cluster can apply.
//!
//! A node stops at a command in the log that its build does not know, because skipping it would make the
//! states differ. So the replicated state has a level, and a command that needs a higher one is refused
//! before it is proposed. [`LEVELS`] says what each level adds.
//!
//! The leader raises the level with [`Command::RaiseLevel`], once every member runs a build that supports the
//! higher one. It never falls. Each build supports every level up to its own, [`FeatureLevel::NEWEST`].
//!
//! To add a command, a field of a command or a setting:
//!
//! 1. Add a row to [`LEVELS`], if the last one has been released; else extend the last one.
//! 2. Let [`Command::level`] return the level of that row for a command that uses what is new.
//! 3. What is new must not change the bytes that are written for a state that does not use it, so that the
//!    hashes of old and new builds stay equal until the level rises.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::command::Command;
use crate::settings::Setting;

/// What each level adds; the first is level 1, which is the level of a state that has none.
const LEVELS: &[&str] = &[
    "the commands, fields and settings of releases without feature levels",
    "the feature level itself; the setting `feature_level_max`",
];

/// A feature level that this build supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureLevel(u32);

/// A feature level that this build does not support: a newer build raised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("feature level {0} is unknown")]
pub struct UnknownLevel(pub u32);

impl FeatureLevel {
    /// The level of a new cluster.
    pub const FIRST: Self = Self(1);
    /// The level in which the state records its level.
    pub(crate) const RECORDED: Self = Self(2);
    /// The highest level that this build supports.
    pub const NEWEST: Self = Self(LEVELS.len() as u32);

    /// The level of this number.
    ///
    /// # Errors
    ///
    /// This build has no such level.
    pub fn new(number: u32) -> Result<Self, UnknownLevel> {
        match (1..=Self::NEWEST.0).contains(&number) {
            true => Ok(Self(number)),
            false => Err(UnknownLevel(number)),
        }
    }

    /// The highest level that both this build and a member support; a member whose release has no levels
    /// reports 0, and supports the first.
    pub fn supported_with(reported: u32) -> Self {
        Self(reported.clamp(1, Self::NEWEST.0))
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// What it adds to the level below.
    pub fn adds(self) -> &'static str {
        LEVELS[self.0 as usize - 1]
    }
}

impl Default for FeatureLevel {
    fn default() -> Self {
        Self::FIRST
    }
}

impl std::fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<C> Encode<C> for FeatureLevel {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.u32(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for FeatureLevel {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        let at = d.position();
        match d.u32()? {
            0 => Err(DecodeError::message("feature levels begin at 1").at(at)),
            number => Self::new(number).map_err(|unknown| DecodeError::custom(unknown).at(at)),
        }
    }
}

impl Command {
    /// The feature level that the cluster must have reached before the command may be proposed.
    pub fn level(&self) -> FeatureLevel {
        match self {
            Command::UpdateSettings(update) => {
                let levels = update.keys().map(|it| it.level());
                levels.max().unwrap_or_default()
            }
            // Only the leader proposes it, once every member supports the level that it names.
            Command::RaiseLevel(_) => FeatureLevel::FIRST,
            Command::Transition(_)
            | Command::Define(_)
            | Command::DeleteDefinition(_)
            | Command::Create(_)
            | Command::Delete(_)
            | Command::Migrate(_)
            | Command::Transaction(_)
            | Command::Expire(_)
            | Command::Sink(_) => FeatureLevel::FIRST,
        }
    }
}

impl Setting {
    /// The feature level that added it.
    fn level(self) -> FeatureLevel {
        match self {
            Setting::FeatureLevelMax => FeatureLevel(2),
            _ => FeatureLevel::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, CodecError};

    #[test]
    fn a_level_of_a_newer_build_is_unknown_and_not_malformed() {
        let newest = codec::encode(&FeatureLevel::NEWEST);
        assert_eq!(codec::decode("state", &newest), Ok(FeatureLevel::NEWEST));
        let above = codec::encode(&(FeatureLevel::NEWEST.0 + 1));
        let error = codec::decode::<FeatureLevel>("state", &above).unwrap_err();
        let expected = CodecError::UnknownLevel {
            what: "state",
            found: FeatureLevel::NEWEST.0 + 1,
            supported: FeatureLevel::NEWEST.0,
        };
        assert_eq!(error, expected);
        assert!(error.is_from_newer_build());
        let zero = codec::decode::<FeatureLevel>("state", &codec::encode(&0)).unwrap_err();
        assert!(!zero.is_from_newer_build(), "{zero}");
    }

    #[test]
    fn a_command_needs_the_level_of_the_newest_setting_it_names() {
        let update = |settings: &[Setting]| {
            let update = settings.iter().map(|it| (*it, 1));
            Command::UpdateSettings(update.collect()).level().get()
        };
        assert_eq!(update(&[Setting::KeysMax]), 1);
        assert_eq!(update(&[Setting::KeysMax, Setting::FeatureLevelMax]), 2);
    }
}
