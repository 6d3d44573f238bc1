//! The current state of an instance, in the form that every destination receives.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_machine::{
    Event, EventKind, GlobalRevision, Instance, InstanceId, MachineName, Metadata, Revision, State,
    StateName, Timestamp, Version,
};
use serde::Serialize;

/// What became of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Change {
    Is(Current),
    Deleted {
        id: InstanceId,
        /// The cluster's revision of the deletion.
        revision: GlobalRevision,
    },
}

/// An instance as of a revision of the cluster. Its JSON has the field names of an event, so that whoever
/// has both keeps the later one by `revision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Current {
    /// The cluster's revision: a destination replaces it only by a later one.
    pub(crate) revision: GlobalRevision,
    pub(crate) machine: MachineName,
    pub(crate) id: InstanceId,
    /// The version of the definition that it is pinned to.
    pub(crate) version: Version,
    pub(crate) state: StateName,
    /// Its own revision.
    pub(crate) instance_revision: Revision,
    pub(crate) changed_at: Timestamp,
    /// Data that is only in the creation event or the cluster's state. `None` if only later events are
    /// available; the destination then keeps its stored values.
    #[serde(flatten)]
    pub(crate) details: Option<Details>,
}

/// What events after the creation do not repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Details {
    pub(crate) created_at: Timestamp,
    /// When its state's timeout is due, if it has one; unknown from an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: Metadata,
}

impl Current {
    pub(crate) fn of(id: &InstanceId, instance: &Instance, revision: GlobalRevision) -> Self {
        Self {
            revision,
            machine: id.machine.clone(),
            id: id.clone(),
            version: instance.version,
            state: instance.state.clone(),
            instance_revision: instance.revision,
            changed_at: instance.changed_at,
            details: Some(Details {
                created_at: instance.created_at,
                deadline: instance.deadline,
                metadata: instance.metadata.clone(),
            }),
        }
    }
}

impl Change {
    pub(crate) fn id(&self) -> &InstanceId {
        match self {
            Change::Is(Current { id, .. }) | Change::Deleted { id, .. } => id,
        }
    }

    pub(crate) fn revision(&self) -> GlobalRevision {
        match self {
            Change::Is(Current { revision, .. }) | Change::Deleted { revision, .. } => *revision,
        }
    }

    /// What an instance is now.
    pub(super) fn now(state: &State, id: InstanceId) -> Self {
        let revision = state.revision();
        match state.instance(&id) {
            Some(instance) => Self::Is(Current::of(&id, instance, revision)),
            None => Self::Deleted { id, revision },
        }
    }
}

/// The last change of each instance among `events`, which are in order. Events up to the revision of
/// the last backfill, `seeded`, are left out: the states already contain them.
pub(crate) fn changes(events: &[Arc<Event>], seeded: GlobalRevision) -> Vec<Change> {
    let mut changes: BTreeMap<InstanceId, Change> = BTreeMap::new();
    for event in events.iter().filter(|event| event.revision > seeded) {
        let Some(id) = event.instance() else {
            continue;
        };
        let revision = event.revision;
        if event.kind == EventKind::Deleted {
            changes.insert(id.clone(), Change::Deleted { id, revision });
            continue;
        }
        let Some(state) = event.to.clone() else {
            continue;
        };
        let details = match changes.remove(&id) {
            _ if event.kind == EventKind::Created => Some(Details {
                created_at: event.at,
                deadline: None,
                metadata: event.metadata.clone(),
            }),
            Some(Change::Is(before)) => before.details,
            Some(Change::Deleted { .. }) | None => None,
        };
        let current = Current {
            revision,
            machine: id.machine.clone(),
            id: id.clone(),
            version: event.version,
            state,
            instance_revision: event.instance_revision,
            changed_at: event.at,
            details,
        };
        changes.insert(id, Change::Is(current));
    }
    changes.into_values().collect()
}
