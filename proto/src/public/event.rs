//! Events and event cursors.

use lockstep_machine::{
    Cause, DeadLetter, Event, EventCursor, EventKind, GlobalRevision, InstanceId,
};

use super::field::{Field, message};
use crate::{Malformed, v1};

impl From<EventCursor> for v1::EventCursor {
    fn from(cursor: EventCursor) -> Self {
        Self {
            revision: cursor.revision.0,
            position: cursor.position,
        }
    }
}

impl From<v1::EventCursor> for EventCursor {
    fn from(cursor: v1::EventCursor) -> Self {
        Self {
            revision: GlobalRevision(cursor.revision),
            position: cursor.position,
        }
    }
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        impl From<EventKind> for v1::EventKind {
            fn from(kind: EventKind) -> Self {
                match kind {
                    $(EventKind::$kind => Self::$kind,)*
                }
            }
        }

        impl TryFrom<v1::EventKind> for EventKind {
            type Error = Malformed;

            fn try_from(kind: v1::EventKind) -> Result<Self, Malformed> {
                Ok(match kind {
                    $(v1::EventKind::$kind => Self::$kind,)*
                    v1::EventKind::Unspecified => {
                        let reason = "it is missing or unknown to this build";
                        return Err(Malformed::new("kind", reason));
                    }
                })
            }
        }
    };
}

kinds!(
    Created,
    Transitioned,
    Migrated,
    Deleted,
    Defined,
    DefinitionDeleted,
    Seeded
);

impl From<&Event> for v1::Event {
    fn from(it: &Event) -> Self {
        let late_ms = match it.cause {
            Cause::Timeout { late_ms } => Some(late_ms),
            Cause::Request => None,
        };
        Self {
            cursor: Some(it.cursor().into()),
            kind: v1::EventKind::from(it.kind).into(),
            machine: it.machine.to_string(),
            id: it.instance().into_wire(),
            version: it.version.into_wire(),
            from_version: it.from_version.into_wire(),
            from: it.from.clone().into_wire(),
            to: it.to.clone().into_wire(),
            event: it.event.clone().into_wire(),
            instance_revision: it.instance_revision.into_wire(),
            late_ms,
            at_ms: it.at.into_wire(),
            metadata: it.metadata.clone().into_wire(),
        }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = Malformed;
    fn try_from(it: v1::Event) -> Result<Self, Malformed> {
        let kind = it.kind().try_into()?;
        // Cursors are compared and resumed from: a missing one must not read as the first.
        let cursor = it.cursor.ok_or(Malformed::new("cursor", "it is missing"))?;
        let EventCursor { revision, position } = cursor.into();
        let instance = <Option<InstanceId>>::parse("id", it.id)?;
        Ok(Self {
            revision,
            position,
            kind,
            machine: Field::parse("machine", it.machine)?,
            name: instance.map(|id| id.instance_name().clone()),
            version: Field::parse("version", it.version)?,
            from_version: Field::parse("from_version", it.from_version)?,
            from: Field::parse("from", it.from)?,
            to: Field::parse("to", it.to)?,
            event: Field::parse("event", it.event)?,
            instance_revision: Field::parse("instance_revision", it.instance_revision)?,
            at: Field::parse("at_ms", it.at_ms)?,
            cause: match it.late_ms {
                Some(late_ms) => Cause::Timeout { late_ms },
                None => Cause::Request,
            },
            metadata: Field::parse("metadata", it.metadata)?,
        })
    }
}

message!(DeadLetter as DeadLetter {
    event: event,
    reason: reason,
    attempts: attempts,
    rejected_at: rejected_at_ms,
    tried_at: tried_at_ms,
    replay_wanted: replay_wanted,
});

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        EventName, InstanceName, MachineName, Metadata, Revision, StateName, Timestamp, Version,
    };

    fn event() -> Event {
        Event {
            revision: GlobalRevision(7),
            position: 2,
            kind: EventKind::Migrated,
            machine: MachineName::new("order").unwrap(),
            name: Some(InstanceName::new("42").unwrap()),
            version: Version(2),
            from_version: Some(Version(1)),
            from: Some(StateName::new("open").unwrap()),
            to: Some(StateName::new("paid").unwrap()),
            event: Some(EventName::new("pay").unwrap()),
            instance_revision: Revision(4),
            at: Timestamp(99),
            cause: Cause::Request,
            metadata: Metadata::new([("by", "ann")]).unwrap(),
        }
    }

    /// `v1::Event::from` is what the event left: a getter.
    fn found(event: &Event) -> v1::Event {
        event.into()
    }

    #[test]
    fn an_event_has_all_its_fields() {
        let expected = v1::Event {
            cursor: Some(v1::EventCursor {
                revision: 7,
                position: 2,
            }),
            kind: v1::EventKind::Migrated.into(),
            machine: "order".to_owned(),
            id: Some("order/42".to_owned()),
            version: 2,
            from_version: Some(1),
            from: Some("open".to_owned()),
            to: Some("paid".to_owned()),
            event: Some("pay".to_owned()),
            instance_revision: 4,
            late_ms: None,
            at_ms: 99,
            metadata: [("by".to_owned(), "ann".to_owned())].into(),
        };
        assert_eq!(found(&event()), expected);
        assert_eq!(Event::try_from(expected), Ok(event()));
    }

    #[test]
    fn an_event_without_its_cursor_or_kind_is_refused() {
        let field = |damage: fn(&mut v1::Event)| {
            let mut wire = found(&event());
            damage(&mut wire);
            Event::try_from(wire).unwrap_err().field
        };
        assert_eq!(field(|it| it.cursor = None), "cursor");
        assert_eq!(field(|it| it.kind = 99), "kind");
        assert_eq!(field(|it| it.machine = "a b".to_owned()), "machine");
    }

    #[test]
    fn a_timeout_reports_its_delay_and_a_definition_has_no_instance() {
        let timeout = Event {
            cause: Cause::Timeout { late_ms: 0 },
            ..event()
        };
        assert_eq!(found(&timeout).late_ms, Some(0));
        let defined = Event {
            kind: EventKind::Defined,
            name: None,
            ..event()
        };
        let found = found(&defined);
        assert_eq!((found.kind(), found.id), (v1::EventKind::Defined, None));
    }

    #[test]
    fn a_cursor_survives_the_wire() {
        for cursor in [
            event().cursor(),
            EventCursor::after(GlobalRevision(u64::MAX)),
            EventCursor::default(),
        ] {
            assert_eq!(EventCursor::from(v1::EventCursor::from(cursor)), cursor);
        }
    }

    #[test]
    fn every_kind_has_its_own_name() {
        for (kind, name) in [
            (EventKind::Created, "EVENT_KIND_CREATED"),
            (EventKind::Transitioned, "EVENT_KIND_TRANSITIONED"),
            (EventKind::Migrated, "EVENT_KIND_MIGRATED"),
            (EventKind::Deleted, "EVENT_KIND_DELETED"),
            (EventKind::Defined, "EVENT_KIND_DEFINED"),
            (
                EventKind::DefinitionDeleted,
                "EVENT_KIND_DEFINITION_DELETED",
            ),
            (EventKind::Seeded, "EVENT_KIND_SEEDED"),
        ] {
            assert_eq!(v1::EventKind::from(kind).as_str_name(), name);
            assert_eq!(EventKind::try_from(v1::EventKind::from(kind)), Ok(kind));
        }
    }
}
