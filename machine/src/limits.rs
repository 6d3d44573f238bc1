//! The limits that reject commands.

use minicbor::{Decode, Encode};

use crate::settings::{Limits, Setting};

macro_rules! quotas {
    ($($number:literal $quota:ident: $setting:ident, $code:literal, $noun:literal;)+) => {
        /// A limit that rejects commands. Limits that evict old data instead are not listed here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
        #[cbor(index_only)]
        pub enum Quota {
            $(#[doc = concat!("[`Setting::", stringify!($setting), "`].")] #[n($number)] $quota,)+
        }

        impl Quota {
            /// Every quota.
            pub const ALL: &[Quota] = &[$(Quota::$quota),+];

            /// The rejection's stable code.
            pub fn code(self) -> &'static str {
                match self { $(Quota::$quota => $code,)+ }
            }

            /// What is counted, in words.
            pub fn noun(self) -> &'static str {
                match self { $(Quota::$quota => $noun,)+ }
            }

            /// The limit itself.
            pub fn max(self, limits: &Limits) -> u64 {
                limits.get(match self { $(Quota::$quota => Setting::$setting,)+ })
            }
        }
    };
}

quotas! {
    0 Definitions: DefinitionsMax, "too_many_definitions", "definitions";
    1 Versions: VersionsMax, "too_many_versions", "versions of this machine";
    2 States: StatesMax, "too_many_states", "states of the definition";
    3 Transitions: TransitionsMax, "too_many_transitions", "transitions of the definition";
    4 DocumentBytes: DocumentBytesMax, "definition_too_large", "bytes of the definition";
    5 Instances: InstancesMax, "too_many_instances", "instances";
    6 MetadataEntries: MetadataEntriesMax, "too_many_metadata_entries", "metadata entries";
    7 MetadataBytes: MetadataBytesMax, "metadata_too_large", "bytes of metadata";
    8 Operations: OperationsMax, "too_many_operations", "operations of the transaction";
    9 Sinks: SinksMax, "too_many_sinks", "sinks";
    10 DeadLetters: DeadLettersMax, "too_many_dead_letters", "dead letters of the sink";
}
