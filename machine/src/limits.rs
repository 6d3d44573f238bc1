//! The bounds of everything that can grow, as part of the replicated state.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The bounds that decide outcomes. Part of the replicated state: every node must use the same.
///
/// Changed by [`Command::Configure`](crate::Command::Configure) only. What is already stored
/// beyond a new bound stays; nothing new is accepted. The tables that forget (keys, sessions,
/// recent events) shrink at once, an instance's history at its next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How many callers' keys are remembered.
    pub keys_max: u64,
    /// For how long a caller's key is remembered, in milliseconds of cluster time.
    pub key_retention_ms: u64,
    /// How many sessions are remembered (at least 1); the one idle for longest goes first.
    pub sessions_max: u64,
    /// How many bytes the callers' keys and their stored outcomes may take.
    pub key_bytes_max: u64,
    /// How many machines may be defined.
    pub definitions_max: u64,
    /// How many versions one machine may have.
    pub versions_max: u64,
    /// How many states a definition may have.
    pub states_max: u64,
    /// How many transitions a definition may have, `*` and lists counted out.
    pub transitions_max: u64,
    /// How many bytes a stored definition may have.
    pub document_bytes_max: u64,
    /// How many instances there may be, of all machines.
    pub instances_max: u64,
    /// How many entries the metadata of one request or instance may have.
    pub metadata_entries_max: u64,
    /// How many bytes the metadata of one request or instance may have.
    pub metadata_bytes_max: u64,
    /// How many changes an instance remembers.
    pub history_entries_max: u64,
    /// How many bytes an instance's history may take.
    pub history_bytes_max: u64,
    /// How many operations a transaction may have.
    pub operations_max: u64,
    /// How many recent events are kept for watchers.
    pub events_max: u64,
    /// How many bytes the recent events may take.
    pub event_bytes_max: u64,
    /// How many sinks are kept account of.
    pub sinks_max: u64,
    /// How many dead letters one sink may have.
    pub dead_letters_max: u64,
}

impl Limits {
    /// The bounds in the order of their numbers in the binary form: a new one is added at the end.
    fn numbered(&mut self) -> [&mut u64; 19] {
        [
            &mut self.keys_max,
            &mut self.key_retention_ms,
            &mut self.sessions_max,
            &mut self.key_bytes_max,
            &mut self.definitions_max,
            &mut self.versions_max,
            &mut self.states_max,
            &mut self.transitions_max,
            &mut self.document_bytes_max,
            &mut self.instances_max,
            &mut self.metadata_entries_max,
            &mut self.metadata_bytes_max,
            &mut self.history_entries_max,
            &mut self.history_bytes_max,
            &mut self.operations_max,
            &mut self.events_max,
            &mut self.event_bytes_max,
            &mut self.sinks_max,
            &mut self.dead_letters_max,
        ]
    }
}

impl<C> Encode<C> for Limits {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let mut limits = *self;
        limits.numbered().encode(e, ctx)
    }
}

/// A bound that is not there, as in what an older build wrote, has its default.
impl<'b, C> Decode<'b, C> for Limits {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let mut limits = Limits::default();
        let found = d.array_iter_with::<C, Option<u64>>(ctx)?;
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        for (bound, found) in limits.numbered().into_iter().zip(found) {
            *bound = found.unwrap_or(*bound);
        }
        Ok(limits)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys_max: 100_000,
            key_retention_ms: 24 * 60 * 60 * 1000,
            sessions_max: 1024,
            key_bytes_max: 64 * MIB,
            definitions_max: 1000,
            versions_max: 1000,
            states_max: 256,
            transitions_max: 4096,
            document_bytes_max: 256 * KIB,
            instances_max: 10_000_000,
            metadata_entries_max: 64,
            metadata_bytes_max: 4 * KIB,
            history_entries_max: 32,
            history_bytes_max: 16 * KIB,
            operations_max: 128,
            events_max: 262_144,
            event_bytes_max: 64 * MIB,
            sinks_max: 64,
            dead_letters_max: 1000,
        }
    }
}

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
            Quota::Versions => "versions of the machine",
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

    /// The bound itself.
    pub fn max(self, limits: &Limits) -> u64 {
        match self {
            Quota::Definitions => limits.definitions_max,
            Quota::Versions => limits.versions_max,
            Quota::States => limits.states_max,
            Quota::Transitions => limits.transitions_max,
            Quota::DocumentBytes => limits.document_bytes_max,
            Quota::Instances => limits.instances_max,
            Quota::MetadataEntries => limits.metadata_entries_max,
            Quota::MetadataBytes => limits.metadata_bytes_max,
            Quota::Operations => limits.operations_max,
            Quota::Sinks => limits.sinks_max,
            Quota::DeadLetters => limits.dead_letters_max,
        }
    }
}

/// How much of a bound is used, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What is counted: snake case, the same as in the metrics.
    pub name: &'static str,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
}
