//! Instances as they are shown.

use std::collections::HashMap;

use lockstep_machine::{Instance, InstanceId, Metadata, State};

use crate::v1;

impl v1::Instance {
    /// An instance of a state, with where it may go from here.
    pub fn of(state: &State, id: &InstanceId, instance: &Instance) -> Self {
        let allowed = state.allowed(id);
        Self {
            id: id.to_string(),
            version: instance.version.0,
            state: instance.state.to_string(),
            revision: instance.revision.0,
            created_at_ms: instance.created_at.0,
            changed_at_ms: instance.changed_at.0,
            allowed: allowed.iter().map(ToString::to_string).collect(),
            metadata: entries(&instance.metadata),
            deadline_ms: instance.deadline.map(|deadline| deadline.0),
        }
    }
}

pub(super) fn entries(metadata: &Metadata) -> HashMap<String, String> {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    metadata.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::Timestamp;

    #[test]
    fn an_instance_is_shown_with_where_it_may_go() {
        let state = State::default();
        let id = InstanceId::new("triad", "default").unwrap();
        let mut instance = state.instance(&id).unwrap().clone();
        let expected = v1::Instance {
            id: "triad/default".to_owned(),
            version: 1,
            state: "first".to_owned(),
            allowed: vec!["second".to_owned(), "third".to_owned()],
            ..Default::default()
        };
        assert_eq!(v1::Instance::of(&state, &id, &instance), expected);

        instance.deadline = Some(Timestamp(70));
        instance.metadata = Metadata::new([("by", "ann")]).unwrap();
        let shown = v1::Instance::of(&state, &id, &instance);
        assert_eq!(shown.deadline_ms, Some(70));
        assert_eq!(shown.metadata["by"], "ann");
    }
}
