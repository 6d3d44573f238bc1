//! Messages: one per event, or per state of a backfill, in JSON.
//!
//! An event has the JSON form of `/v1/watch`, and the cluster's id.

use std::collections::BTreeMap;
use std::time::SystemTime;

use lockstep_machine::{
    Event, EventCursor, GlobalRevision, Instance, InstanceId, InstanceName, MachineName,
};
use serde::Serialize;

use crate::service::json::{EventBody, pairs, rfc3339};

/// An item to deliver.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// An event.
    Event(&'a Event),
    /// A state of a backfill.
    State {
        /// The backfill's revision.
        revision: GlobalRevision,
        /// The instance's id.
        id: &'a InstanceId,
        /// The instance.
        instance: &'a Instance,
    },
}

/// Identifies a message among all of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum MessageKey {
    /// The event's cursor.
    Event(EventCursor),
    /// The backfill's revision, and the instance.
    State(GlobalRevision, InstanceId),
}

impl<'a> Item<'a> {
    /// The key of its message.
    pub(super) fn key(&self) -> MessageKey {
        match self {
            Item::Event(event) => MessageKey::Event(event.cursor()),
            Item::State { revision, id, .. } => MessageKey::State(*revision, (*id).clone()),
        }
    }

    /// Items of one subject are delivered one after another. The definitions of a machine are one subject,
    /// each of its instances another.
    pub(super) fn subject(&self) -> (&'a MachineName, Option<&'a InstanceName>) {
        match self {
            Item::Event(event) => (&event.machine, event.name.as_ref()),
            Item::State { id, .. } => (&id.machine, Some(id.instance_name())),
        }
    }

    /// Its message.
    pub(super) fn message(&self, cluster: &str) -> Message {
        match self {
            Item::Event(event) => Message::of_event(event, cluster),
            Item::State {
                revision,
                id,
                instance,
            } => Message::of_state(*revision, id, instance, cluster),
        }
    }
}

/// A message, ready to be signed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Its id, by which the receiver recognizes repetitions.
    pub(super) id: String,
    /// JSON.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// An event.
    pub(super) fn of_event(event: &Event, cluster: &str) -> Self {
        let subject = if event.name.is_some() {
            "instance"
        } else {
            "machine"
        };
        let body = Body {
            kind: &format!("{subject}.{}", event.kind.name()),
            timestamp: rfc3339(event.at),
            data: EventData {
                cluster,
                event: event.into(),
            },
        };
        Self {
            id: format!("{cluster}.{}-{}", event.revision.0, event.position),
            body: body.json(),
        }
    }

    /// A state of a backfill that became a dead letter; `None` if the instance has changed since, which was
    /// delivered as an event.
    ///
    /// It carries the revision of its backfill: with a later one, a receiver would take it for another
    /// backfill.
    pub(super) fn of_rejected_state(
        event: &Event,
        current: Option<&Instance>,
        cluster: &str,
    ) -> Option<Self> {
        let id = event.instance()?;
        let same =
            |it: &&Instance| it.revision == event.instance_revision && it.changed_at <= event.at;
        let instance = current.filter(same)?;
        Some(Self::of_state(event.revision, &id, instance, cluster))
    }

    /// A state of a backfill. Its timestamp is that of the instance's last change, so that all messages of one
    /// revision and instance are equal.
    fn of_state(
        revision: GlobalRevision,
        id: &InstanceId,
        instance: &Instance,
        cluster: &str,
    ) -> Self {
        let body = Body {
            kind: "instance.seeded",
            timestamp: rfc3339(instance.changed_at),
            data: StateData::new(revision, id, instance, cluster),
        };
        // The signature covers `id.timestamp.body`: a dot in a user's name could be mistaken for a separator.
        let name = id.to_string().replace('.', "%2E");
        Self {
            id: format!("{cluster}.{}-seed.{name}", revision.0),
            body: body.json(),
        }
    }

    /// A message without an event, for checks.
    pub(super) fn of_check(id: String, sink: &str, number: u32, at: SystemTime) -> Self {
        let body = Body {
            kind: "lockstep.check",
            timestamp: Some(humantime::format_rfc3339_millis(at).to_string()),
            data: CheckData { sink, number },
        };
        let body = body.json();
        Self { id, body }
    }
}

#[derive(Serialize)]
struct Body<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    /// Cluster time of the change; absent for an instance that has never changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    data: T,
}

impl<T: Serialize> Body<'_, T> {
    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, strings and maps of strings are valid JSON")
    }
}

#[derive(Serialize)]
struct EventData<'a> {
    cluster: &'a str,
    #[serde(flatten)]
    event: EventBody,
}

/// The field names of an event, so that a receiver can keep the later of the two by `revision`.
#[derive(Serialize)]
struct StateData<'a> {
    cluster: &'a str,
    revision: u64,
    machine: &'a str,
    id: String,
    version: u32,
    state: &'a str,
    instance_revision: u64,
    created_at: Option<String>,
    changed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl<'a> StateData<'a> {
    fn new(
        revision: GlobalRevision,
        id: &'a InstanceId,
        instance: &'a Instance,
        cluster: &'a str,
    ) -> Self {
        Self {
            cluster,
            revision: revision.0,
            machine: id.machine.as_str(),
            id: id.to_string(),
            version: instance.version.0,
            state: instance.state.as_str(),
            instance_revision: instance.revision.0,
            created_at: rfc3339(instance.created_at),
            changed_at: rfc3339(instance.changed_at),
            deadline: instance.deadline.and_then(rfc3339),
            metadata: pairs(&instance.metadata),
        }
    }
}

#[derive(Serialize)]
struct CheckData<'a> {
    sink: &'a str,
    number: u32,
}
