//! Responses about instances.

use lockstep_machine::InstanceView;

use super::field::{Field, message};
use crate::{Malformed, v1};

message!(InstanceView as Instance {
    id: id,
    version: version,
    state: state,
    revision: revision,
    created_at: created_at_ms,
    changed_at: changed_at_ms,
    allowed: allowed,
    events: events,
    metadata: metadata,
    deadline: deadline_ms,
    timeout_to: timeout_to,
});

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{InstanceId, Metadata, State, Timestamp};

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
