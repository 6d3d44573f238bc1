//! What the unit tests share: requests, events, and a command of each kind.

use std::sync::Arc;

use lockstep_machine::*;

pub(crate) fn transition(trigger: Trigger) -> Transition {
    Transition {
        instance: InstanceId::new("order", "42").unwrap(),
        trigger,
        expect_state: None,
        expect_revision: None,
        metadata: Metadata::default(),
    }
}

pub(crate) fn request(key: Option<&str>, transition: Transition) -> Request {
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

pub(crate) fn to(state: &str) -> Trigger {
    Trigger::To(StateName::new(state).unwrap())
}

/// One command of each kind, with every field set.
pub(crate) fn commands() -> Vec<Command> {
    let definition = r#"{"name": "order", "description": "d", "labels": {"team": "shop"},
        "initial": "open", "states": {
            "open": {"description": "o", "timeout": {"after": "15m", "to": "done"}},
            "paid": {}, "done": {"final": true}},
        "transitions": [
            {"from": ["open", "paid"], "to": "done", "event": "end", "description": "e"},
            {"from": "*", "to": "paid"}]}"#;
    let definition = lockstep_document::parse_json(definition, &Limits::default()).unwrap();
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
pub(crate) fn event() -> Event {
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
pub(crate) fn sink_commands() -> Vec<Command> {
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
        SinkChange::Seeding { term },
        SinkChange::Seeded { term, asked: 3 },
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
        EventKind::Seeded,
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

/// A batch of this command alone.
pub(crate) fn with(command: Command) -> Batch {
    let request = Request {
        command,
        ..request(None, transition(to("paid")))
    };
    Batch {
        stamp: Timestamp(1),
        requests: vec![request],
    }
}
