//! What a write came to.

use lockstep_machine::{
    Created, DefinitionDeleted, Deleted, Migrated, OperationResult, Revision, Timestamp,
    Transitioned, Version,
};
use lockstep_proto::v1;

use super::{Unreadable, parsed, parsed_if, states};
use crate::error::Rejected;
use crate::fault::Fault;

/// A refusal, with all that it tells.
pub(crate) fn rejected(wire: v1::Rejected, replayed: bool) -> Result<Rejected, Unreadable> {
    let reason = match wire.reason {
        Some(reason) => Some(Box::new(rejected(*reason, replayed)?)),
        None => None,
    };
    Ok(Rejected {
        code: wire.code,
        message: wire.message,
        current_state: parsed_if("rejected.current_state", wire.current_state.as_deref())?,
        current_revision: wire.current_revision.map(Revision),
        allowed: states("rejected.allowed", &wire.allowed)?,
        known: wire.known,
        newest_version: wire.newest_version.map(Version),
        faults: wire.faults.into_iter().map(Fault::from).collect(),
        operation: wire.operation,
        reason,
        asked: wire.asked,
        max: wire.max,
        used_version: wire.used_version.map(Version),
        used_by: wire.used_by,
        operations: wire.operations,
        replayed,
    })
}

pub(crate) fn created(wire: v1::Created) -> Result<Created, Unreadable> {
    Ok(Created {
        instance: parsed("created.id", &wire.id)?,
        version: Version(wire.version),
        state: parsed("created.state", &wire.state)?,
        at: Timestamp(wire.at_ms),
    })
}

pub(crate) fn transitioned(wire: v1::Transitioned) -> Result<Transitioned, Unreadable> {
    Ok(Transitioned {
        instance: parsed("transitioned.id", &wire.id)?,
        version: Version(wire.version),
        from: parsed("transitioned.from", &wire.from)?,
        to: parsed("transitioned.to", &wire.to)?,
        event: parsed_if("transitioned.event", wire.event.as_deref())?,
        revision: Revision(wire.revision),
        at: Timestamp(wire.at_ms),
    })
}

pub(crate) fn deleted(wire: v1::Deleted) -> Result<Deleted, Unreadable> {
    Ok(Deleted {
        instance: parsed("deleted.id", &wire.id)?,
        state: parsed("deleted.state", &wire.state)?,
        revision: Revision(wire.revision),
        at: Timestamp(wire.at_ms),
    })
}

pub(crate) fn migrated(wire: v1::Migrated) -> Result<Migrated, Unreadable> {
    Ok(Migrated {
        instance: parsed("migrated.id", &wire.id)?,
        from_version: Version(wire.from_version),
        version: Version(wire.version),
        from: parsed("migrated.from", &wire.from)?,
        to: parsed("migrated.to", &wire.to)?,
        revision: Revision(wire.revision),
        at: Timestamp(wire.at_ms),
    })
}

pub(crate) fn machine_deleted(wire: v1::MachineDeleted) -> Result<DefinitionDeleted, Unreadable> {
    Ok(DefinitionDeleted {
        machine: parsed("deleted.machine", &wire.machine)?,
        versions: wire.versions.into_iter().map(Version).collect(),
    })
}

pub(crate) fn committed(wire: v1::Committed) -> Result<Vec<OperationResult>, Unreadable> {
    use v1::operation_result::Result as Wire;
    let result = |wire: v1::OperationResult| {
        Ok(match wire.result.ok_or("an operation has no result")? {
            Wire::Created(it) => OperationResult::Created(created(it)?),
            Wire::Transitioned(it) => OperationResult::Transitioned(transitioned(it)?),
            Wire::Deleted(it) => OperationResult::Deleted(deleted(it)?),
            Wire::Checked(v1::Checked {}) => OperationResult::Checked,
        })
    };
    wire.results.into_iter().map(result).collect()
}
