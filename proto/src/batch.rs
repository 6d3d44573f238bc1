//! Batches and outcomes as they travel and rest: requests to and from the peer protocol.

use bytes::Bytes;
use lockstep_machine::{
    Batch, Command, EventName, IdempotencyKey, InstanceId, InvalidName, MachineName, Origin,
    Outcome, Request, Revision, SessionId, StateName, Timestamp, Transition, Trigger,
};
use prost::Message as _;

use crate::{Malformed, raft};

/// Encodes a batch for the log.
pub fn encode_batch(batch: &Batch) -> Bytes {
    let message = raft::Batch {
        stamp_ms: batch.stamp.0,
        requests: batch.requests.iter().map(raft::Request::from).collect(),
    };
    message.encode_to_vec().into()
}

/// Decodes a batch from the log.
///
/// # Errors
///
/// The first field that breaks the contract; the reason starts with the request's place in the
/// batch, from 0.
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, Malformed> {
    let message = raft::Batch::decode(bytes).map_err(|error| Malformed::new("batch", error))?;
    let request = |(i, request): (usize, raft::Request)| {
        Request::try_from(request).map_err(|Malformed { field, reason }| {
            Malformed::new(field, format!("in request {i}: {reason}"))
        })
    };
    Ok(Batch {
        stamp: Timestamp(message.stamp_ms),
        requests: message
            .requests
            .into_iter()
            .enumerate()
            .map(request)
            .collect::<Result<_, _>>()?,
    })
}

/// Encodes an outcome for a forwarded reply: the state machine's own form, in postcard.
pub fn encode_outcome(outcome: &Outcome) -> Bytes {
    postcard::to_stdvec(outcome)
        .expect("postcard writes every derived type of known length to memory")
        .into()
}

/// Decodes an outcome of a forwarded reply.
///
/// # Errors
///
/// `outcome`, if the bytes are not exactly one outcome.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((outcome, [])) => Ok(outcome),
        Ok((_, rest)) => Err(Malformed::new(
            "outcome",
            format!("{} bytes are left over", rest.len()),
        )),
        Err(error) => Err(Malformed::new("outcome", error)),
    }
}

impl From<&Request> for raft::Request {
    fn from(request: &Request) -> Self {
        let Origin {
            session,
            sequence,
            answered_below,
        } = request.origin;
        Self {
            session: session.0,
            sequence,
            answered_below,
            key: request.key.as_ref().map(ToString::to_string),
            command: encode_command(&request.command),
        }
    }
}

/// `None` for a command that this version of the contract cannot carry; there is none today.
fn encode_command(command: &Command) -> Option<raft::request::Command> {
    match command {
        Command::Transition(transition) => {
            Some(raft::request::Command::Transition(transition.into()))
        }
        _ => None,
    }
}

impl From<&Transition> for raft::Transition {
    fn from(transition: &Transition) -> Self {
        Self {
            machine: transition.instance.machine.to_string(),
            instance: transition.instance.name().to_owned(),
            trigger: Some(match &transition.trigger {
                Trigger::To(state) => raft::transition::Trigger::To(state.to_string()),
                Trigger::Event(event) => raft::transition::Trigger::Event(event.to_string()),
            }),
            expect_state: transition.expect_state.as_ref().map(ToString::to_string),
            expect_revision: transition.expect_revision.map(|revision| revision.0),
        }
    }
}

impl TryFrom<raft::Request> for Request {
    type Error = Malformed;
    fn try_from(request: raft::Request) -> Result<Self, Malformed> {
        let origin = Origin {
            session: SessionId(request.session),
            sequence: request.sequence,
            answered_below: request.answered_below,
        };
        let key = request
            .key
            .map(|key| parsed("key", IdempotencyKey::new(key)))
            .transpose()?;
        let command = match request.command {
            Some(raft::request::Command::Transition(transition)) => {
                Command::Transition(transition.try_into()?)
            }
            None => {
                return Err(Malformed::new(
                    "command",
                    "it is missing, or of a kind this build does not know",
                ));
            }
        };
        Ok(Self {
            origin,
            key,
            command,
        })
    }
}

impl TryFrom<raft::Transition> for Transition {
    type Error = Malformed;
    fn try_from(transition: raft::Transition) -> Result<Self, Malformed> {
        let raft::Transition {
            machine,
            instance,
            trigger,
            expect_state,
            expect_revision,
        } = transition;
        parsed("transition.machine", MachineName::new(&machine))?;
        Ok(Self {
            instance: parsed("transition.instance", InstanceId::new(machine, instance))?,
            trigger: match trigger {
                Some(raft::transition::Trigger::To(state)) => {
                    Trigger::To(parsed("transition.to", StateName::new(state))?)
                }
                Some(raft::transition::Trigger::Event(event)) => {
                    Trigger::Event(parsed("transition.event", EventName::new(event))?)
                }
                None => {
                    return Err(Malformed::new(
                        "transition.trigger",
                        "one of `to` and `event` is required",
                    ));
                }
            },
            expect_state: expect_state
                .map(|state| parsed("transition.expect_state", StateName::new(state)))
                .transpose()?,
            expect_revision: expect_revision.map(Revision),
        })
    }
}

