use lockstep_machine::*;

use super::*;
use crate::testing::*;

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
        fault(|_, it| it.trigger = Some(raft::transition::Trigger::Event("-x".to_owned()))).field,
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
    let sink = SinkName::new("audit").unwrap();
    let fenced = Rejection::SinkFenced {
        sink: sink.clone(),
        term: 7,
    };
    let cursor = event().cursor();
    let unknown = Rejection::UnknownDeadLetter { sink, cursor };
    for outcome in [
        moved,
        refused,
        Outcome::Rejected(Rejection::KeyReused),
        Outcome::Rejected(fenced),
        Outcome::Rejected(unknown),
        Outcome::SinkChanged { affected: 3 },
    ] {
        let bytes = encode_outcome(&outcome);
        assert_eq!(decode_outcome(&bytes).unwrap(), outcome);
        for end in 0..bytes.len() {
            assert_eq!(decode_outcome(&bytes[..end]).unwrap_err().field, "outcome");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            decode_outcome(&longer).unwrap_err().reason,
            "outcome is malformed: 1 bytes are left over"
        );
    }
}

#[test]
fn every_command_survives_the_log_and_damage_never_panics() {
    for command in commands().into_iter().chain(sink_commands()) {
        let batch = with(command);
        let bytes = encode_batch(&batch);
        assert_eq!(decode_batch(&bytes).unwrap(), batch);
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[i] ^= 1 << bit;
                // What still decodes is a batch that would be written as it reads.
                if let Ok(batch) = decode_batch(&damaged) {
                    assert_eq!(decode_batch(&encode_batch(&batch)).unwrap(), batch);
                }
            }
        }
    }
}
