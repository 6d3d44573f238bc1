//! Every call of the machines' interface, against a scripted server.

use std::future::Future;
use std::pin::Pin;

use futures::StreamExt;
use lockstep_client::{
    Client, Consistency, CreateCall, DefineCall, DeleteCall, DeleteMachineCall, DrawCall, Error,
    EventCursor, EventKind, Expectation, Freshness, GlobalRevision, IdempotencyKey, InstanceId,
    ListCall, Metadata, MigrateCall, OperationResult, PictureFormat, Revision, Transaction,
    TransitionCall, Version,
};
use lockstep_proto::v1;
use lockstep_scripted::watching::event;
use lockstep_scripted::{Answer, Node, closed_port};

use crate::{client, client_within};

fn order() -> InstanceId {
    "order/42".parse().expect("valid")
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("valid")
}

fn metadata() -> Metadata {
    Metadata::new([("by", "ada")]).expect("valid")
}

fn read_at(revision: u64) -> Option<v1::ReadAt> {
    Some(v1::ReadAt {
        applied_index: 42,
        revision,
    })
}

type Answered<'a> = Pin<Box<dyn Future<Output = Result<bool, Error>> + Send + 'a>>;

/// Every write, with the caller's key or the client's; answers whether it was replayed.
fn writes(client: &Client, key: Option<IdempotencyKey>) -> Vec<(&'static str, Answered<'_>)> {
    macro_rules! write {
        ($method:ident, $call:expr) => {{
            let call = match &key {
                Some(key) => $call.idempotency_key(key.clone()),
                None => $call,
            };
            let answered = async move { Ok::<_, Error>(client.$method(call).await?.replayed) };
            (stringify!($method), Box::pin(answered) as Answered<'_>)
        }};
    }
    let state = || "second".parse().expect("valid");
    vec![
        write!(define, DefineCall::yaml("name: order")),
        write!(delete_machine, DeleteMachineCall::new(&order().machine)),
        write!(create, CreateCall::new(&order())),
        write!(transition, TransitionCall::to(&order(), state())),
        write!(delete, DeleteCall::new(&order())),
        write!(migrate, MigrateCall::new(&order())),
        write!(
            transact,
            Transaction::new().create(CreateCall::new(&order()))
        ),
    ]
}

#[tokio::test]
async fn every_write_is_sent_again_under_the_same_key() {
    // The first node executes it, but its response is lost; the second returns the outcome.
    let script = [Answer::OutcomeUnknown; 7];
    let one = Node::start(script).await;
    let other = Node::start([Answer::Replayed; 7]).await;
    for (name, write) in writes(&client([&one.address, &other.address]), None) {
        assert!(write.await.expect(name), "{name}");
    }
    // It is not asked again once another one answered: each write beyond the first went there.
    let (first, second) = (one.requests(), other.requests());
    assert_eq!((first.len(), second.len()), (1, 7));
    assert_eq!(first[0].key, second[0].key);
    let mut keys: Vec<_> = second.into_iter().map(|it| it.key).collect();
    assert!(keys.iter().all(Option::is_some), "{keys:?}");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 7, "each write has a key of its own");
}

#[tokio::test]
async fn every_write_is_repeated_until_it_is_answered() {
    let script = [
        Answer::Unavailable,
        Answer::Expired,
        Answer::OutcomeUnknown,
        Answer::Replayed,
    ];
    let node = Node::start(script.repeat(7)).await;
    for (name, write) in writes(&client([&node.address]), None) {
        assert!(write.await.expect(name), "{name}");
    }
    let requests = node.requests();
    assert_eq!(requests.len(), 28);
    for attempts in requests.chunks(4) {
        assert!(
            attempts.iter().all(|it| it.key == attempts[0].key),
            "{attempts:?}"
        );
    }
}

#[tokio::test]
async fn every_write_keeps_the_callers_key() {
    let node = Node::start([Answer::Done; 7]).await;
    for (name, write) in writes(&client([&node.address]), Some(key("mine"))) {
        assert!(!write.await.expect(name), "{name}");
    }
    let keys: Vec<_> = node.requests().into_iter().map(|it| it.key).collect();
    assert_eq!(keys, vec![Some("mine".to_owned()); 7]);
}

