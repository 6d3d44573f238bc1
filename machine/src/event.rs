//! Events: one per change, in order.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use imbl::Vector;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::ids::{
    EventName, GlobalRevision, InstanceId, InstanceName, MachineName, Revision, StateName,
    Timestamp, Version,
};
use crate::instance::Instance;
use crate::metadata::Metadata;
use crate::settings::Limits;

/// One change of a definition or an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Event {
    /// The cluster's revision that the change belongs to.
    #[n(0)]
    pub revision: GlobalRevision,
    /// The change's position within that revision, from 0.
    #[n(1)]
    pub position: u32,
    /// What happened.
    #[n(2)]
    pub kind: EventKind,
    /// The machine.
    #[n(3)]
    pub machine: MachineName,
    /// The instance's name within the machine; none if it is about a definition.
    #[n(4)]
    pub name: Option<InstanceName>,
    /// The definition's version: that of the instance after the change, or the one in question.
    #[n(5)]
    pub version: Version,
    /// The version that the instance was pinned to before it was migrated.
    #[n(12)]
    pub from_version: Option<Version>,
    /// The state the instance left.
    #[n(9)]
    pub from: Option<StateName>,
    /// The state the instance entered.
    #[n(10)]
    pub to: Option<StateName>,
    /// The event that named the transition.
    #[n(11)]
    pub event: Option<EventName>,
    /// The instance's revision after the change; its last one if it was deleted.
    #[n(6)]
    pub instance_revision: Revision,
    /// When, in cluster time.
    #[n(7)]
    pub at: Timestamp,
    /// What caused it.
    #[n(8)]
    pub cause: Cause,
    /// The metadata of the request.
    #[n(13)]
    pub metadata: Metadata,
}

crate::codec::named! {
    EventKind, "What happened.";
    0 Created = "created", "An instance was created, in its initial state.";
    1 Transitioned = "transitioned", "An instance made a transition.";
    2 Migrated = "migrated", "An instance was pinned to another version.";
    3 Deleted = "deleted", "An instance was deleted.";
    4 Defined = "defined", "A version of a definition was stored.";
    5 DefinitionDeleted = "definition_deleted", "A version of a definition was deleted.";
    6 Seeded = "seeded", "No change: a state that a sink wrote during a backfill. Only in dead letters, for a \
        state that the destination rejected.";
}

/// Who made a change happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cbor(flat)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A request of a caller.
    #[n(0)]
    Request,
    /// The timeout of the state that was left.
    #[n(1)]
    Timeout {
        /// How long after its deadline it fired, in milliseconds of cluster time.
        #[n(0)]
        late_ms: u64,
    },
}

/// An [`Event`] in JSON: `id` is the whole id, and a timeout's `late_ms` is a field of its own.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Event")]
struct Flat {
    /// The cluster's revision that the change belongs to.
    revision: GlobalRevision,
    /// Its position within that revision.
    position: u32,
    kind: EventKind,
    machine: MachineName,
    /// Absent if it is about a definition.
    #[serde(getter = "Event::instance", skip_serializing_if = "Option::is_none")]
    id: Option<InstanceId>,
    version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<StateName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<StateName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventName>,
    /// The instance's revision after the change.
    instance_revision: Revision,
    /// In cluster time.
    at: Timestamp,
    #[serde(flatten)]
    cause: Cause,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Flat::serialize(self, s)
    }
}

crate::schema::as_fields!(Event, Flat);

/// Positions from here on are those of backfilled states: higher than the position of any change that a
/// command can make, and still of at most nine digits.
const SEEDED_POSITIONS: u32 = 500_000_000;

impl Event {
    /// An event about a definition, or with more fields about an instance. Its revision and position are
    /// put in when it is recorded.
    pub(crate) fn new(
        kind: EventKind,
        machine: MachineName,
        version: Version,
        at: Timestamp,
    ) -> Self {
        Self {
            revision: GlobalRevision(0),
            position: 0,
            kind,
            machine,
            name: None,
            version,
            from_version: None,
            from: None,
            to: None,
            event: None,
            instance_revision: Revision(0),
            at,
            cause: Cause::Request,
            metadata: Metadata::default(),
        }
    }

