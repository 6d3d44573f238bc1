//! What is kept account of for sinks, as it travels and rests: to and from the peer protocol.

use std::sync::Arc;

use lockstep_machine::{
    Cause, Event, EventCursor, EventKind, EventName, GlobalRevision, InstanceName, MachineName,
    Revision, SinkChange, SinkCheckpoint, SinkCommand, SinkName, Timestamp, Version,
};

use crate::batch::parsed;
use crate::command::{entries, metadata, state};
use crate::{Malformed, raft};

impl From<&SinkCommand> for raft::Sink {
    fn from(command: &SinkCommand) -> Self {
        Self {
            name: command.sink.to_string(),
            change: Some((&command.change).into()),
        }
    }
}

impl TryFrom<raft::Sink> for SinkCommand {
    type Error = Malformed;
    fn try_from(it: raft::Sink) -> Result<Self, Malformed> {
        let Some(change) = it.change else {
            let reason = "it is missing, or of a kind this build does not know";
            return Err(Malformed::new("sink.change", reason));
        };
        Ok(Self {
            sink: parsed("sink.name", SinkName::new(it.name))?,
            change: change.try_into()?,
        })
    }
}

impl From<&SinkChange> for raft::sink::Change {
    fn from(change: &SinkChange) -> Self {
        use raft::sink;
        match change {
            SinkChange::Claim { term } => Self::Claim(sink::Claim { term: *term }),
            SinkChange::Advance { term, checkpoint } => Self::Advance(sink::Advance {
                term: *term,
                cursor: Some(checkpoint.cursor.into()),
                seeded_revision: checkpoint.seeded.0,
            }),
            SinkChange::Bury {
                term,
                event,
                reason,
            } => Self::Bury(sink::Bury {
                term: *term,
                event: Some((&**event).into()),
                reason: reason.clone(),
            }),
            SinkChange::Settle {
                term,
                cursor,
                refused,
            } => Self::Settle(sink::Settle {
                term: *term,
                cursor: Some((*cursor).into()),
                refused: refused.clone(),
            }),
            SinkChange::Seeding { term } => Self::Seeding(sink::Seeding { term: *term }),
            SinkChange::Seeded { term, asked } => Self::Seeded(sink::Seeded {
                term: *term,
                asked: *asked,
            }),
            SinkChange::Seed => Self::Seed(sink::Seed {}),
            SinkChange::Replay { which } => Self::Replay(sink::Replay {
                which: which.map(Into::into),
            }),
            SinkChange::Discard { which } => Self::Discard(sink::Discard {
                which: which.map(Into::into),
            }),
            SinkChange::Forget => Self::Forget(sink::Forget {}),
        }
    }
}

impl TryFrom<raft::sink::Change> for SinkChange {
    type Error = Malformed;
    fn try_from(change: raft::sink::Change) -> Result<Self, Malformed> {
        use raft::sink::Change as Wire;
        let required = |field| move || Malformed::new(field, "it is required");
        Ok(match change {
            Wire::Claim(it) => SinkChange::Claim { term: it.term },
            Wire::Advance(it) => SinkChange::Advance {
                term: it.term,
                checkpoint: SinkCheckpoint {
                    cursor: it.cursor.ok_or_else(required("sink.cursor"))?.into(),
                    seeded: GlobalRevision(it.seeded_revision),
                },
            },
            Wire::Bury(it) => {
                let event = it.event.ok_or_else(required("sink.event"))?;
                SinkChange::Bury {
                    term: it.term,
                    event: Arc::new(event.try_into()?),
                    reason: it.reason,
                }
            }
            Wire::Settle(it) => SinkChange::Settle {
                term: it.term,
                cursor: it.cursor.ok_or_else(required("sink.cursor"))?.into(),
                refused: it.refused,
            },
            Wire::Seeding(it) => SinkChange::Seeding { term: it.term },
            Wire::Seeded(it) => SinkChange::Seeded {
                term: it.term,
                asked: it.asked,
            },
            Wire::Seed(_) => SinkChange::Seed,
            Wire::Replay(it) => SinkChange::Replay {
                which: it.which.map(Into::into),
            },
            Wire::Discard(it) => SinkChange::Discard {
                which: it.which.map(Into::into),
            },
            Wire::Forget(_) => SinkChange::Forget,
        })
    }
}

