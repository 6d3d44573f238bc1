//! An event, and a place among the events.

use lockstep_machine::{
    Cause, Event, EventCursor, EventKind, GlobalRevision, InstanceId, Revision, Timestamp, Version,
};
use lockstep_proto::v1;

use super::{Unreadable, metadata, parsed, parsed_if};

/// Places are compared, and gone back to: one that is left out is not one at the beginning.
pub(crate) fn place(wire: Option<v1::Place>) -> Result<EventCursor, Unreadable> {
    let wire = wire.ok_or("an event does not say its place")?;
    Ok(cursor(wire))
}

pub(crate) fn cursor(wire: v1::Place) -> EventCursor {
    EventCursor {
        revision: GlobalRevision(wire.revision),
        position: wire.position,
    }
}

/// A place as it travels.
pub(crate) fn to_place(cursor: EventCursor) -> v1::Place {
    v1::Place {
        revision: cursor.revision.0,
        position: cursor.position,
    }
}

pub(crate) fn event(wire: v1::Event) -> Result<Event, Unreadable> {
    let kind = kind(wire.kind)?;
    let EventCursor { revision, position } = place(wire.place)?;
    let instance: Option<InstanceId> = parsed_if("event.id", wire.id.as_deref())?;
    Ok(Event {
        revision,
        position,
        kind,
        machine: parsed("event.machine", &wire.machine)?,
        name: instance.map(|id| id.instance_name().clone()),
        version: Version(wire.version),
        from_version: wire.from_version.map(Version),
        from: parsed_if("event.from", wire.from.as_deref())?,
        to: parsed_if("event.to", wire.to.as_deref())?,
        event: parsed_if("event.event", wire.event.as_deref())?,
        instance_revision: Revision(wire.instance_revision),
        at: Timestamp(wire.at_ms),
        cause: match wire.late_ms {
            Some(late_ms) => Cause::Timeout { late_ms },
            None => Cause::Request,
        },
        metadata: metadata("event.metadata", wire.metadata)?,
    })
}

fn kind(wire: i32) -> Result<EventKind, Unreadable> {
    match v1::EventKind::try_from(wire) {
        Ok(v1::EventKind::Created) => Ok(EventKind::Created),
        Ok(v1::EventKind::Transitioned) => Ok(EventKind::Transitioned),
        Ok(v1::EventKind::Migrated) => Ok(EventKind::Migrated),
        Ok(v1::EventKind::Deleted) => Ok(EventKind::Deleted),
        Ok(v1::EventKind::Defined) => Ok(EventKind::Defined),
        Ok(v1::EventKind::DefinitionDeleted) => Ok(EventKind::DefinitionDeleted),
        Ok(v1::EventKind::Seeded) => Ok(EventKind::Seeded),
        Ok(v1::EventKind::Unspecified) | Err(_) => {
            Err(format!("event.kind: {wire} is no kind that is known here"))
        }
    }
}
