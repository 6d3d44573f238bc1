//! What a batch of events makes of the current states: one change per instance.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use lockstep_machine::{
    Event, EventKind, GlobalRevision, Instance, InstanceId, Metadata, Revision, StateName,
    Timestamp, Version,
};

/// What becomes of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is in a state.
    Is(Current),
    /// It was deleted.
    Gone {
        /// The cluster's revision of its deletion.
        revision: GlobalRevision,
    },
}

/// An instance as of a revision of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    /// The cluster's revision: gives way to a later one only.
    pub(crate) revision: GlobalRevision,
    /// The definition's version it is pinned to.
    pub(crate) version: Version,
    /// The state it is in.
    pub(crate) state: StateName,
    /// Its own revision.
    pub(crate) instance_revision: Revision,
    /// When it last changed.
    pub(crate) changed_at: Timestamp,
    /// When and with what it was created; none if only a later change of it was seen, and what is there
    /// stays.
    pub(crate) created: Option<(Timestamp, Metadata)>,
}

impl Current {
    /// An instance as it is at a revision.
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

/// The last change of each instance among `events`, which are in order; those up to `seeded` tell
/// nothing new.
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
            changes.insert(id, Change::Gone { revision });
            continue;
        }
        let Some(state) = event.to.clone() else {
            continue;
        };
        let created =
            (event.kind == EventKind::Created).then(|| (event.at, event.metadata.clone()));
        let mut current = Current {
            revision: event.revision,
            version: event.version,
            state,
            instance_revision: event.instance_revision,
            changed_at: event.at,
            created,
        };
        match changes.entry(id) {
            Entry::Vacant(free) => {
                free.insert(Change::Is(current));
            }
            Entry::Occupied(mut known) => {
                if let Change::Is(before) = known.get_mut()
                    && current.created.is_none()
                {
                    current.created = before.created.take();
                }
                known.insert(Change::Is(current));
            }
        }
    }
    changes
}
