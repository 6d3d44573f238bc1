//! Messages: one per event, or per state of a backfill, in JSON.
//!
//! An event has the JSON form of `/v1/watch`, and the cluster's id. A state has the field names of an event.

use std::time::SystemTime;

use bytes::Bytes;
use lockstep_machine::{Event, EventCursor, InstanceId, InstanceName, MachineName};
use serde::Serialize;

use crate::sink::Current;

/// Identifies a message among all of the cluster: an event by its cursor; a state by the end of the backfill's
/// revision, and the instance.
pub(super) type MessageKey = (EventCursor, Option<InstanceId>);

/// A message, ready to be signed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) key: MessageKey,
    /// Messages about one subject are delivered one after another. The definitions of a machine are one
    /// subject, each of its instances another.
    pub(super) subject: (MachineName, Option<InstanceName>),
    /// Its id, by which the receiver recognizes repetitions.
    pub(super) id: String,
    /// JSON.
    pub(super) body: Bytes,
}

impl Message {
    pub(super) fn of_event(event: &Event, cluster: &str) -> Self {
        let subject = if event.name.is_some() {
            "instance"
        } else {
            "machine"
        };
        let kind = format!("{subject}.{}", event.kind.name());
        let data = InCluster {
            cluster,
            data: event,
        };
        Self {
            key: (event.cursor(), None),
            subject: (event.machine.clone(), event.name.clone()),
            id: format!("{cluster}.{}", event.cursor()),
            body: body(&kind, event.at.rfc3339(), data),
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
    pub(super) fn of_state(state: &Current, cluster: &str) -> Self {
        // The signature covers `id.timestamp.body`: a dot in a user's name could be mistaken for a separator.
        let name = state.id.to_string().replace('.', "%2E");
        let data = InCluster {
            cluster,
            data: state,
        };
        Self {
            key: (EventCursor::after(state.revision), Some(state.id.clone())),
            subject: (
                state.machine.clone(),
                Some(state.id.instance_name().clone()),
            ),
            id: format!("{cluster}.{}-seed.{name}", state.revision),
            body: body("instance.seeded", state.changed_at.rfc3339(), data),
        }
    }
}

/// The body of a message without an event, for checks.
pub(super) fn check_body(sink: &str, number: u32, at: SystemTime) -> Bytes {
    let timestamp = humantime::format_rfc3339_millis(at).to_string();
    body(
        "lockstep.check",
        Some(timestamp),
        CheckData { sink, number },
    )
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

fn body(kind: &str, timestamp: Option<String>, data: impl Serialize) -> Bytes {
    let body = Body {
        kind,
        timestamp,
        data,
    };
    let body = serde_json::to_vec(&body);
    body.expect("numbers, strings and maps of strings are valid JSON")
        .into()
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
