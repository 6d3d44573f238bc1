//! The limits that reject commands.

use minicbor::{Decode, Encode};

use crate::settings::{Limits, Setting};

/// A bound that refuses; those that forget instead are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Quota {
    /// [`Limits::definitions_max`].
    #[n(0)]
    Definitions,
    /// [`Limits::versions_max`].
    #[n(1)]
    Versions,
    /// [`Limits::states_max`].
    #[n(2)]
    States,
    /// [`Limits::transitions_max`].
    #[n(3)]
    Transitions,
    /// [`Limits::document_bytes_max`].
    #[n(4)]
    DocumentBytes,
    /// [`Limits::instances_max`].
    #[n(5)]
    Instances,
    /// [`Limits::metadata_entries_max`].
    #[n(6)]
    MetadataEntries,
    /// [`Limits::metadata_bytes_max`].
    #[n(7)]
    MetadataBytes,
    /// [`Limits::operations_max`].
    #[n(8)]
    Operations,
    /// [`Limits::sinks_max`].
    #[n(9)]
    Sinks,
    /// [`Limits::dead_letters_max`].
    #[n(10)]
    DeadLetters,
}

impl Quota {
    /// The rejection's stable code.
    pub fn code(self) -> &'static str {
        match self {
            Quota::Definitions => "too_many_definitions",
            Quota::Versions => "too_many_versions",
            Quota::States => "too_many_states",
            Quota::Transitions => "too_many_transitions",
            Quota::DocumentBytes => "definition_too_large",
            Quota::Instances => "too_many_instances",
            Quota::MetadataEntries => "too_many_metadata_entries",
            Quota::MetadataBytes => "metadata_too_large",
            Quota::Operations => "too_many_operations",
            Quota::Sinks => "too_many_sinks",
            Quota::DeadLetters => "too_many_dead_letters",
        }
    }

    /// What is counted, in words.
    pub fn noun(self) -> &'static str {
        match self {
            Quota::Definitions => "definitions",
            Quota::Versions => "versions of this machine",
            Quota::States => "states of the definition",
            Quota::Transitions => "transitions of the definition",
            Quota::DocumentBytes => "bytes of the definition",
            Quota::Instances => "instances",
            Quota::MetadataEntries => "metadata entries",
            Quota::MetadataBytes => "bytes of metadata",
            Quota::Operations => "operations of the transaction",
            Quota::Sinks => "sinks",
            Quota::DeadLetters => "dead letters of the sink",
        }
    }

    /// The limit itself.
    pub fn max(self, limits: &Limits) -> u64 {
        limits.get(match self {
            Quota::Definitions => Setting::DefinitionsMax,
            Quota::Versions => Setting::VersionsMax,
            Quota::States => Setting::StatesMax,
            Quota::Transitions => Setting::TransitionsMax,
            Quota::DocumentBytes => Setting::DocumentBytesMax,
            Quota::Instances => Setting::InstancesMax,
            Quota::MetadataEntries => Setting::MetadataEntriesMax,
            Quota::MetadataBytes => Setting::MetadataBytesMax,
            Quota::Operations => Setting::OperationsMax,
            Quota::Sinks => Setting::SinksMax,
            Quota::DeadLetters => Setting::DeadLettersMax,
        })
    }
}
