//! Bytes that nobody encoded: as a batch of the log, as an outcome, as a public message. Nothing
//! panics or runs out of stack, and what is accepted means the same when it is encoded again.
//!
//! What was found once is in `fuzz.proptest-regressions` and is tried first; PROPTEST_CASES makes it
//! try more.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_machine::{
    Batch, Cause, Command, Create, Delete, DeleteDefinition, Event, EventCursor, EventKind,
    EventName, Expectation, Expiration, GlobalRevision, IdempotencyKey, InstanceId, Limits,
    MachineName, Metadata, Migrate, Operation, Origin, Outcome, Precondition, Rejection, Request,
    Revision, SessionId, SinkChange, SinkCheckpoint, SinkCommand, SinkName, StateName, Timestamp,
    Transaction, Transition, Trigger, Version,
};
use lockstep_proto::{decode_batch, decode_outcome, encode_batch, encode_outcome, raft, v1};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;
use prost::Message;

fn config() -> ProptestConfig {
    let found = FileFailurePersistence::Direct("tests/fuzz.proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(found)),
        ..ProptestConfig::default()
    }
}

fn id() -> InstanceId {
    InstanceId::new("order", "42").unwrap()
}

fn state(name: &str) -> StateName {
    StateName::new(name).unwrap()
}

/// One of every kind of command.
fn commands() -> Vec<Command> {
    [other_commands(), sink_commands()].concat()
}

fn sink() -> SinkName {
    SinkName::new("audit").unwrap()
}

fn cursor() -> EventCursor {
    EventCursor::after(GlobalRevision(7))
}

fn event() -> Event {
    Event {
        revision: GlobalRevision(7),
        position: 1,
        kind: EventKind::Transitioned,
        machine: MachineName::new("order").unwrap(),
        name: Some(id().instance_name().clone()),
        version: Version(1),
        from_version: None,
        from: Some(state("open")),
        to: Some(state("paid")),
        event: None,
        instance_revision: Revision(1),
        at: Timestamp(9),
        cause: Cause::Timeout { late_ms: 3 },
        metadata: Metadata::new([("by", "ann")]).unwrap(),
    }
}

fn sink_commands() -> Vec<Command> {
    let (term, cursor) = (3, cursor());
    let checkpoint = SinkCheckpoint {
        cursor,
        seeded: GlobalRevision(2),
    };
    let bury = SinkChange::Bury {
        term,
        event: Arc::new(event()),
        reason: "too odd".to_owned(),
    };
    let settle = SinkChange::Settle {
        term,
        cursor,
        refused: Some("é".to_owned()),
    };
    let which = Some(cursor);
    let changes = [
        SinkChange::Claim { term },
        SinkChange::Advance { term, checkpoint },
        bury,
        settle,
        SinkChange::Seeding { term },
        SinkChange::Seeded { term, asked: 3 },
        SinkChange::Seed,
        SinkChange::Replay { which },
        SinkChange::Discard { which: None },
        SinkChange::Forget,
    ];
    let command = |change| SinkCommand {
        sink: sink(),
        change,
    };
    let all = changes.map(|change| Command::Sink(Box::new(command(change))));
    all.into()
}

fn other_commands() -> Vec<Command> {
    let order = r#"{"name":"order","initial":"open","labels":{"a":"b"},"states":{"open":{"timeout":{"after":"1h","to":"paid"}},"paid":{"final":true}},"transitions":[{"from":"*","to":"paid","event":"pay"}]}"#;
    let order = lockstep_document::parse_json(order, &Limits::default()).unwrap();
    let metadata = Metadata::new([("by", "ann"), ("why", "é")]).unwrap();
    let transition = Transition {
        instance: id(),
        trigger: Trigger::Event(EventName::new("pay").unwrap()),
        expect_state: Some(state("open")),
        expect_revision: Some(Revision(u64::MAX)),
        metadata: metadata.clone(),
    };
    let create = Create {
        instance: id(),
        version: Some(Version(1)),
        metadata: metadata.clone(),
    };
    let delete = Delete {
        instance: id(),
        expect_state: None,
        expect_revision: None,
        metadata: metadata.clone(),
    };
    let check = |expect| {
        Operation::Check(Precondition {
            instance: id(),
            expect,
        })
    };
    vec![
        Command::Transition(transition.clone()),
        Command::Define(Arc::new(order)),
        Command::DeleteDefinition(DeleteDefinition {
            machine: MachineName::new("order").unwrap(),
            version: None,
        }),
        Command::Create(create.clone()),
        Command::Delete(delete.clone()),
        Command::Migrate(Migrate {
            instance: id(),
            version: None,
            states: BTreeMap::from([(state("open"), state("paid"))]),
            expect_state: None,
            expect_revision: None,
            metadata,
        }),
        Command::Transaction(Transaction {
            operations: vec![
                Operation::Create(create),
                Operation::Transition(transition),
                Operation::Delete(delete),
                check(Expectation::Exists),
                check(Expectation::AtRevision(Revision(7))),
            ],
        }),
        Command::Expire(vec![Expiration {
            instance: id(),
            revision: Revision(3),
            deadline: Timestamp(9),
        }]),
        Command::Configure(Box::default()),
    ]
}