    /// The event for the `number`th instance of a backfill, as of a revision.
    pub fn seeded(
        (revision, at): (GlobalRevision, Timestamp),
        number: u32,
        id: &InstanceId,
        instance: &Instance,
    ) -> Self {
        Self {
            revision,
            position: SEEDED_POSITIONS.saturating_add(number),
            name: Some(id.instance_name().clone()),
            to: Some(instance.state.clone()),
            instance_revision: instance.revision,
            metadata: instance.metadata.clone(),
            ..Self::new(EventKind::Seeded, id.machine.clone(), instance.version, at)
        }
    }

    /// Whether it stands for a state of a backfill ([`Event::seeded`]) at or before a revision.
    pub(crate) fn is_seeded(&self, upto: GlobalRevision) -> bool {
        self.kind == EventKind::Seeded
            && self.position >= SEEDED_POSITIONS
            && self.revision <= upto
            && self.name.is_some()
            && self.to.is_some()
    }

    /// The instance it is about; none if it is about a definition.
    pub fn instance(&self) -> Option<InstanceId> {
        let name = self.name.clone()?;
        Some(InstanceId::from_parts(self.machine.clone(), name))
    }

    /// Its cursor in the event stream.
    pub fn cursor(&self) -> EventCursor {
        EventCursor {
            revision: self.revision,
            position: self.position,
        }
    }

    /// Its size for limits in bytes: its strings and a fixed overhead.
    pub(crate) fn bytes(&self) -> u64 {
        fn len<T: std::borrow::Borrow<str>>(name: &Option<T>) -> usize {
            name.as_ref().map_or(0, |it| it.borrow().len())
        }
        let names = self.machine.as_str().len() + len(&self.name) + len(&self.from) + len(&self.to);
        (64 + names + len(&self.event) + self.metadata.bytes()) as u64
    }
}

/// A position in the event stream: directly after one event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EventCursor {
    /// The event's revision.
    #[n(0)]
    pub revision: GlobalRevision,
    /// Its position within that revision.
    #[n(1)]
    pub position: u32,
}

impl EventCursor {
    /// After all events of a revision.
    pub fn after(revision: GlobalRevision) -> Self {
        Self {
            revision,
            position: u32::MAX,
        }
    }

    /// Before all events of a revision.
    pub fn before(revision: GlobalRevision) -> Self {
        let previous = revision.0.checked_sub(1).map(GlobalRevision);
        previous.map_or_else(Self::default, Self::after)
    }

    /// The first revision that may have events after it.
    pub fn next_revision(self) -> GlobalRevision {
        match self == Self::after(self.revision) {
            true => GlobalRevision(self.revision.0.saturating_add(1)),
            false => self.revision,
        }
    }
}

/// `revision-position`.
impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.revision, self.position)
    }
}

/// The text is not an event cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event cursor has the form revision-position, two whole numbers")]
pub struct InvalidCursor;

impl FromStr for EventCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        // `parse` would accept a sign.
        if !text.bytes().all(|it| it.is_ascii_digit() || it == b'-') {
            return Err(InvalidCursor);
        }
        let (revision, position) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self {
            revision: GlobalRevision(revision.parse().map_err(|_| InvalidCursor)?),
            position: position.parse().map_err(|_| InvalidCursor)?,
        })
    }
}

crate::codec::json_text!(EventCursor);
crate::schema::schema!(EventCursor, pattern(r"^[0-9]{1,19}-[0-9]{1,9}$", 3, 29));

/// The requested events are no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events after revision {} are no longer all kept; the oldest complete revision is {oldest}", asked.revision)]
pub struct Compacted {
    /// The requested cursor.
    pub asked: EventCursor,
    /// The oldest revision of which every event is kept.
    pub oldest: GlobalRevision,
}

/// The recent events, oldest first; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ring {
    pub(crate) events: Vector<Arc<Event>>,
    pub(crate) bytes: u64,
    /// The cursor of the newest event that was removed.
    pub(crate) gone: EventCursor,
}

impl Ring {
    /// An empty ring that starts after a cursor.
    pub(crate) fn behind(gone: EventCursor) -> Self {
        Self {
            gone,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, event: Arc<Event>, limits: &Limits) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        self.shrink(limits);
    }

    /// Removes the oldest events until the ring is within its limits.
    pub(crate) fn shrink(&mut self, limits: &Limits) {
        while self.events.len() as u64 > limits.events_max || self.bytes > limits.event_bytes_max {
            let Some(event) = self.events.pop_front() else {
                return;
            };
            self.bytes -= event.bytes();
            self.gone = event.cursor();
        }
    }

