//! Instances as they are shown.

use std::collections::HashMap;

use lockstep_machine::{InstanceView, Metadata, Revision, StateName, Timestamp, Version};

use crate::{Malformed, parsed, v1};

impl From<InstanceView> for v1::Instance {
    fn from(it: InstanceView) -> Self {
        Self {
            id: it.id.to_string(),
            version: it.version.0,
            state: it.state.to_string(),
            revision: it.revision.0,
            created_at_ms: it.created_at.0,
            changed_at_ms: it.changed_at.0,
            allowed: it.allowed.iter().map(ToString::to_string).collect(),
            metadata: entries(&it.metadata),
            deadline_ms: it.deadline.map(|deadline| deadline.0),
        }
    }
}

impl TryFrom<v1::Instance> for InstanceView {
    type Error = Malformed;

    fn try_from(it: v1::Instance) -> Result<Self, Malformed> {
        let allowed = it.allowed.iter().map(StateName::new);
        Ok(Self {
            id: parsed("id", it.id.parse())?,
            version: Version(it.version),
            state: parsed("state", StateName::new(it.state))?,
            revision: Revision(it.revision),
            created_at: Timestamp(it.created_at_ms),
            changed_at: Timestamp(it.changed_at_ms),
            allowed: parsed("allowed", allowed.collect())?,
            metadata: parsed("metadata", Metadata::new(it.metadata))?,
            deadline: it.deadline_ms.map(Timestamp),
        })
    }
}

pub(super) fn entries(metadata: &Metadata) -> HashMap<String, String> {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    metadata.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{InstanceId, State};

    #[test]
    fn an_instance_is_shown_with_the_states_it_may_move_to() {
        let state = State::default();
        let id = InstanceId::new("triad", "default").unwrap();
        let mut instance = state.instance(&id).unwrap().clone();
        instance.deadline = Some(Timestamp(70));
        instance.metadata = Metadata::new([("by", "ann")]).unwrap();
        let view = state.view(&id, &instance);
        let expected = v1::Instance {
            id: "triad/default".to_owned(),
            version: 1,
            state: "first".to_owned(),
            allowed: vec!["second".to_owned(), "third".to_owned()],
            deadline_ms: Some(70),
            metadata: [("by".to_owned(), "ann".to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(v1::Instance::from(view.clone()), expected);
        assert_eq!(InstanceView::try_from(expected), Ok(view));
    }
}
