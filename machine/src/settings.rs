//! The cluster settings: values in the replicated state that every node uses, changed by
//! [`Command::UpdateSettings`](crate::Command::UpdateSettings) only.
//!
//! One table states each setting's number in the binary form, its names, unit, default, range and
//! meaning. [`Limits`] is made from it, and so are the documentation, the interfaces and the metrics. A new
//! setting is a row at its end; its number is never used again.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Serialize, Serializer};

use crate::metadata::METADATA_BYTES_CEILING;
use crate::rejection::Rejection;
use crate::unit::Unit;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Fewer sessions than a cluster has nodes would be forgotten while they are in use.
pub(crate) const SESSIONS_MIN: u64 = 128;

/// What is known of a setting.
#[derive(Debug)]
pub struct SettingInfo {
    /// Its name: snake case, the same in every interface.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Its value in a new cluster.
    pub default: u64,
    /// The values allowed.
    pub range: RangeInclusive<u64>,
    /// What it bounds: one sentence.
    pub doc: &'static str,
}

macro_rules! settings {
    ($($number:literal $setting:ident $field:ident: $unit:ident, $default:expr, $range:expr, $doc:literal;)+) => {
        /// A cluster setting.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(index_only)]
        pub enum Setting {
            $(#[doc = $doc] #[n($number)] $setting = $number,)+
        }

        impl Setting {
            /// Every setting, in the order of their numbers.
            pub const ALL: [Setting; [$($number),+].len()] = [$(Setting::$setting),+];
        }

        static TABLE: [SettingInfo; Setting::ALL.len()] = [$(SettingInfo {
            name: stringify!($field),
            unit: Unit::$unit,
            default: $default,
            range: $range,
            doc: $doc,
        }),+];

        /// The bounds of everything that can grow. They are part of the replicated state because
        /// outcomes depend on them, so every node must use the same values.
        ///
        /// Lowering a bound below current use deletes nothing, but nothing new is accepted. The
        /// exceptions: keys, sessions and recent events are trimmed at once, an instance's history at
        /// its next change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct Limits {
            $(#[doc = $doc] pub $field: u64,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Limits {
            /// The value of a setting.
            pub fn get(&self, setting: Setting) -> u64 {
                match setting { $(Setting::$setting => self.$field,)+ }
            }

            fn slot(&mut self, setting: Setting) -> &mut u64 {
                match setting { $(Setting::$setting => &mut self.$field,)+ }
            }
        }
    };
}

settings! {
    0 KeysMax keys_max: Count, 100_000, 0..=100_000_000,
        "Maximum number of callers' idempotency keys to remember.";
    1 KeyRetentionMs key_retention_ms: Milliseconds, DAY_MS, 1000..=365 * DAY_MS,
        "How long a caller's idempotency key is remembered, in cluster time.";
    // A request that is retried after its session was forgotten may execute twice, so no cluster forgets
    // the sessions of its running nodes.
    2 SessionsMax sessions_max: Count, 1024, SESSIONS_MIN..=1_000_000,
        "Maximum number of sessions to remember; the longest idle is forgotten first.";
    3 KeyBytesMax key_bytes_max: Bytes, 64 * MIB, 0..=64 * GIB,
        "Maximum size of all idempotency keys and their outcomes.";
    4 DefinitionsMax definitions_max: Count, 1000, 1..=1_000_000,
        "Maximum number of machines.";
    5 VersionsMax versions_max: Count, 1000, 1..=1_000_000,
        "Maximum number of versions of a machine.";
    6 StatesMax states_max: Count, 256, 1..=65_536,
        "Maximum number of states in a definition.";
    7 TransitionsMax transitions_max: Count, 4096, 1..=1_000_000,
        "Maximum number of transitions in a definition, after `*` and lists are expanded.";
    8 DocumentBytesMax document_bytes_max: Bytes, 256 * KIB, KIB..=4 * MIB,
        "Maximum size of a stored definition.";
    9 InstancesMax instances_max: Count, 10_000_000, 1..=1_000_000_000,
        "Maximum number of instances of all machines.";
    10 MetadataEntriesMax metadata_entries_max: Count, 64, 0..=1024,
        "Maximum number of metadata entries of a request or instance.";
    11 MetadataBytesMax metadata_bytes_max: Bytes, 4 * KIB, 0..=METADATA_BYTES_CEILING as u64,
        "Maximum size of the metadata of a request or instance.";
    12 HistoryEntriesMax history_entries_max: Count, 32, 0..=100_000,
        "Maximum number of changes in an instance's history.";
    13 HistoryBytesMax history_bytes_max: Bytes, 16 * KIB, 0..=64 * MIB,
        "Maximum size of an instance's history.";
    14 OperationsMax operations_max: Count, 128, 1..=10_000,
        "Maximum number of operations in a transaction.";
    15 EventsMax events_max: Count, 262_144, 1..=100_000_000,
        "Maximum number of recent events kept for watches and sinks.";
    16 EventBytesMax event_bytes_max: Bytes, 64 * MIB, KIB..=64 * GIB,
        "Maximum size of the recent events.";
    17 SinksMax sinks_max: Count, 64, 1..=1024,
        "Maximum number of sinks that have state in the cluster (checkpoint, dead letters).";
    18 DeadLettersMax dead_letters_max: Count, 1000, 0..=100_000,
        "Maximum number of dead letters of a sink.";
    19 FeatureLevelMax feature_level_max: Count, 1000, 1..=1000,
        "Maximum feature level to which the leader raises the cluster. As long as the level does not rise, an upgrade can be undone.";
}

impl Setting {
    /// What is known of it.
    pub fn info(self) -> &'static SettingInfo {
        &TABLE[self as usize]
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl FromStr for Setting {
    type Err = Rejection;

    /// The setting of a name; [`Rejection::UnknownSetting`] names the nearest.
    fn from_str(name: &str) -> Result<Self, Rejection> {
        // A name may be megabytes long, and the cost of the distance grows with its length.
        let name: String = name.chars().take(80).collect();
        let distance = |it: &Setting| strsim::damerau_levenshtein(&name, it.info().name);
        let nearest = Self::ALL.into_iter().min_by_key(distance);
        match nearest.expect("there are settings") {
            found if found.info().name == name => Ok(found),
            nearest => Err(Rejection::UnknownSetting { name, nearest }),
        }
    }
}

impl Limits {
    /// Changes a setting, if its range has the value.
    ///
    /// # Errors
    ///
    /// [`Rejection::InvalidSetting`], which names the range.
    pub fn set(&mut self, setting: Setting, value: u64) -> Result<(), Rejection> {
        if !setting.info().range.contains(&value) {
            return Err(Rejection::InvalidSetting { setting, value });
        }
        *self.slot(setting) = value;
        Ok(())
    }
}

/// The number of settings of the first feature level.
const WRITTEN_ALWAYS: usize = 19;

/// Later settings at the end are not written while they have their defaults: the bytes, and so the hash of
/// the state, are then those of a build that does not know them.
impl<C> Encode<C> for Limits {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let values = Setting::ALL.map(|it| self.get(it));
        let is_default = |it: &Setting| self.get(*it) == it.info().default;
        let unused = Setting::ALL[WRITTEN_ALWAYS..].iter().rev();
        let unused = unused.take_while(|it| is_default(it)).count();
        values[..values.len() - unused].encode(e, ctx)
    }
}

/// A setting that is missing, because an older build wrote the state, gets its default.
impl<'b, C> Decode<'b, C> for Limits {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let mut limits = Limits::default();
        let found = d.array_iter_with::<C, Option<u64>>(ctx)?;
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        for (setting, found) in Setting::ALL.into_iter().zip(found) {
            let slot = limits.slot(setting);
            *slot = found.unwrap_or(*slot);
        }
        Ok(limits)
    }
}