#[tokio::test]
async fn every_write_whose_outcome_is_unknown_gives_its_key() {
    // The second response ends the call before its deadline: it asks for a longer pause than the time left.
    let overloaded = Answer::Overloaded {
        retry_after_ms: 60_000,
    };
    for index in 0..7 {
        let node = Node::start([Answer::OutcomeUnknown, overloaded]).await;
        let client = client([&node.address]);
        let (name, write) = writes(&client, None).swap_remove(index);
        let error = write.await.expect_err(name);
        let Error::OutcomeUnknown { key, .. } = error else {
            panic!("{name}: {error}")
        };
        assert_eq!(
            node.requests()[0].key.as_deref(),
            key.as_ref().map(IdempotencyKey::as_str),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_write_may_be_rejected() {
    let node = Node::start([Answer::Rejected; 7]).await;
    for (name, write) in writes(&client([&node.address]), None) {
        let error = write.await.expect_err(name);
        assert!(matches!(error, Error::Rejected(_)), "{name}: {error}");
    }
    assert_eq!(node.requests().len(), 7, "a rejection is final");
}

#[tokio::test]
async fn a_dry_run_carries_no_key_and_may_always_be_repeated() {
    let node = Node::start([Answer::OutcomeUnknown, Answer::Done, Answer::Done]).await;
    let client = client([&node.address]);
    let call = DefineCall::json("{}")
        .idempotency_key(key("mine"))
        .dry_run();
    client.define(call).await.expect("answered");
    let call = MigrateCall::new(&order())
        .idempotency_key(key("mine"))
        .dry_run();
    client.migrate(call).await.expect("answered");
    assert!(node.requests().iter().all(|it| it.key.is_none()));
    let dry: Vec<_> = node
        .asked::<v1::DefineRequest>()
        .iter()
        .map(|it| it.dry_run)
        .collect();
    assert_eq!(dry, [true, true]);
    assert!(node.asked::<v1::MigrateInstanceRequest>()[0].dry_run);
}

#[tokio::test]
async fn a_dry_run_without_an_answer_changed_nothing() {
    let node = Node::start([Answer::OutcomeUnknown]).await;
    let client = client_within([&node.address], 200);
    let error = client.migrate(MigrateCall::new(&order()).dry_run()).await;
    assert!(matches!(error, Err(Error::Unavailable { .. })), "{error:?}");
}

#[tokio::test]
async fn writes_carry_all_that_the_call_says() {
    let node = Node::start([Answer::Done; 4]).await;
    let client = client([&node.address]);
    let (one, two) = (
        "first".parse().expect("valid"),
        "second".parse().expect("valid"),
    );
    let created = client
        .create(
            CreateCall::of(&order().machine)
                .version(Version(3))
                .metadata(metadata()),
        )
        .await
        .expect("answered");
    assert_eq!(created.made.instance.to_string(), "order/01hx");
    assert_eq!(created.revision, GlobalRevision(17));
    assert_eq!(created.cursor(), EventCursor::after(GlobalRevision(17)));
    let asked = node.asked::<v1::CreateInstanceRequest>().remove(0);
    assert_eq!((asked.id.as_str(), asked.version), ("order", Some(3)));
    assert_eq!(asked.metadata["by"], "ada");

    let call = TransitionCall::event(&order(), "pay".parse().expect("valid"))
        .expect_state(one)
        .expect_revision(Revision(4))
        .metadata(metadata());
    client.transition(call).await.expect("answered");
    let asked = node.asked::<v1::TransitionRequest>().remove(0);
    assert_eq!(
        (asked.expect_state.as_deref(), asked.expect_revision),
        (Some("first"), Some(4))
    );
    assert_eq!(asked.metadata["by"], "ada");
    assert_eq!(
        asked.trigger,
        Some(v1::transition_request::Trigger::Event("pay".to_owned()))
    );

    let call = MigrateCall::new(&order())
        .version(Version(2))
        .map_state(&"old".parse().expect("valid"), &two)
        .expect_revision(Revision(4))
        .metadata(metadata());
    let migrated = client.migrate(call).await.expect("answered");
    assert_eq!(
        (migrated.made.from_version, migrated.made.version),
        (Version(1), Version(2))
    );
    let asked = node.asked::<v1::MigrateInstanceRequest>().remove(0);
    assert_eq!(
        (asked.version, asked.states["old"].as_str()),
        (Some(2), "second")
    );

    let call = DeleteCall::new(&order())
        .expect_state(two)
        .metadata(metadata());
    client.delete(call).await.expect("answered");
    let asked = node.asked::<v1::DeleteInstanceRequest>().remove(0);
    assert_eq!(asked.expect_state.as_deref(), Some("second"));
    assert_eq!(asked.metadata["by"], "ada");
}

#[tokio::test]
async fn a_transaction_is_answered_operation_by_operation() {
    let node = Node::start([Answer::Done]).await;
    let transaction = Transaction::new()
        .check(
            &"customer/ada".parse().expect("valid"),
            Expectation::Missing,
        )
        .create(CreateCall::new(&order()))
        .transition(TransitionCall::to(
            &"triad/default".parse().expect("valid"),
            "third".parse().expect("valid"),
        ))
        .delete(DeleteCall::new(&"order/41".parse().expect("valid")))
        .idempotency_key(key("all"));
    let done = client([&node.address])
        .transact(transaction)
        .await
        .expect("answered");
    let [checked, created, moved, deleted] = &done.made[..] else {
        panic!("{done:?}")
    };
    assert_eq!(*checked, OperationResult::Checked);
    assert!(matches!(created, OperationResult::Created(it) if it.instance == order()));
    assert!(matches!(moved, OperationResult::Transitioned(it) if it.to.as_str() == "third"));
    assert!(matches!(deleted, OperationResult::Deleted(it) if it.instance.name() == "41"));
    let asked = node.asked::<v1::TransactRequest>().remove(0);
    let Some(v1::operation::Operation::Check(check)) = &asked.operations[0].operation else {
        panic!("{asked:?}")
    };
    assert_eq!(check.expect, Some(v1::precondition::Expect::Exists(false)));
    let Some(v1::operation::Operation::Create(create)) = &asked.operations[1].operation else {
        panic!("{asked:?}")
    };
    assert_eq!(create.idempotency_key, None);
}

#[tokio::test]
async fn a_rejection_has_all_that_the_cluster_answered() {
    let node = Node::start([Answer::Done, Answer::Done]).await;
    node.on(|_: v1::TransactRequest| {
        let reason = v1::Rejected {
            code: "unknown_state".to_owned(),
            message: "no such state".to_owned(),
            current_state: Some("first".to_owned()),
            current_revision: Some(3),
            known: vec!["first".to_owned(), "second".to_owned()],
            newest_version: Some(4),
            requested: Some(11),
            max: Some(10),
            used_version: Some(1),
            used_by: Some(5),
            operations: vec![0, 2],
            ..Default::default()
        };
        let rejected = v1::Rejected {
            code: "operation_failed".to_owned(),
            message: "operation 1: no such state".to_owned(),
            operation: Some(1),
            reason: Some(Box::new(reason)),
            ..Default::default()
        };
        Ok(v1::TransactResponse {
            outcome: Some(v1::transact_response::Outcome::Rejected(rejected)),
            written: Some(v1::Written {
                replayed: true,
                revision: 9,
            }),
        })
    });
    node.on(|_: v1::DefineRequest| {
        let fault = v1::Fault {
            path: "states.a.timeout.to".to_owned(),
            code: "unknown_state".to_owned(),
            message: "there is no state \"gone\"".to_owned(),
        };
        let rejected = v1::Rejected {
            code: "invalid_definition".to_owned(),
            message: "the definition has 2 faults".to_owned(),
            faults: vec![fault.clone(), fault],
            ..Default::default()
        };
        Ok(v1::DefineResponse {
            outcome: Some(v1::define_response::Outcome::Rejected(rejected)),
            written: Some(v1::Written::default()),
        })
    });
    let client = client([&node.address]);
    let transaction = Transaction::new().create(CreateCall::new(&order()));
    let Err(Error::Rejected(rejected)) = client.transact(transaction).await else {
        panic!("it is rejected")
    };
    assert_eq!(
        (
            rejected.code.as_str(),
            rejected.operation,
            rejected.replayed
        ),
        ("operation_failed", Some(1), true)
    );
    let reason = rejected.reason.as_ref().expect("there is a reason");
    assert_eq!(reason.code, "unknown_state");
    assert_eq!(reason.current_state.as_deref(), Some("first"));
    assert_eq!(reason.current_revision, Some(3));
    assert_eq!(reason.known, ["first", "second"]);
    assert_eq!(reason.newest_version, Some(4));
    assert_eq!((reason.requested, reason.max), (Some(11), Some(10)));
    assert_eq!((reason.used_version, reason.used_by), (Some(1), Some(5)));
    assert_eq!(reason.operations, [0, 2]);

    let Err(Error::Rejected(rejected)) = client.define(DefineCall::yaml("")).await else {
        panic!("it is rejected")
    };
    assert_eq!(rejected.faults.len(), 2);
    assert_eq!(
        rejected.faults[0].to_string(),
        "states.a.timeout.to: there is no state \"gone\""
    );
    assert_eq!(rejected.faults[0].code, "unknown_state");
}

#[tokio::test]
async fn machines_are_listed_and_shown_with_their_definitions() {
    let node = Node::start([]).await;
    let summary = || v1::MachineSummary {
        machine: "door".to_owned(),
        version: 2,
        description: "a door".to_owned(),
        instances: 3,
        states: [("shut".to_owned(), 3)].into(),
    };
    node.on(move |_: v1::ListMachinesRequest| {
        Ok(v1::ListMachinesResponse {
            machines: vec![summary()],
            read_at: read_at(5),
        })
    });
    node.on(move |_: v1::GetMachineRequest| {
        Ok(v1::GetMachineResponse {
            summary: Some(summary()),
            definition: r#"{"name": "door", "initial": "shut", "states": {"shut": {}, "open": {}},
                "transitions": [{"from": "shut", "to": "open"}, {"from": "open", "to": "shut"}]}"#
                .to_owned(),
            versions: vec![v1::VersionSummary {
                version: 2,
                instances: 3,
            }],
            read_at: read_at(5),
        })
    });
    let client = client([&node.address]);
    let listed = client.machines(Consistency::Stale).await.expect("answered");
    assert_eq!(listed.found[0].states.values().sum::<u64>(), 3);
    assert_eq!(
        (listed.applied_index, listed.revision),
        (42, GlobalRevision(5))
    );
    let name = listed.found[0].machine.parse().expect("a name");
    let shown = client
        .machine(&name, Some(Version(2)), Consistency::Linearizable)
        .await
        .expect("answered");
    assert_eq!(shown.found.definition.initial.as_str(), "shut");
    assert_eq!(shown.found.definition.transitions.len(), 2);
    assert_eq!(shown.found.versions[0].instances, 3);
    assert_eq!(node.asked::<v1::GetMachineRequest>()[0].version, Some(2));
}

#[tokio::test]
async fn a_picture_is_asked_for_in_its_format() {
    let node = Node::start([]).await;
    node.on(|_: v1::DrawMachineRequest| {
        Ok(v1::DrawMachineResponse {
            picture: "<svg/>".to_owned(),
            version: 3,
            read_at: read_at(5),
        })
    });
    let client = client([&node.address]);
    let call = DrawCall::instance(&order()).format(PictureFormat::Svg);
    let drawn = client.draw(call).await.expect("answered");
    assert_eq!(
        (drawn.found.text.as_str(), drawn.found.version),
        ("<svg/>", Version(3))
    );
    let asked = node.asked::<v1::DrawMachineRequest>().remove(0);
    assert_eq!(
        (
            asked.machine.as_str(),
            asked.instance.as_deref(),
            asked.format()
        ),
        ("order", Some("42"), v1::PictureFormat::Svg)
    );
}

#[tokio::test]
async fn a_read_says_how_fresh_it_must_be() {
    let node = Node::start([Answer::Done, Answer::Done]).await;
    let client = client([&node.address]);
    let read = client
        .get(&order(), Consistency::Linearizable)
        .await
        .expect("answered");
    assert_eq!(
        (read.applied_index, read.revision),
        (42, GlobalRevision(17))
    );
    let freshness = Freshness::from(Consistency::Stale).min_revision(read.revision);
    client.get(&order(), freshness).await.expect("answered");
    let asked = node.asked::<v1::GetInstanceRequest>();
    let freshness = |at: usize| asked[at].freshness.expect("it is sent");
    assert_eq!(freshness(0).consistency(), v1::Consistency::Linearizable);
    assert_eq!(freshness(0).min_revision, None);
    assert_eq!(freshness(1).consistency(), v1::Consistency::Stale);
    assert_eq!(freshness(1).min_revision, Some(17));
}

#[tokio::test]
async fn a_history_is_read_event_by_event() {
    let node = Node::start([]).await;
    node.on(|request: v1::GetHistoryRequest| {
        let timeout = v1::Event {
            late_ms: Some(12),
            metadata: [("by".to_owned(), "ada".to_owned())].into(),
            ..event((8, 1))
        };
        Ok(v1::GetHistoryResponse {
            id: request.id,
            instance_revision: 8,
            oldest_revision: Some(7),
            events: vec![event((7, 0)), timeout],
            read_at: read_at(9),
        })
    });
    let client = client([&closed_port(), &node.address]);
    let history = client
        .history(&order(), Consistency::Linearizable)
        .await
        .expect("answered");
    assert_eq!(history.found.oldest_revision, Some(Revision(7)));
    let [first, last] = &history.found.events[..] else {
        panic!("{history:?}")
    };
    assert_eq!(
        (first.kind, first.cause),
        (EventKind::Transitioned, lockstep_client::Cause::Request)
    );
    assert_eq!(last.cause, lockstep_client::Cause::Timeout { late_ms: 12 });
    assert_eq!(last.metadata.get("by"), Some("ada"));
    assert_eq!(last.cursor().position, 1);
}

fn page(names: &[&str], next: Option<&str>, revision: u64) -> v1::ListInstancesResponse {
    let instance = |name: &&str| v1::Instance {
        id: format!("order/{name}"),
        version: 1,
        state: "placed".to_owned(),
        deadline_ms: Some(99),
        metadata: [("by".to_owned(), "ada".to_owned())].into(),
        ..Default::default()
    };
    v1::ListInstancesResponse {
        instances: names.iter().map(instance).collect(),
        next_cursor: next.map(str::to_owned),
        total: 3,
        read_at: read_at(revision),
    }
}

/// Three pages, of which the second is empty.
fn paged(request: v1::ListInstancesRequest) -> v1::ListInstancesResponse {
    match request.cursor.as_deref() {
        None => page(&["a", "b"], Some("behind b"), 5),
        Some("behind b") => page(&[], Some("further"), 4),
        _ => page(&["c"], None, 7),
    }
}

#[tokio::test]
async fn all_pages_are_one_stream_that_never_goes_back_in_time() {
    // Between the pages, the node refuses once.
    let node = Node::start([
        Answer::Done,
        Answer::Unavailable,
        Answer::Done,
        Answer::Done,
    ])
    .await;
    node.on(|request: v1::ListInstancesRequest| Ok(paged(request)));
    let call = ListCall::of(&order().machine)
        .state("placed".parse().expect("valid"))
        .label("by", "ada")
        .limit(2)
        .freshness(Consistency::Stale);
    let mut all = client([&node.address]).all_instances(call);
    let mut names = Vec::new();
    while let Some(instance) = all.next().await {
        let instance = instance.expect("no error");
        assert_eq!(instance.deadline.map(|it| it.0), Some(99));
        names.push(instance.id.name().to_owned());
    }
    assert_eq!(names, ["a", "b", "c"]);
    let asked = node.asked::<v1::ListInstancesRequest>();
    let cursors: Vec<_> = asked.iter().map(|it| it.cursor.as_deref()).collect();
    assert_eq!(
        cursors,
        [None, Some("behind b"), Some("behind b"), Some("further")]
    );
    let revisions: Vec<_> = asked
        .iter()
        .map(|it| it.freshness.and_then(|it| it.min_revision))
        .collect();
    assert_eq!(revisions, [None, Some(5), Some(5), Some(5)]);
    for request in &asked {
        assert_eq!(
            (request.state.as_deref(), request.limit),
            (Some("placed"), Some(2))
        );
        assert_eq!(
            request.label.as_ref().map(|it| it.value.as_str()),
            Some("ada")
        );
        let freshness = request.freshness.expect("it is sent");
        assert_eq!(freshness.consistency(), v1::Consistency::Stale);
    }
}

#[tokio::test]
async fn a_page_is_not_asked_for_before_it_is_wanted() {
    let node = Node::start([]).await;
    node.on(|request: v1::ListInstancesRequest| Ok(paged(request)));
    let mut all = client([&node.address]).all_instances(ListCall::of(&order().machine));
    assert!(node.requests().is_empty());
    for _ in 0..2 {
        all.next().await.expect("there is one").expect("no error");
    }
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn a_stream_of_pages_ends_after_an_error() {
    let node = Node::start([Answer::Done, Answer::Invalid]).await;
    node.on(|request: v1::ListInstancesRequest| Ok(paged(request)));
    let mut all = client([&node.address]).all_instances(ListCall::of(&order().machine));
    for _ in 0..2 {
        all.next().await.expect("there is one").expect("no error");
    }
    let error = all.next().await;
    assert!(matches!(error, Some(Err(Error::Invalid(_)))), "{error:?}");
    assert!(all.next().await.is_none());
}

#[test]
fn calls_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let client = client([&"127.0.0.1:1".to_owned()]);
    is_send(&client.machines(Consistency::Stale));
    is_send(&client.machine(&order().machine, None, Consistency::Stale));
    is_send(&client.draw(DrawCall::machine(&order().machine)));
    is_send(&client.instances(&ListCall::of(&order().machine)));
    is_send(&client.history(&order(), Consistency::Stale));
    is_send(&client.all_instances(ListCall::of(&order().machine)));
}