fn batch() -> Batch {
    let request = |(n, command): (u64, Command)| Request {
        origin: Origin {
            session: SessionId(u64::MAX),
            sequence: n,
            answered_below: n,
        },
        key: Some(IdempotencyKey::new(format!("key {n}")).unwrap()),
        command,
    };
    Batch {
        stamp: Timestamp(1_700_000_000_000),
        requests: (1..).zip(commands()).map(request).collect(),
    }
}

fn outcomes() -> Vec<Outcome> {
    let unknown = Rejection::UnknownInstance { instance: id() };
    let illegal = Rejection::IllegalTransition {
        instance: id(),
        from: state("open"),
        to: state("paid"),
        allowed: vec![state("void")],
        revision: Revision(1),
    };
    let failed = Rejection::OperationFailed {
        position: 3,
        reason: Box::new(illegal.clone()),
    };
    vec![
        Outcome::Rejected(unknown),
        Outcome::Rejected(illegal),
        Outcome::Rejected(failed),
        Outcome::Configured,
        Outcome::SinkChanged { affected: 2 },
        Outcome::Rejected(Rejection::SinkFenced {
            sink: sink(),
            term: 4,
        }),
        Outcome::Rejected(Rejection::UnknownDeadLetter {
            sink: sink(),
            cursor: cursor(),
        }),
    ]
}

/// What is done to good bytes.
fn damages() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        // Lengths and numbers as large as they can be written.
        select(vec![
            vec![0xff; 9],
            vec![0xff, 0xff, 0xff, 0xff, 0x0f],
            vec![0x80; 11],
            vec![0x80, 0x80, 0x80, 0x80, 0x10],
        ]),
    ];
    prop::collection::vec((any::<Index>(), 0..8usize, bytes), 1..5)
}

fn damaged(bytes: &[u8], damages: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, length, with) in damages {
        let at = at.index(bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.iter().copied());
    }
    bytes
}

fn batch_holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    match decode_batch(bytes) {
        Ok(batch) => prop_assert_eq!(decode_batch(&encode_batch(&batch)), Ok(batch)),
        Err(malformed) => prop_assert!(malformed.to_string().len() < 1000, "{malformed}"),
    }
    Ok(())
}

fn outcome_holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(outcome) = decode_outcome(bytes) {
        prop_assert_eq!(decode_outcome(&encode_outcome(&outcome)), Ok(outcome));
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        batch_holds(&bytes)?;
        outcome_holds(&bytes)?;
        if let Ok(request) = v1::TransitionRequest::decode(&*bytes) {
            let _ = <(Transition, Option<IdempotencyKey>)>::try_from(request);
        }
    }

    #[test]
    fn a_damaged_batch_is_read_or_refused(damages in damages()) {
        batch_holds(&damaged(&encode_batch(&batch()), &damages))?;
    }

    #[test]
    fn a_damaged_request_is_read_or_refused(which in any::<Index>(), damages in damages()) {
        let requests = batch().requests;
        let good = raft::Request::from(&requests[which.index(requests.len())]).encode_to_vec();
        if let Ok(request) = raft::Request::decode(&*damaged(&good, &damages)) {
            let message = raft::Batch { stamp_ms: 1, requests: vec![request] };
            batch_holds(&message.encode_to_vec())?;
        }
    }

    #[test]
    fn a_damaged_outcome_is_read_or_refused(which in any::<Index>(), damages in damages()) {
        let outcomes = outcomes();
        let good = encode_outcome(&outcomes[which.index(outcomes.len())]);
        outcome_holds(&damaged(&good, &damages))?;
    }

    #[test]
    fn a_damaged_public_message_is_read_or_refused(damages in damages()) {
        let good = v1::TransitionRequest {
            id: "order/42".to_owned(),
            expect_state: Some("open".to_owned()),
            idempotency_key: Some("once".to_owned()),
            ..Default::default()
        };
        if let Ok(request) = v1::TransitionRequest::decode(&*damaged(&good.encode_to_vec(), &damages)) {
            let _ = <(Transition, Option<IdempotencyKey>)>::try_from(request);
        }
    }
}

#[test]
fn what_is_damaged_was_whole_before() {
    assert_eq!(decode_batch(&encode_batch(&batch())), Ok(batch()));
    for outcome in outcomes() {
        assert_eq!(decode_outcome(&encode_outcome(&outcome)), Ok(outcome));
    }
}

#[test]
fn a_reason_within_a_reason_without_end_is_refused() {
    let failed = Rejection::OperationFailed {
        position: 0,
        reason: Box::new(Rejection::EmptyTransaction),
    };
    let empty = encode_outcome(&Outcome::Rejected(Rejection::EmptyTransaction));
    let failed = encode_outcome(&Outcome::Rejected(failed));
    // Both begin with what says that it is a rejection, and end with the reason.
    let reason = &empty[3..];
    let level = &failed[3..failed.len() - reason.len()];
    let mut nested = failed[..3].to_vec();
    for _ in 0..1_000_000 {
        nested.extend_from_slice(level);
    }
    nested.extend_from_slice(reason);
    let refused = decode_outcome(&nested).unwrap_err();
    assert_eq!(refused.field, "outcome");
    // The reader is as good as new afterwards.
    assert!(decode_outcome(&failed).is_ok());
}
