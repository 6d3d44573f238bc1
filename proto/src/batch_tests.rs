use super::*;
use std::sync::Arc;

use lockstep_machine::*;

fn transition(trigger: Trigger) -> Transition {
    Transition {
        instance: InstanceId::new("order", "42").unwrap(),
        trigger,
        expect_state: None,
        expect_revision: None,
        metadata: Metadata::default(),
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
            "1 bytes are left over"
        );
    }
}

/// One command of each kind, with every field set.
fn commands() -> Vec<Command> {
    let definition = r#"{"name": "order", "description": "d", "labels": {"team": "shop"},
        "initial": "open", "states": {
            "open": {"description": "o", "timeout": {"after": "15m", "to": "done"}},
            "paid": {}, "done": {"final": true}},
        "transitions": [
            {"from": ["open", "paid"], "to": "done", "event": "end", "description": "e"},
            {"from": "*", "to": "paid"}]}"#;
    let definition = Definition::parse_json(definition, &Limits::default()).unwrap();
    let machine = MachineName::new("order").unwrap();
    let instance = InstanceId::new("order", "42").unwrap();
    let open = StateName::new("open").unwrap();
    let metadata = Metadata::new([("by", "ann"), ("why", "late")]).unwrap();
    let (expect_state, expect_revision) = (Some(open.clone()), Some(Revision(3)));
    let moved = Transition {
        expect_state: expect_state.clone(),
        expect_revision,
        metadata: metadata.clone(),
        ..transition(Trigger::Event(EventName::new("pay").unwrap()))
    };
    let create = Create {
        instance: instance.clone(),
        version: Some(Version(2)),
        metadata: metadata.clone(),
    };
    let delete = Delete {
        instance: instance.clone(),
        expect_state: expect_state.clone(),
        expect_revision,
        metadata: metadata.clone(),
    };
    let migrate = Migrate {
        instance: instance.clone(),
        version: Some(Version(7)),
        states: [(open.clone(), StateName::new("paid").unwrap())].into(),
        expect_state,
        expect_revision,
        metadata,
    };
    let expectations = [
        Expectation::Exists,
        Expectation::Missing,
        Expectation::InState(open),
        Expectation::AtRevision(Revision(0)),
    ];
    let check = |expect| {
        Operation::Check(Precondition {
            instance: instance.clone(),
            expect,
        })
    };
    let mut operations: Vec<_> = expectations.map(check).into();
    operations.extend([
        Operation::Create(create.clone()),
        Operation::Transition(moved.clone()),
        Operation::Delete(delete.clone()),
    ]);
    let expiration = Expiration {
        instance: instance.clone(),
        revision: Revision(1),
        deadline: Timestamp(99),
    };
    vec![
        Command::Transition(moved),
        Command::Define(Arc::new(definition)),
        Command::DeleteDefinition(DeleteDefinition {
            machine,
            version: Some(Version(1)),
        }),
        Command::Create(create),
        Command::Delete(delete),
        Command::Migrate(migrate),
        Command::Transaction(Transaction { operations }),
        Command::Expire(vec![expiration]),
        Command::Configure(Box::new(Limits {
            keys_max: 0,
            ..Limits::default()
        })),
    ]
}

/// An event with every field set.
fn event() -> Event {
    let state = |name| Some(StateName::new(name).unwrap());
    Event {
        revision: GlobalRevision(9),
        position: 2,
        kind: EventKind::Migrated,
        machine: MachineName::new("order").unwrap(),
        name: Some(InstanceName::new("42").unwrap()),
        version: Version(2),
        from_version: Some(Version(1)),
        from: state("open"),
        to: state("paid"),
        event: Some(EventName::new("pay").unwrap()),
        instance_revision: Revision(4),
        at: Timestamp(99),
        cause: Cause::Timeout { late_ms: 3 },
        metadata: Metadata::new([("by", "ann")]).unwrap(),
    }
}

/// A change of each kind, with every field set and with none, for every kind of event.
fn sink_commands() -> Vec<Command> {
    let term = u64::MAX;
    let (cursor, refused) = (event().cursor(), Some("no".to_owned()));
    let seeded = GlobalRevision(8);
    let mut changes = vec![
        SinkChange::Claim { term },
        SinkChange::Advance {
            term,
            checkpoint: SinkCheckpoint { cursor, seeded },
        },
        SinkChange::Advance {
            term: 0,
            checkpoint: SinkCheckpoint::default(),
        },
        SinkChange::Settle {
            term,
            cursor,
            refused,
        },
        SinkChange::Settle {
            term,
            cursor,
            refused: None,
        },
        SinkChange::Seeded { term },
        SinkChange::Seed,
        SinkChange::Forget,
    ];
    for which in [None, Some(cursor)] {
        changes.extend([SinkChange::Replay { which }, SinkChange::Discard { which }]);
    }
    let about_a_definition = Event {
        name: None,
        from_version: None,
        from: None,
        to: None,
        event: None,
        cause: Cause::Request,
        metadata: Metadata::default(),
        ..event()
    };
    let kinds = [
        EventKind::Created,
        EventKind::Transitioned,
        EventKind::Migrated,
        EventKind::Deleted,
        EventKind::Defined,
        EventKind::DefinitionDeleted,
    ];
    let events = [event(), about_a_definition];
    let events = events
        .iter()
        .flat_map(|it| kinds.map(|kind| Event { kind, ..it.clone() }));
    changes.extend(events.map(|event| SinkChange::Bury {
        term,
        event: Arc::new(event),
        reason: "é".to_owned(),
    }));
    let sink = SinkName::new("audit").unwrap();
    let command = |change| SinkCommand {
        sink: sink.clone(),
        change,
    };
    let all = changes.into_iter().map(command);
    all.map(|it| Command::Sink(Box::new(it))).collect()
}

