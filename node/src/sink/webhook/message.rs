//! Messages: one per event, or per state of a backfill, in JSON.
//!
//! An event has the JSON form of `/v1/watch`, and the cluster's id. A state has the field names of an event.

use std::time::SystemTime;

use lockstep_machine::{Event, EventCursor, GlobalRevision, InstanceId, InstanceName, MachineName};
use serde::Serialize;

use crate::sink::Current;

/// An item to deliver.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    Event(&'a Event),
    State(&'a Current),
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
    pub(super) fn key(&self) -> MessageKey {
        match self {
            Item::Event(event) => MessageKey::Event(event.cursor()),
            Item::State(state) => MessageKey::State(state.revision, state.id.clone()),
        }
    }

    /// Items of one subject are delivered one after another. The definitions of a machine are one subject,
    /// each of its instances another.
    pub(super) fn subject(&self) -> (&'a MachineName, Option<&'a InstanceName>) {
        match self {
            Item::Event(event) => (&event.machine, event.name.as_ref()),
            Item::State(state) => (&state.id.machine, Some(state.id.instance_name())),
        }
    }

    pub(super) fn message(&self, cluster: &str) -> Message {
        match self {
            Item::Event(event) => Message::of_event(event, cluster),
            Item::State(state) => Message::of_state(state, cluster),
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
    pub(super) fn of_event(event: &Event, cluster: &str) -> Self {
        let subject = if event.name.is_some() {
            "instance"
        } else {
            "machine"
        };
        Self {
            id: format!("{cluster}.{}", event.cursor()),
            body: body(
                &format!("{subject}.{}", event.kind.name()),
                event.at.rfc3339(),
                InCluster {
                    cluster,
                    data: event,
                },
            ),
        }
    }

    /// A state of a backfill that became a dead letter; `None` if the instance has changed since, which was
    /// delivered as an event.
    ///
    /// It carries the revision of its backfill: with a later one, a receiver would take it for another
    /// backfill.
    pub(super) fn of_rejected_state(event: &Event, now: &Current, cluster: &str) -> Option<Self> {
        let revision = event.revision;
        let same = now.instance_revision == event.instance_revision && now.changed_at <= event.at;
        let state = Current {
            revision,
            ..now.clone()
        };
        same.then(|| Self::of_state(&state, cluster))
    }

    /// A state of a backfill. Its timestamp is that of the instance's last change, so that all messages of one
    /// revision and instance are equal.
    fn of_state(state: &Current, cluster: &str) -> Self {
        // The signature covers `id.timestamp.body`: a dot in a user's name could be mistaken for a separator.
        let name = state.id.to_string().replace('.', "%2E");
        Self {
            id: format!("{cluster}.{}-seed.{name}", state.revision),
            body: body(
                "instance.seeded",
                state.changed_at.rfc3339(),
                InCluster {
                    cluster,
                    data: state,
                },
            ),
        }
    }

    /// A message without an event, for checks.
    pub(super) fn of_check(id: String, sink: &str, number: u32, at: SystemTime) -> Self {
        let timestamp = humantime::format_rfc3339_millis(at).to_string();
        let data = CheckData { sink, number };
        let body = body("lockstep.check", Some(timestamp), data);
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

fn body(kind: &str, timestamp: Option<String>, data: impl Serialize) -> Vec<u8> {
    let body = Body {
        kind,
        timestamp,
        data,
    };
    serde_json::to_vec(&body).expect("numbers, strings and maps of strings are valid JSON")
}

/// An event or a state, and the cluster's id.
#[derive(Serialize)]
struct InCluster<'a, T> {
    cluster: &'a str,
    #[serde(flatten)]
    data: &'a T,
}

#[derive(Serialize)]
struct CheckData<'a> {
    sink: &'a str,
    number: u32,
}
