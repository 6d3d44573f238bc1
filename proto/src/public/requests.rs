//! Requests about one instance or one machine.

use lockstep_machine::{Create, Delete, DeleteDefinition, IdempotencyKey, Migrate, Transition};

use super::field::{Field, request};
use crate::{Malformed, v1};

request!(Create as CreateInstanceRequest {
    instance: id,
    version: version,
    metadata: metadata,
});

request!(Transition as TransitionRequest {
    instance: id,
    trigger: trigger,
    expect_state: expect_state,
    expect_revision: expect_revision,
    metadata: metadata,
});

request!(Delete as DeleteInstanceRequest {
    instance: id,
    expect_state: expect_state,
    expect_revision: expect_revision,
    metadata: metadata,
});

request!(Migrate as MigrateInstanceRequest {
    instance: id,
    version: version,
    states: states,
    expect_state: expect_state,
    expect_revision: expect_revision,
    metadata: metadata,
} beside dry_run);

request!(DeleteDefinition as DeleteMachineRequest {
    machine: machine,
    version: version,
});

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        EventName, InstanceId, MachineName, Metadata, Revision, StateName, Trigger, Version,
    };

    type Parsed = (Transition, Option<IdempotencyKey>);

    fn request() -> v1::TransitionRequest {
        v1::TransitionRequest {
            id: "order/42".to_owned(),
            trigger: Some(v1::transition_request::Trigger::To("paid".to_owned())),
            expect_state: Some("open".to_owned()),
            expect_revision: Some(3),
            idempotency_key: Some("once".to_owned()),
            metadata: [("by".to_owned(), "ann".to_owned())].into(),
        }
    }

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    #[test]
    fn a_transition_carries_every_field() {
        let (transition, key) = Parsed::try_from(request()).unwrap();
        let sent = v1::TransitionRequest::from((transition.clone(), key.clone()));
        assert_eq!(sent, request());
        let expected = Transition {
            instance: InstanceId::new("order", "42").unwrap(),
            trigger: Trigger::To(state("paid")),
            expect_state: Some(state("open")),
            expect_revision: Some(Revision(3)),
            metadata: Metadata::new([("by", "ann")]).unwrap(),
        };
        assert_eq!(
            (transition, key),
            (expected, Some(IdempotencyKey::new("once").unwrap()))
        );

        let trigger = Some(v1::transition_request::Trigger::Event("pay".to_owned()));
        let bare = v1::TransitionRequest {
            id: "order/42".to_owned(),
            trigger,
            ..Default::default()
        };
        let (transition, key) = Parsed::try_from(bare).unwrap();
        assert_eq!(
            transition.trigger,
            Trigger::Event(EventName::new("pay").unwrap())
        );
        assert_eq!(
            (transition.expect_state, transition.expect_revision, key),
            (None, None, None)
        );
    }

    #[test]
    fn a_fault_names_its_field() {
        let fault = |damage: fn(&mut v1::TransitionRequest)| {
            let mut request = request();
            damage(&mut request);
            Parsed::try_from(request).unwrap_err()
        };
        assert_eq!(fault(|it| it.id = "order".to_owned()).field, "id");
        assert_eq!(
            fault(|it| it.trigger = Some(v1::transition_request::Trigger::To(String::new()))).field,
            "to"
        );
        let event =
            fault(|it| it.trigger = Some(v1::transition_request::Trigger::Event("a b".to_owned())));
        assert_eq!(event.field, "event");
        assert_eq!(
            fault(|it| it.expect_state = Some(String::new())).field,
            "expect_state"
        );
        assert_eq!(
            fault(|it| it.idempotency_key = Some("x".repeat(129))).field,
            "idempotency_key"
        );
        assert_eq!(
            fault(|it| {
                it.metadata.insert(String::new(), "x".to_owned());
            })
            .field,
            "metadata"
        );
        let missing = fault(|it| it.trigger = None);
        assert_eq!(
            missing.to_string(),
            "trigger: one of `to` and `event` is required"
        );
    }

    #[test]
    fn a_creation_carries_every_field() {
        let request = |id: &str| v1::CreateInstanceRequest {
            id: id.to_owned(),
            version: Some(2),
            idempotency_key: Some("once".to_owned()),
            metadata: [("by".to_owned(), "ann".to_owned())].into(),
        };
        let read = |id| <(Create, Option<IdempotencyKey>)>::try_from(request(id));
        let (create, key) = read("order/42").unwrap();
        let sent = v1::CreateInstanceRequest::from((create.clone(), key));
        assert_eq!(sent, request("order/42"));
        assert_eq!(create.instance, InstanceId::new("order", "42").unwrap());
        assert_eq!(create.version, Some(Version(2)));
        for bad in ["", "order", "order/", "/42", "order/4/2", "or/der/"] {
            assert_eq!(read(bad).unwrap_err().field, "id", "{bad:?}");
        }
    }

    #[test]
    fn a_migration_carries_its_mapping() {
        let request = v1::MigrateInstanceRequest {
            id: "order/42".to_owned(),
            version: Some(3),
            states: [("paid".to_owned(), "settled".to_owned())].into(),
            expect_state: Some("paid".to_owned()),
            expect_revision: Some(7),
            metadata: [("by".to_owned(), "ann".to_owned())].into(),
            dry_run: true,
            idempotency_key: None,
        };
        let (migrate, _) = <(Migrate, Option<IdempotencyKey>)>::try_from(request.clone()).unwrap();
        let expected = Migrate {
            instance: InstanceId::new("order", "42").unwrap(),
            version: Some(Version(3)),
            states: [(state("paid"), state("settled"))].into(),
            expect_state: Some(state("paid")),
            expect_revision: Some(Revision(7)),
            metadata: Metadata::new([("by", "ann")]).unwrap(),
        };
        assert_eq!(migrate, expected);
        let bad = v1::MigrateInstanceRequest {
            states: [("paid".to_owned(), "a b".to_owned())].into(),
            ..request
        };
        let fault = <(Migrate, Option<IdempotencyKey>)>::try_from(bad).unwrap_err();
        assert_eq!(fault.field, "states");
    }

    #[test]
    fn deletions_carry_every_field() {
        let request = v1::DeleteInstanceRequest {
            id: "order/42".to_owned(),
            expect_state: Some("paid".to_owned()),
            expect_revision: Some(7),
            idempotency_key: Some("once".to_owned()),
            metadata: [("by".to_owned(), "ann".to_owned())].into(),
        };
        let (delete, key) = <(Delete, Option<IdempotencyKey>)>::try_from(request).unwrap();
        let expected = Delete {
            instance: InstanceId::new("order", "42").unwrap(),
            expect_state: Some(state("paid")),
            expect_revision: Some(Revision(7)),
            metadata: Metadata::new([("by", "ann")]).unwrap(),
        };
        assert_eq!((delete, key.is_some()), (expected, true));

        let request = v1::DeleteMachineRequest {
            machine: "order".to_owned(),
            version: Some(2),
            idempotency_key: None,
        };
        let (delete, _) = <(DeleteDefinition, Option<IdempotencyKey>)>::try_from(request).unwrap();
        let expected = DeleteDefinition {
            machine: MachineName::new("order").unwrap(),
            version: Some(Version(2)),
        };
        assert_eq!(delete, expected);
    }
}
