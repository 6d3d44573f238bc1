//! Events and places in their stream.

use lockstep_machine::{Cause, Event, EventCursor, EventKind, GlobalRevision};

use super::instance::entries;
use crate::v1;

impl From<EventCursor> for v1::Place {
    fn from(cursor: EventCursor) -> Self {
        Self {
            revision: cursor.revision.0,
            position: cursor.position,
        }
    }
}

impl From<v1::Place> for EventCursor {
    fn from(place: v1::Place) -> Self {
        Self {
            revision: GlobalRevision(place.revision),
            position: place.position,
        }
    }
}

impl From<EventKind> for v1::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Created => v1::EventKind::Created,
            EventKind::Transitioned => v1::EventKind::Transitioned,
            EventKind::Migrated => v1::EventKind::Migrated,
            EventKind::Deleted => v1::EventKind::Deleted,
            EventKind::Defined => v1::EventKind::Defined,
            EventKind::DefinitionDeleted => v1::EventKind::DefinitionDeleted,
            EventKind::Seeded => v1::EventKind::Seeded,
            // One of a newer version of the state machine.
            _ => v1::EventKind::Unspecified,
        }
    }
}

impl From<&Event> for v1::Event {
    fn from(it: &Event) -> Self {
        let late_ms = match it.cause {
            Cause::Timeout { late_ms } => Some(late_ms),
            _ => None,
        };
        Self {
            place: Some(it.cursor().into()),
            kind: v1::EventKind::from(it.kind).into(),
            machine: it.machine.to_string(),
            id: it.instance().map(|id| id.to_string()),
            version: it.version.0,
            from_version: it.from_version.map(|version| version.0),
            from: it.from.as_ref().map(ToString::to_string),
            to: it.to.as_ref().map(ToString::to_string),
            event: it.event.as_ref().map(ToString::to_string),
            instance_revision: it.instance_revision.0,
            late_ms,
            at_ms: it.at.0,
            metadata: entries(&it.metadata),
        }
    }
}

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
    fn told(event: &Event) -> v1::Event {
        event.into()
    }

    #[test]
    fn an_event_is_told_in_full() {
        let expected = v1::Event {
            place: Some(v1::Place {
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
        assert_eq!(told(&event()), expected);
    }

    #[test]
    fn a_timeout_tells_how_late_it_was_and_a_definition_has_no_instance() {
        let timeout = Event {
            cause: Cause::Timeout { late_ms: 0 },
            ..event()
        };
        assert_eq!(told(&timeout).late_ms, Some(0));
        let defined = Event {
            kind: EventKind::Defined,
            name: None,
            ..event()
        };
        let told = told(&defined);
        assert_eq!((told.kind(), told.id), (v1::EventKind::Defined, None));
    }

    #[test]
    fn a_place_survives_the_wire() {
        for cursor in [
            event().cursor(),
            EventCursor::after(GlobalRevision(u64::MAX)),
            EventCursor::default(),
        ] {
            assert_eq!(EventCursor::from(v1::Place::from(cursor)), cursor);
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
        }
    }
}
