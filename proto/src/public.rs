//! The public messages to and from the state machine's own types.

use lockstep_machine::{
    EventName, IdempotencyKey, Metadata, Outcome, Rejection, Reply, Revision, StateName,
    Transition, Transitioned, Trigger,
};

use crate::batch::parsed;
use crate::{Malformed, v1};

impl TryFrom<v1::TransitionRequest> for (Transition, Option<IdempotencyKey>) {
    type Error = Malformed;
    fn try_from(request: v1::TransitionRequest) -> Result<Self, Malformed> {
        let v1::TransitionRequest {
            id,
            trigger,
            expect_state,
            expect_revision,
            idempotency_key,
            metadata,
        } = request;
        let transition = Transition {
            instance: parsed("id", id.parse())?,
            trigger: match trigger {
                Some(v1::transition_request::Trigger::To(state)) => {
                    Trigger::To(parsed("to", StateName::new(state))?)
                }
                Some(v1::transition_request::Trigger::Event(event)) => {
                    Trigger::Event(parsed("event", EventName::new(event))?)
                }
                None => {
                    return Err(Malformed::new(
                        "trigger",
                        "one of `to` and `event` is required",
                    ));
                }
            },
            expect_state: expect_state
                .map(|state| parsed("expect_state", StateName::new(state)))
                .transpose()?,
            expect_revision: expect_revision.map(Revision),
            metadata: Metadata::new(metadata).map_err(|it| Malformed::new("metadata", it))?,
        };
        let key = idempotency_key
            .map(|key| parsed("idempotency_key", IdempotencyKey::new(key)))
            .transpose()?;
        Ok((transition, key))
    }
}

impl From<Reply> for v1::TransitionResponse {
    fn from(reply: Reply) -> Self {
        let outcome = match reply.outcome {
            Outcome::Transitioned(it) => {
                Some(v1::transition_response::Outcome::Transitioned(it.into()))
            }
            Outcome::Rejected(it) => Some(v1::transition_response::Outcome::Rejected((&it).into())),
            // No other kind of outcome comes of a transition.
            _ => None,
        };
        Self {
            outcome,
            written: Some(v1::Written {
                replayed: reply.replayed,
                revision: reply.revision.0,
            }),
        }
    }
}

impl From<Transitioned> for v1::Transitioned {
    fn from(it: Transitioned) -> Self {
        Self {
            id: it.instance.to_string(),
            version: it.version.0,
            from: it.from.to_string(),
            to: it.to.to_string(),
            event: it.event.map(|event| event.to_string()),
            revision: it.revision.0,
            at_ms: it.at.0,
        }
    }
}

impl From<&Rejection> for v1::Rejected {
    fn from(rejection: &Rejection) -> Self {
        let current = rejection.current();
        Self {
            code: rejection.code().to_owned(),
            message: rejection.to_string(),
            current_state: current.map(|(state, _)| state.to_string()),
            current_revision: current.map(|(_, revision)| revision.0),
            allowed: rejection
                .allowed()
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{GlobalRevision, InstanceId, MachineName, Timestamp, Version};

    type Parsed = (Transition, Option<IdempotencyKey>);

    fn request() -> v1::TransitionRequest {
        v1::TransitionRequest {
            id: "order/42".to_owned(),
            trigger: Some(v1::transition_request::Trigger::To("paid".to_owned())),
            expect_state: Some("open".to_owned()),
            expect_revision: Some(3),
            idempotency_key: Some("once".to_owned()),
            ..Default::default()
        }
    }

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn rejected(rejection: Rejection) -> v1::Rejected {
        let reply = Reply {
            outcome: Outcome::Rejected(rejection),
            replayed: false,
            revision: GlobalRevision(1),
        };
        match v1::TransitionResponse::from(reply).outcome {
            Some(v1::transition_response::Outcome::Rejected(rejected)) => rejected,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_carries_every_field() {
        let (transition, key) = Parsed::try_from(request()).unwrap();
        let expected = Transition {
            instance: InstanceId::new("order", "42").unwrap(),
            trigger: Trigger::To(state("paid")),
            expect_state: Some(state("open")),
            expect_revision: Some(Revision(3)),
            metadata: Metadata::default(),
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
        let missing = fault(|it| it.trigger = None);
        assert_eq!(
            missing.to_string(),
            "trigger: one of `to` and `event` is required"
        );
    }

    #[test]
    fn a_transition_made_is_told_in_full() {
        let reply = Reply {
            outcome: Outcome::Transitioned(Transitioned {
                instance: InstanceId::new("order", "42").unwrap(),
                version: Version(2),
                from: state("open"),
                to: state("paid"),
                event: Some(EventName::new("pay").unwrap()),
                revision: Revision(4),
                at: Timestamp(99),
            }),
            replayed: true,
            revision: GlobalRevision(1),
        };
        let expected = v1::TransitionResponse {
            outcome: Some(v1::transition_response::Outcome::Transitioned(
                v1::Transitioned {
                    id: "order/42".to_owned(),
                    version: 2,
                    from: "open".to_owned(),
                    to: "paid".to_owned(),
                    event: Some("pay".to_owned()),
                    revision: 4,
                    at_ms: 99,
                },
            )),
            written: Some(v1::Written {
                replayed: true,
                revision: 1,
            }),
        };
        assert_eq!(v1::TransitionResponse::from(reply), expected);
    }

    #[test]
    fn a_rejection_tells_its_code_its_text_and_where_things_stand() {
        let illegal = rejected(Rejection::IllegalTransition {
            instance: InstanceId::new("triad", "default").unwrap(),
            from: state("second"),
            to: state("first"),
            allowed: vec![state("third")],
            revision: Revision(1),
        });
        let expected = v1::Rejected {
            code: "illegal_transition".to_owned(),
            message:
                r#"triad/default cannot go from "second" to "first"; allowed from "second": third"#
                    .to_owned(),
            current_state: Some("second".to_owned()),
            current_revision: Some(1),
            allowed: vec!["third".to_owned()],
            ..Default::default()
        };
        assert_eq!(illegal, expected);

        let unknown = rejected(Rejection::UnknownMachine {
            machine: MachineName::new("m").unwrap(),
        });
        let expected = v1::Rejected {
            code: "unknown_machine".to_owned(),
            message: r#"there is no machine "m""#.to_owned(),
            ..Default::default()
        };
        assert_eq!(unknown, expected);
    }
}