/// Names the field that a name stood in.
pub(crate) fn parsed<T>(field: &'static str, name: Result<T, InvalidName>) -> Result<T, Malformed> {
    name.map_err(|invalid| Malformed::new(field, invalid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{Rejection, Transitioned, Version};

    fn transition(trigger: Trigger) -> Transition {
        Transition {
            instance: InstanceId::new("order", "42").unwrap(),
            trigger,
            expect_state: None,
            expect_revision: None,
        }
    }

    fn request(key: Option<&str>, transition: Transition) -> Request {
        Request {
            origin: Origin {
                session: SessionId(u64::MAX),
                sequence: 7,
                answered_below: 5,
            },
            key: key.map(|key| IdempotencyKey::new(key).unwrap()),
            command: Command::Transition(transition),
        }
    }

    fn to(state: &str) -> Trigger {
        Trigger::To(StateName::new(state).unwrap())
    }

    fn batch() -> Batch {
        let pay = Trigger::Event(EventName::new("pay").unwrap());
        let expecting = Transition {
            expect_state: Some(StateName::new("open").unwrap()),
            expect_revision: Some(Revision(0)),
            ..transition(pay)
        };
        Batch {
            stamp: Timestamp(1_700_000_000_000),
            requests: vec![
                request(None, transition(to("paid"))),
                request(Some("a key ~"), expecting),
            ],
        }
    }

    /// The wire form of a good request, to be broken by `damage`.
    fn fault(damage: impl Fn(&mut raft::Request, &mut raft::Transition)) -> Malformed {
        let mut message = raft::Request::from(&batch().requests[1]);
        let Some(raft::request::Command::Transition(mut inner)) = message.command.take() else {
            panic!("a transition encodes as a transition");
        };
        damage(&mut message, &mut inner);
        message.command = Some(raft::request::Command::Transition(inner));
        Request::try_from(message).unwrap_err()
    }

    #[test]
    fn a_batch_survives_the_log() {
        let empty = Batch {
            stamp: Timestamp(0),
            requests: vec![],
        };
        for batch in [batch(), empty] {
            assert_eq!(decode_batch(&encode_batch(&batch)).unwrap(), batch);
        }
    }

    #[test]
    fn a_fault_names_its_field() {
        let fields = [
            fault(|request, _| request.key = Some(String::new())).field,
            fault(|_, transition| transition.machine = "no/slash".to_owned()).field,
            fault(|_, transition| transition.instance = String::new()).field,
            fault(|_, transition| transition.trigger = None).field,
            fault(|_, it| it.trigger = Some(raft::transition::Trigger::To(" ".to_owned()))).field,
            fault(|_, it| it.trigger = Some(raft::transition::Trigger::Event("-x".to_owned())))
                .field,
            fault(|_, transition| transition.expect_state = Some("é".to_owned())).field,
        ];
        assert_eq!(
            fields,
            [
                "key",
                "transition.machine",
                "transition.instance",
                "transition.trigger",
                "transition.to",
                "transition.event",
                "transition.expect_state"
            ]
        );
    }

    #[test]
    fn a_request_without_a_known_command_is_malformed() {
        let message = raft::Request {
            command: None,
            ..raft::Request::from(&batch().requests[0])
        };
        assert_eq!(Request::try_from(message).unwrap_err().field, "command");
    }

    #[test]
    fn a_fault_in_a_batch_tells_which_request() {
        let mut requests: Vec<_> = batch().requests.iter().map(raft::Request::from).collect();
        requests[1].key = Some("tab\t".to_owned());
        let bytes = raft::Batch {
            stamp_ms: 1,
            requests,
        }
        .encode_to_vec();
        let fault = decode_batch(&bytes).unwrap_err();
        assert_eq!(fault.field, "key");
        assert!(
            fault.reason.starts_with("in request 1: idempotency key"),
            "{}",
            fault.reason
        );
    }

    #[test]
    fn a_damaged_batch_never_panics() {
        let bytes = encode_batch(&batch());
        for end in 0..bytes.len() {
            let _ = decode_batch(&bytes[..end]);
        }
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[i] ^= 1 << bit;
                let _ = decode_batch(&damaged);
            }
        }
        assert_eq!(decode_batch(&[0xff]).unwrap_err().field, "batch");
    }

    #[test]
    fn an_outcome_survives_the_way_back_and_damage_is_told() {
        let instance = InstanceId::new("order", "42").unwrap();
        let state = |name| StateName::new(name).unwrap();
        let moved = Outcome::Transitioned(Transitioned {
            instance: instance.clone(),
            version: Version(1),
            from: state("open"),
            to: state("paid"),
            event: Some(EventName::new("pay").unwrap()),
            revision: Revision(1),
            at: Timestamp(9),
        });
        let refused = Outcome::Rejected(Rejection::IllegalTransition {
            instance,
            from: state("paid"),
            to: state("open"),
            allowed: vec![state("sent")],
            revision: Revision(1),
        });
        for outcome in [moved, refused, Outcome::Rejected(Rejection::KeyReused)] {
            let bytes = encode_outcome(&outcome);
            assert_eq!(decode_outcome(&bytes).unwrap(), outcome);
            for end in 0..bytes.len() {
                assert_eq!(decode_outcome(&bytes[..end]).unwrap_err().field, "outcome");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(
                decode_outcome(&longer).unwrap_err().reason,
                "1 bytes are left over"
            );
        }
    }
}
