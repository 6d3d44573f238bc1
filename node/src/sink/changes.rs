//! Reduces a batch of events to one change per instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_machine::{
    Event, EventKind, GlobalRevision, Instance, InstanceId, Metadata, Revision, StateName,
    Timestamp, Version,
};

/// What a batch does to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is in a state.
    Is(Current),
    /// It was deleted.
    Deleted {
        /// The cluster's revision of the deletion.
        revision: GlobalRevision,
    },
}

/// An instance as of a revision of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    /// The cluster's revision: a destination replaces it only by a later one.
    pub(crate) revision: GlobalRevision,
    /// The version of the definition that it is pinned to.
    pub(crate) version: Version,
    /// Its state.
    pub(crate) state: StateName,
    /// Its own revision.
    pub(crate) instance_revision: Revision,
    /// When it last changed.
    pub(crate) changed_at: Timestamp,
    /// When and with which metadata it was created. `None` if the batch does not contain that; the
    /// destination then keeps what it has.
    pub(crate) created: Option<(Timestamp, Metadata)>,
}

impl Current {
    /// An instance as of a revision.
    pub(crate) fn of(instance: &Instance, revision: GlobalRevision) -> Self {
        Self {
            revision,
            version: instance.version,
            state: instance.state.clone(),
            instance_revision: instance.revision,
            changed_at: instance.changed_at,
            created: Some((instance.created_at, instance.metadata.clone())),
        }
    }
}

/// The last change of each instance among `events`, which are in order. Events up to the revision of
/// the last backfill, `seeded`, are left out: the states already contain them.
pub(crate) fn changes(
    events: &[Arc<Event>],
    seeded: GlobalRevision,
) -> BTreeMap<InstanceId, Change> {
    let mut changes = BTreeMap::new();
    for event in events.iter().filter(|event| event.revision > seeded) {
        let Some(id) = event.instance() else {
            continue;
        };
        if event.kind == EventKind::Deleted {
            let revision = event.revision;
            changes.insert(id, Change::Deleted { revision });
            continue;
        }
        let Some(state) = event.to.clone() else {
            continue;
        };
        let created = match changes.remove(&id) {
            _ if event.kind == EventKind::Created => Some((event.at, event.metadata.clone())),
            Some(Change::Is(before)) => before.created,
            Some(Change::Deleted { .. }) | None => None,
        };
        let current = Current {
            revision: event.revision,
            version: event.version,
            state,
            instance_revision: event.instance_revision,
            changed_at: event.at,
            created,
        };
        changes.insert(id, Change::Is(current));
    }
    changes
}
