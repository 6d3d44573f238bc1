//! What is sent: one message per event, or per current state of a seed, in JSON.
//!
//! An event is told as `/v1/watch` tells it, with the cluster's id.

use std::collections::BTreeMap;
use std::time::SystemTime;

use lockstep_machine::{
    Event, EventCursor, GlobalRevision, Instance, InstanceId, InstanceName, MachineName,
};
use serde::Serialize;

use crate::service::json::{EventBody, pairs, rfc3339};
use crate::sink::Seed;

/// Something to tell of.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// A change.
    Event(&'a Event),
    /// An instance as of a seed.
    State {
        /// The seed.
        seed: &'a Seed,
        /// The instance's id.
        id: &'a InstanceId,
        /// What it is.
        instance: &'a Instance,
    },
}

/// What tells a message from all others of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// The event's place.
    Event(EventCursor),
    /// The seed's revision, and the instance.
    State(GlobalRevision, InstanceId),
}

impl<'a> Item<'a> {
    /// What tells it from others.
    pub(super) fn key(&self) -> Key {
        match self {
            Item::Event(event) => Key::Event(event.cursor()),
            Item::State { seed, id, .. } => Key::State(seed.revision, (*id).clone()),
        }
    }

    /// What it is about: such items are told one after another. The definitions of a machine are one
    /// such thing, each of its instances another.
    pub(super) fn subject(&self) -> (&'a MachineName, Option<&'a InstanceName>) {
        match self {
            Item::Event(event) => (&event.machine, event.name.as_ref()),
            Item::State { id, .. } => (&id.machine, Some(id.instance_name())),
        }
    }

    /// The message that tells of it.
    pub(super) fn message(&self, cluster: &str) -> Message {
        match self {
            Item::Event(event) => Message::of_event(event, cluster),
            Item::State { seed, id, instance } => {
                Message::of_state(seed.revision, id, instance, cluster)
            }
        }
    }
}

/// A message, ready to be signed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// What the receiver knows it by.
    pub(super) id: String,
    /// JSON.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A change.
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

    /// An instance as of a seed once more, of a state that was put aside; none if the instance has changed since,
    /// which was told as an event.
    ///
    /// It is told under the revision of its seed: under a later one, a receiver would take it for the
    /// whole of another seed.
    pub(super) fn of_seeded(
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

    /// An instance as of a seed's revision. Told at the time of its last change: of one revision and
    /// instance, all messages are the same.
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
        // Users choose names, and what is signed is `id.timestamp.body`: a dot of theirs could be
        // taken for one of those.
        let name = id.to_string().replace('.', "%2E");
        Self {
            id: format!("{cluster}.{}-seed.{name}", revision.0),
            body: body.json(),
        }
    }

    /// One that tells of nothing: to see whether messages are taken.
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
    /// When it happened, in cluster time; not there for what has never changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    data: T,
}

impl<T: Serialize> Body<'_, T> {
    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, texts and maps of texts can be told in JSON")
    }
}

#[derive(Serialize)]
struct EventData<'a> {
    cluster: &'a str,
    #[serde(flatten)]
    event: EventBody,
}

/// Named as in an event, so that a receiver can keep the newer of the two by `revision`.
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
