//! Binds the files of a data folder to each other.
//!
//! A node that has lost its log no longer knows its vote and the entries that it acknowledged. The same holds for a
//! node with the log of another node, or with an older copy of its own. So each file names its owner:
//!
//! - `identity.json` holds the node id. It is random and drawn once per data folder: no other folder has it, and
//!   a folder that is discarded gets another one.
//! - The log holds the node id in the slot `owner`, from before its first entry.
//! - A snapshot never changes. A slot of the log names the current one, and the name contains 64 random bits: no
//!   other file has it. (The content cannot hold the node id: a received snapshot is its sender's, byte for byte.)
//!
//! `identity.json` says that the log has an owner (`bound`). It is set after the owner is durable, so a crash in
//! between is repaired by the next start.
//!
//! A folder of a build that did not bind its files has neither, and is bound when it is first opened. A node
//! belongs to a cluster, durably, before it votes or appends, so two states are impossible whoever wrote the
//! folder: a member without a log, and a log with entries in a folder that belongs to no cluster.

use std::path::Path;

use bytes::Bytes;

use super::slots::{SlotName, Slots};
use super::{IdentityFile, Slot, StoreError, database};

/// Refuses a folder whose log is gone. Call before the log is opened, which creates one where there is none.
pub(super) fn check_log_exists(identity: &IdentityFile, log: &Path) -> Result<(), StoreError> {
    let node = identity.identity();
    if database::exists(log) || !(node.bound || node.cluster_id.is_some()) {
        return Ok(());
    }
    Err(mismatch(
        identity,
        format!(
            "the log of node {} is missing: there is no database in {} (is the disk that holds it mounted?)",
            node.node_id,
            log.display()
        ),
    ))
}

/// Refuses a log that does not belong to this identity. Changes nothing.
pub(super) fn check_owner(
    identity: &IdentityFile,
    slots: &Slots,
    has_entries: bool,
) -> Result<(), StoreError> {
    let node = identity.identity();
    let found = match owner(slots)? {
        Some(owner) if owner != node.node_id => format!(
            "the log belongs to node {owner}, identity.json to node {}",
            node.node_id
        ),
        None if node.bound => format!(
            "the log names no owner, but the log of node {} did: this log is new, or a copy from an earlier release",
            node.node_id
        ),
        _ if node.cluster_id.is_none()
            && (has_entries || slots.load(SlotName::Public(Slot::Vote))?.is_some()) =>
        {
            "identity.json belongs to no cluster, but the log holds what a member wrote: identity.json is an older copy"
                .to_owned()
        }
        _ => return Ok(()),
    };
    Err(mismatch(identity, found))
}

/// Writes the owner into the log, unless it is there. Durable with the next flush.
pub(super) fn set_owner(identity: &IdentityFile, slots: &Slots) -> Result<(), StoreError> {
    match owner(slots)? {
        Some(_) => Ok(()),
        None => slots.save(SlotName::Owner, &identity.identity().node_id.to_be_bytes()),
    }
}

/// Notes in the identity that the log has an owner, once that is durable.
pub(super) fn complete(identity: &mut IdentityFile) -> Result<(), StoreError> {
    if identity.identity().bound {
        return Ok(());
    }
    identity.update(|identity| identity.bound = true)
}

fn owner(slots: &Slots) -> Result<Option<u64>, StoreError> {
    let id = |value: Bytes| match <[u8; 8]>::try_from(&value[..]) {
        Ok(id) => Ok(u64::from_be_bytes(id)),
        Err(_) => {
            let reason = format!("{} bytes are not a node id", value.len());
            Err(StoreError::damaged("slot", "owner", reason))
        }
    };
    slots.load(SlotName::Owner)?.map(id).transpose()
}

fn mismatch(identity: &IdentityFile, found: String) -> StoreError {
    StoreError::Mismatch {
        dir: identity.dir().to_owned(),
        found,
    }
}