/// An object: each setting's value by its name.
impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(Setting::ALL.map(|it| (it.info().name, self.get(it))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::Driver;
    use crate::{Command, GlobalRevision, Outcome};

    #[test]
    fn defaults_are_in_range_and_numbers_are_positions() {
        for (number, setting) in Setting::ALL.into_iter().enumerate() {
            let SettingInfo { default, range, .. } = setting.info();
            assert!(range.contains(default), "{setting}");
            assert_eq!(setting as usize, number);
            assert_eq!(Limits::default().get(setting), *default, "{setting}");
            assert_eq!(setting.to_string().parse(), Ok(setting));
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_one() {
        let error = "event_max".parse::<Setting>().unwrap_err();
        assert_eq!(error.code(), "unknown_setting");
        assert_eq!(
            error.to_string(),
            "there is no setting \"event_max\"; did you mean events_max?"
        );
    }

    #[test]
    fn only_the_named_settings_change() {
        let mut driver = Driver::new(Limits {
            versions_max: 7,
            ..Limits::default()
        });
        let update = BTreeMap::from([(Setting::EventsMax, 5), (Setting::KeysMax, 0)]);
        let expected = Limits {
            keys_max: 0,
            versions_max: 7,
            events_max: 5,
            ..Limits::default()
        };
        let outcome = driver.run(Command::UpdateSettings(update));
        assert_eq!(outcome, Outcome::SettingsUpdated(Box::new(expected)));
        assert_eq!(driver.state.limits(), expected);
        assert_eq!(driver.state.revision(), GlobalRevision(0));
    }

    #[test]
    fn one_value_out_of_range_rejects_the_whole_update() {
        let mut driver = Driver::new(Limits::default());
        let update = BTreeMap::from([(Setting::KeysMax, 5), (Setting::SinksMax, 1025)]);
        let Outcome::Rejected(rejection) = driver.run(Command::UpdateSettings(update)) else {
            panic!("1025 is more than sinks_max may be");
        };
        assert_eq!(rejection.code(), "invalid_setting");
        assert_eq!(
            rejection.to_string(),
            "sinks_max cannot be 1025; the range is 1 to 1024"
        );
        assert_eq!(driver.state.limits(), Limits::default());
    }
}
