//! Slots: single small values (vote, purge point, ...), in their own sled tree.

use bytes::Bytes;

use super::{Slot, StoreError, codec};

/// Under which name a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotName {
    /// What callers save.
    Public(Slot),
    /// The file name of the current snapshot.
    Snapshot,
    /// The id of the node whose log it is, 8 bytes.
    Owner,
    /// One segment of the log, by its number.
    Segment(u64),
}

/// What the names of segments begin with.
const SEGMENT: &str = "segment/";

impl SlotName {
    pub(super) fn key(self) -> String {
        codec::slot_key(match self {
            SlotName::Public(Slot::Vote) => "vote",
            SlotName::Public(Slot::Committed) => "committed",
            SlotName::Public(Slot::Purged) => "purged",
            SlotName::Snapshot => "snapshot",
            SlotName::Owner => "owner",
            SlotName::Segment(number) => return codec::slot_key(&format!("{SEGMENT}{number:020}")),
        })
    }
}

/// The slots.
#[derive(Clone)]
pub(super) struct Slots {
    tree: sled::Tree,
}

impl Slots {
    /// Opens the slots and verifies each. Slots of format 1, whose keys had no group, are found
    /// here, too.
    pub(super) fn open(tree: sled::Tree) -> Result<Slots, StoreError> {
        for slot in tree.iter() {
            let (key, value) = slot.map_err(StoreError::database("read a slot"))?;
            codec::decode_slot(&String::from_utf8_lossy(&key), &value)?;
        }
        let slots = Slots { tree };
        slots.purge_point()?;
        Ok(slots)
    }

    /// Reads a slot.
    pub(super) fn load(&self, name: SlotName) -> Result<Option<Bytes>, StoreError> {
        let key = name.key();
        let Some(value) = self
            .tree
            .get(&key)
            .map_err(StoreError::database("read a slot"))?
        else {
            return Ok(None);
        };
        codec::decode_slot(&key, &value).map(|bytes| Some(Bytes::copy_from_slice(bytes)))
    }

    /// The numbers of the segments that have a slot, in order.
    pub(super) fn segments(&self) -> Result<Vec<u64>, StoreError> {
        let prefix = codec::slot_key(SEGMENT);
        let number = |key: sled::Result<sled::IVec>| {
            let key = key.map_err(StoreError::database("read the slots"))?;
            let number = std::str::from_utf8(&key[prefix.len()..]).ok();
            number.and_then(|it| it.parse().ok()).ok_or_else(|| {
                let key = String::from_utf8_lossy(&key);
                StoreError::damaged("slot", key, "its name has no segment's number")
            })
        };
        let keys = self.tree.scan_prefix(&prefix).keys();
        keys.map(number).collect()
    }

    /// Removes a slot. Durable with the next flush.
    pub(super) fn remove(&self, name: SlotName) -> Result<(), StoreError> {
        let removed = self.tree.remove(name.key());
        removed.map_err(StoreError::database("remove a slot"))?;
        Ok(())
    }

    /// Makes every change durable.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        (self.tree.flush()).map_err(StoreError::database("flush the slots"))?;
        Ok(())
    }

    /// Overwrites a slot. Durable with the next flush.
    pub(super) fn save(&self, name: SlotName, value: &[u8]) -> Result<(), StoreError> {
        let key = name.key();
        let value = codec::encode_slot(&key, value)?;
        self.tree
            .insert(&key, value)
            .map_err(StoreError::database("write a slot"))?;
        Ok(())
    }

    /// Up to where the log was purged, and what the caller keeps with that.
    pub(super) fn purge_point(&self) -> Result<Option<(u64, Bytes)>, StoreError> {
        let Some(mut value) = self.load(SlotName::Public(Slot::Purged))? else {
            return Ok(None);
        };
        let Some(upto) = value
            .first_chunk::<8>()
            .map(|upto| u64::from_be_bytes(*upto))
        else {
            let reason = format!("{} bytes are not an index", value.len());
            return Err(StoreError::damaged("slot", "purged", reason));
        };
        Ok(Some((upto, value.split_off(8))))
    }

    /// Overwrites the purge point. Durable with the next flush.
    pub(super) fn save_purge_point(&self, upto: u64, marker: &[u8]) -> Result<(), StoreError> {
        self.save(
            SlotName::Public(Slot::Purged),
            &[&upto.to_be_bytes(), marker].concat(),
        )
    }
}