fn with(command: Command) -> Batch {
    let request = Request {
        command,
        ..request(None, transition(to("paid")))
    };
    Batch {
        stamp: Timestamp(1),
        requests: vec![request],
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

#[test]
fn a_fault_of_a_sink_names_its_field() {
    use raft::request::Command as Wire;
    use raft::sink::Change;
    let fault = |kind: &str, damage: &dyn Fn(&mut raft::Sink)| {
        let command = sink_commands().into_iter().find(|it| match it {
            Command::Sink(it) => format!("{:?}", it.change).starts_with(kind),
            other => panic!("{other:?}"),
        });
        let mut message = raft::Request::from(&with(command.unwrap()).requests[0]);
        match &mut message.command {
            Some(Wire::Sink(sink)) => damage(sink),
            other => panic!("{other:?}"),
        }
        Request::try_from(message).unwrap_err().field
    };
    let event = |damage: &dyn Fn(&mut raft::Event)| {
        fault("Bury", &|sink| match &mut sink.change {
            Some(Change::Bury(it)) => damage(it.event.as_mut().unwrap()),
            other => panic!("{other:?}"),
        })
    };
    let faults = [
        fault("Seed", &|sink| sink.name = "Audit".to_owned()),
        fault("Seed", &|sink| sink.change = None),
        fault("Advance", &|sink| match &mut sink.change {
            Some(Change::Advance(it)) => it.cursor = None,
            other => panic!("{other:?}"),
        }),
        fault("Settle", &|sink| match &mut sink.change {
            Some(Change::Settle(it)) => it.cursor = None,
            other => panic!("{other:?}"),
        }),
        fault("Bury", &|sink| match &mut sink.change {
            Some(Change::Bury(it)) => it.event = None,
            other => panic!("{other:?}"),
        }),
        event(&|it| it.cursor = None),
        event(&|it| it.kind = 0),
        event(&|it| it.kind = 99),
        event(&|it| it.machine.clear()),
        event(&|it| it.instance = Some(String::new())),
        event(&|it| it.from = Some(String::new())),
        event(&|it| it.to = Some(String::new())),
        event(&|it| it.event = Some(String::new())),
        event(&|it| it.metadata.push(it.metadata[0].clone())),
    ];
    let expected = [
        "sink.name",
        "sink.change",
        "sink.cursor",
        "sink.cursor",
        "sink.event",
        "event.cursor",
        "event.kind",
        "event.kind",
        "event.machine",
        "event.instance",
        "event.from",
        "event.to",
        "event.event",
        "event.metadata",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_fault_of_the_newer_commands_names_its_field_too() {
    let fault = |at: usize, damage: &dyn Fn(&mut raft::request::Command)| {
        let mut message = raft::Request::from(&with(commands().swap_remove(at)).requests[0]);
        damage(message.command.as_mut().unwrap());
        Request::try_from(message).unwrap_err().field
    };
    use raft::request::Command as Wire;
    macro_rules! break_it {
        ($at:literal, $kind:ident, $it:ident => $damage:expr) => {
            fault($at, &|command| match command {
                Wire::$kind($it) => $damage,
                other => panic!("{other:?}"),
            })
        };
    }
    let entry = || raft::MetadataEntry {
        key: String::new(),
        value: String::new(),
    };
    let faults = [
        break_it!(1, Define, it => it.name.clear()),
        break_it!(1, Define, it => it.states[0].name.clear()),
        break_it!(1, Define, it => it.moves[0].from_any = true),
        break_it!(2, DeleteDefinition, it => it.machine.clear()),
        break_it!(3, Create, it => it.instance.clear()),
        break_it!(3, Create, it => it.metadata.push(entry())),
        break_it!(4, Delete, it => it.expect_state = Some(String::new())),
        break_it!(5, Migrate, it => it.states.push(it.states[0].clone())),
        break_it!(6, Transaction, it => it.operations[0].operation = None),
        break_it!(7, Expire, it => it.expirations[0].machine.clear()),
        break_it!(8, Configure, it => it.keys_max = None),
    ];
    let expected = [
        "define.name",
        "define.states",
        "define.moves",
        "delete_definition.machine",
        "create.instance",
        "create.metadata",
        "delete.expect_state",
        "migrate.states",
        "transaction.operations",
        "expire.machine",
        "configure.keys_max",
    ];
    assert_eq!(faults, expected);
}