    pub(crate) fn after(
        &self,
        cursor: EventCursor,
        max: usize,
    ) -> Result<Vec<Arc<Event>>, Compacted> {
        if cursor < self.gone {
            return Err(Compacted {
                asked: cursor,
                oldest: self.oldest(),
            });
        }
        let from = self.index_behind(cursor);
        let to = from.saturating_add(max).min(self.events.len());
        // Near its end, where watchers read, an iterator costs less than a search per event.
        Ok(self
            .events
            .focus()
            .narrow(from..to)
            .into_iter()
            .cloned()
            .collect())
    }

    /// The index of the first event after a cursor, whether or not events in between were removed.
    pub(crate) fn index_behind(&self, cursor: EventCursor) -> usize {
        let found = self.events.binary_search_by(|it| it.cursor().cmp(&cursor));
        found.map_or_else(|at| at, |at| at + 1)
    }

    /// The event at a cursor, if it is kept.
    pub(crate) fn at(&self, cursor: EventCursor) -> Option<&Arc<Event>> {
        let found = self.events.binary_search_by(|it| it.cursor().cmp(&cursor));
        self.events.get(found.ok()?)
    }

    pub(crate) fn oldest(&self) -> GlobalRevision {
        GlobalRevision(self.gone.revision.0.saturating_add(1))
    }

    /// The cursor of the newest event, whether or not it is still kept.
    pub(crate) fn end(&self) -> EventCursor {
        self.events.last().map_or(self.gone, |it| it.cursor())
    }
}

/// Which events a watcher receives. An unset field does not restrict them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The machine.
    pub machine: Option<MachineName>,
    /// Only events of the instance with this name.
    pub name: Option<InstanceName>,
    /// Only events of instances whose names have this prefix.
    pub prefix: Option<String>,
    /// Only events that lead into this state.
    pub state: Option<StateName>,
}

impl EventFilter {
    /// Whether the event matches. A filter by name, prefix or state excludes events of definitions.
    pub fn wants(&self, event: &Event) -> bool {
        let name = event.name.as_ref().map(InstanceName::as_str);
        let starts = |prefix: &String| name.is_some_and(|it| it.starts_with(prefix));
        self.machine.as_ref().is_none_or(|it| *it == event.machine)
            && self
                .name
                .as_ref()
                .is_none_or(|it| name == Some(it.as_str()))
            && self.prefix.as_ref().is_none_or(starts)
            && (self.state.is_none() || self.state == event.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, meta, name};
    use serde_json::json;

    #[test]
    fn a_cursor_survives_being_text_and_nothing_else_is_one() {
        for cursor in [
            EventCursor::default(),
            EventCursor::after(GlobalRevision(u64::MAX)),
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for bad in ["", "9", "-1", "9-", "9-4294967296", "a-b", "9-1-1", "+9-1"] {
            assert_eq!(bad.parse::<EventCursor>(), Err(InvalidCursor), "{bad:?}");
        }
    }

    #[test]
    fn a_cursor_converts_to_and_from_revisions() {
        let cursor = |revision, position| EventCursor {
            revision: GlobalRevision(revision),
            position,
        };
        for revision in [1, 7, u64::MAX] {
            let before = EventCursor::before(GlobalRevision(revision));
            assert_eq!(before, cursor(revision - 1, u32::MAX));
            assert_eq!(before.next_revision().0, revision);
        }
        assert_eq!(EventCursor::before(GlobalRevision(0)), cursor(0, 0));
        assert_eq!(cursor(0, 0).next_revision().0, 0);
        // Another event of that revision may follow.
        assert_eq!(cursor(7, 0).next_revision().0, 7);
    }

    #[test]
    fn as_json_an_event_is_flat_and_leaves_out_what_it_has_not() {
        let instance = Instance::new(
            Version(2),
            name("open"),
            Timestamp(1),
            meta(&[("by", "ann")]),
        );
        let at = (GlobalRevision(7), Timestamp(1000));
        let seeded = Event::seeded(at, 0, &id("order/1"), &instance);
        let event = Event {
            cause: Cause::Timeout { late_ms: 3 },
            from: Some(name("new")),
            ..seeded
        };
        let expected = json!({
            "revision": 7, "position": 500_000_000, "kind": "seeded", "machine": "order",
            "id": "order/1", "version": 2, "from": "new", "to": "open", "instance_revision": 0,
            "at": "1970-01-01T00:00:01.000Z", "cause": "timeout", "late_ms": 3,
            "metadata": {"by": "ann"},
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
    }
}
