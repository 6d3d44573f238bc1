//! The catalogue: which segments the log consists of, as slots in sled.
//!
//! An entry says where its segment begins, and once it is no longer written, where it ends. So what the log holds
//! changes at once, with one flush, although it is in many files.

use minicbor::{Decode, Encode};

use super::StoreError;
use super::slots::{SlotName, Slots};

/// One segment. An array in CBOR; fields may be added at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Listed {
    /// The index of its first record.
    #[n(0)]
    pub(super) first: u64,
    /// Where it ends; none while it may be written.
    #[n(1)]
    pub(super) sealed: Option<Sealed>,
}

/// The end of a segment that is no longer written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Sealed {
    /// The index of its last record.
    #[n(0)]
    pub(super) last: u64,
    /// Where that record ends, in bytes from the start of the file.
    #[n(1)]
    pub(super) end: u64,
}

/// The segments by number.
pub(super) fn list(slots: &Slots) -> Result<Vec<(u64, Listed)>, StoreError> {
    let listed = slots.segments()?.into_iter().map(|number| {
        let value = slots.load(SlotName::Segment(number))?.unwrap_or_default();
        Ok((number, decode(number, &value)?))
    });
    listed.collect()
}

/// Writes an entry. Durable with the next flush.
pub(super) fn save(slots: &Slots, number: u64, listed: Listed) -> Result<(), StoreError> {
    slots.save(SlotName::Segment(number), &encode(number, listed)?)
}

pub(super) fn encode(number: u64, listed: Listed) -> Result<Vec<u8>, StoreError> {
    minicbor::to_vec(listed).map_err(|_| damaged(number))
}

pub(super) fn decode(number: u64, value: &[u8]) -> Result<Listed, StoreError> {
    minicbor::decode(value).map_err(|_| damaged(number))
}

fn damaged(number: u64) -> StoreError {
    let slot = SlotName::Segment(number).key();
    StoreError::damaged("slot", slot, "it is no entry of the log's catalogue")
}

/// Removes an entry. Durable with the next flush.
pub(super) fn remove(slots: &Slots, number: u64) -> Result<(), StoreError> {
    slots.remove(SlotName::Segment(number))
}