impl From<EventCursor> for raft::EventCursor {
    fn from(cursor: EventCursor) -> Self {
        Self {
            revision: cursor.revision.0,
            position: cursor.position,
        }
    }
}

impl From<raft::EventCursor> for EventCursor {
    fn from(cursor: raft::EventCursor) -> Self {
        Self {
            revision: GlobalRevision(cursor.revision),
            position: cursor.position,
        }
    }
}

impl From<&Event> for raft::Event {
    fn from(event: &Event) -> Self {
        let late_ms = match event.cause {
            Cause::Request => None,
            Cause::Timeout { late_ms } => Some(late_ms),
        };
        Self {
            cursor: Some(event.cursor().into()),
            kind: raft::event::Kind::from(event.kind).into(),
            machine: event.machine.to_string(),
            instance: event.name.as_ref().map(ToString::to_string),
            version: event.version.0,
            from_version: event.from_version.map(|version| version.0),
            from: event.from.as_ref().map(ToString::to_string),
            to: event.to.as_ref().map(ToString::to_string),
            event: event.event.as_ref().map(ToString::to_string),
            instance_revision: event.instance_revision.0,
            at_ms: event.at.0,
            late_ms,
            metadata: entries(&event.metadata),
        }
    }
}

impl TryFrom<raft::Event> for Event {
    type Error = Malformed;
    fn try_from(it: raft::Event) -> Result<Self, Malformed> {
        let Some(cursor) = it.cursor else {
            return Err(Malformed::new("event.cursor", "it is required"));
        };
        let name = it
            .instance
            .map(|name| parsed("event.instance", InstanceName::new(name)));
        let event = it
            .event
            .map(|event| parsed("event.event", EventName::new(event)));
        Ok(Self {
            revision: GlobalRevision(cursor.revision),
            position: cursor.position,
            kind: kind(it.kind)?,
            machine: parsed("event.machine", MachineName::new(it.machine))?,
            name: name.transpose()?,
            version: Version(it.version),
            from_version: it.from_version.map(Version),
            from: state("event.from", it.from)?,
            to: state("event.to", it.to)?,
            event: event.transpose()?,
            instance_revision: Revision(it.instance_revision),
            at: Timestamp(it.at_ms),
            cause: match it.late_ms {
                None => Cause::Request,
                Some(late_ms) => Cause::Timeout { late_ms },
            },
            metadata: metadata("event.metadata", it.metadata)?,
        })
    }
}

impl From<EventKind> for raft::event::Kind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Created => Self::Created,
            EventKind::Transitioned => Self::Transitioned,
            EventKind::Migrated => Self::Migrated,
            EventKind::Deleted => Self::Deleted,
            EventKind::Defined => Self::Defined,
            EventKind::DefinitionDeleted => Self::DefinitionDeleted,
            EventKind::Seeded => Self::Seeded,
        }
    }
}

fn kind(kind: i32) -> Result<EventKind, Malformed> {
    use raft::event::Kind as Wire;
    Ok(match Wire::try_from(kind) {
        Ok(Wire::Created) => EventKind::Created,
        Ok(Wire::Transitioned) => EventKind::Transitioned,
        Ok(Wire::Migrated) => EventKind::Migrated,
        Ok(Wire::Deleted) => EventKind::Deleted,
        Ok(Wire::Defined) => EventKind::Defined,
        Ok(Wire::DefinitionDeleted) => EventKind::DefinitionDeleted,
        Ok(Wire::Seeded) => EventKind::Seeded,
        Ok(Wire::Unspecified) | Err(_) => {
            let reason = "it is missing, or one this build does not know";
            return Err(Malformed::new("event.kind", reason));
        }
    })
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
