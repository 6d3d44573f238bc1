//! Writes: idempotency, transactions and dry runs.

use anyhow::{Context, Result};
use lockstep_proto::v1;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::grpc::{asking, code};
use lockstep_tests::machines::order;
use tonic::Code;

use super::{by_event, clients, create, define, done, to_state, transaction};

/// The second version of the machine: a state has another name.
fn renamed() -> String {
    order("1h").replace("paid", "settled")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_can_be_tried_without_effect() -> Result<()> {
    let cluster = Cluster::start().await?;
    let [one, two, three] = &mut clients(&cluster)?[..] else {
        unreachable!("three nodes")
    };
    let defined = define(one, &order("1h")).await?;
    assert_eq!(defined.timeouts["placed"].after, "1 hour");
    let creating = one.create_instance(asking(create("order/42")));
    done!(creating, create_instance_response, Created);
    let paying = one.transition(asking(by_event("order/42", "pay")));
    done!(paying, transition_response, Transitioned);

    // A definition can be tried as well.
    let trying = v1::DefineRequest {
        document: Some(v1::define_request::Document::Yaml(renamed())),
        dry_run: true,
        ..Default::default()
    };
    let (would, _) = done!(two.define(asking(trying)), define_response, Defined);
    assert_eq!((would.version, would.created), (2, true));
    assert_eq!(define(two, &renamed()).await?.version, 2);

    let migrate = |mapped: bool, dry_run| v1::MigrateInstanceRequest {
        id: "order/42".to_owned(),
        states: mapped
            .then(|| ("paid".to_owned(), "settled".to_owned()))
            .into_iter()
            .collect(),
        dry_run,
        ..Default::default()
    };
    let (refused, _) = done!(
        three.migrate_instance(asking(migrate(false, true))),
        migrate_instance_response,
        Rejected
    );
    assert_eq!(refused.code, "unmapped_state");
    assert!(refused.known.contains(&"settled".to_owned()), "{refused:?}");
    assert_eq!(refused.current_state.as_deref(), Some("paid"));

    let (would, before) = done!(
        three.migrate_instance(asking(migrate(true, true))),
        migrate_instance_response,
        Migrated
    );
    assert_eq!((would.version, would.to.as_str()), (2, "settled"));
    let request = v1::GetInstanceRequest {
        id: "order/42".to_owned(),
        freshness: None,
    };
    let read = one
        .get_instance(asking(request.clone()))
        .await?
        .into_inner();
    let (instance, at) = (read.instance.context("it")?, read.read_at.context("where")?);
    assert_eq!((instance.version, instance.state.as_str()), (1, "paid"));
    assert_eq!(at.revision, before.revision, "a dry run changes nothing");

    let (made, after) = done!(
        three.migrate_instance(asking(migrate(true, false))),
        migrate_instance_response,
        Migrated
    );
    assert_eq!((made.from_version, made.version), (1, 2));
    assert_eq!(after.revision, before.revision + 1);
    let read = one.get_instance(asking(request)).await?.into_inner();
    assert_eq!(read.instance.context("it")?.state, "settled");
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_atomic() -> Result<()> {
    use v1::operation::Operation;
    let cluster = Cluster::start().await?;
    let [one, two, three] = &mut clients(&cluster)?[..] else {
        unreachable!("three nodes")
    };
    define(one, &order("1h")).await?;
    let check = |id: &str, exists| {
        Operation::Check(v1::Precondition {
            id: id.to_owned(),
            expect: Some(v1::precondition::Expect::Exists(exists)),
        })
    };
    let all = transaction([
        check("order/a", false),
        Operation::Create(create("order/a")),
        Operation::Transition(to_state("triad/default", "second")),
    ]);
    let (committed, _) = done!(two.transact(asking(all)), transact_response, Committed);
    use v1::operation_result::Result as Done;
    assert!(
        matches!(
            committed
                .results
                .iter()
                .map(|it| it.result.as_ref())
                .collect::<Vec<_>>()[..],
            [
                Some(Done::Checked(_)),
                Some(Done::Created(_)),
                Some(Done::Transitioned(_))
            ]
        ),
        "{committed:?}"
    );

    let half = transaction([
        Operation::Create(create("order/b")),
        Operation::Transition(to_state("triad/default", "first")),
    ]);
    let (refused, _) = done!(three.transact(asking(half)), transact_response, Rejected);
    assert_eq!(
        (refused.code.as_str(), refused.operation),
        ("operation_failed", Some(1))
    );
    let reason = refused.reason.context("why")?;
    assert_eq!(reason.code, "illegal_transition");
    assert_eq!(reason.allowed, ["third"]);
    assert_eq!(reason.current_state.as_deref(), Some("second"));

    let request = v1::GetInstanceRequest {
        id: "order/b".to_owned(),
        freshness: None,
    };
    let status = one
        .get_instance(asking(request))
        .await
        .expect_err("nothing of it happened");
    assert_eq!(
        (status.code(), code(&status)),
        (Code::NotFound, "unknown_instance")
    );
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_repeated_on_another_node_gets_the_first_outcome() -> Result<()> {
    let cluster = Cluster::start().await?;
    let [one, two, three] = &mut clients(&cluster)?[..] else {
        unreachable!("three nodes")
    };
    define(one, &order("1h")).await?;
    let key = |key: &str| Some(key.to_owned());

    // Without a name, the name follows from the key.
    let request = v1::CreateInstanceRequest {
        idempotency_key: key("create"),
        ..create("order")
    };
    let creating = one.create_instance(asking(request.clone()));
    let (first, written) = done!(creating, create_instance_response, Created);
    assert!(!written.replayed);
    let creating = two.create_instance(asking(request));
    let (again, repeated) = done!(creating, create_instance_response, Created);
    assert_eq!(first, again);
    assert!(repeated.replayed && repeated.revision == written.revision);
    // Without a key, each gets a name of its own.
    let creating = two.create_instance(asking(create("order")));
    let (other, _) = done!(creating, create_instance_response, Created);
    assert_ne!(other.id, first.id);

    let request = v1::TransitionRequest {
        idempotency_key: key("pay"),
        ..by_event(&first.id, "pay")
    };
    let paying = two.transition(asking(request.clone()));
    done!(paying, transition_response, Transitioned);
    let paying = three.transition(asking(request.clone()));
    let (again, repeated) = done!(paying, transition_response, Transitioned);
    assert!(repeated.replayed);
    assert_eq!(again.revision, 1, "it moved once");

    // A refusal is an outcome like any other; the key of another request is refused.
    let mut illegal = by_event(&first.id, "pay");
    illegal.idempotency_key = key("late");
    for (client, replayed) in [(&mut *one, false), (&mut *three, true)] {
        let paying = client.transition(asking(illegal.clone()));
        let (refused, written) = done!(paying, transition_response, Rejected);
        assert_eq!(
            (refused.code.as_str(), written.replayed),
            ("unknown_event", replayed)
        );
    }
    let stolen = v1::TransitionRequest {
        idempotency_key: key("pay"),
        ..by_event(&first.id, "ship")
    };
    let (refused, _) = done!(
        one.transition(asking(stolen)),
        transition_response,
        Rejected
    );
    assert_eq!(refused.code, "idempotency_key_reused");

    // Every other write takes a key, too.
    let define_keyed = v1::DefineRequest {
        document: Some(v1::define_request::Document::Yaml(renamed())),
        dry_run: false,
        idempotency_key: key("define"),
    };
    let transact_keyed = v1::TransactRequest {
        idempotency_key: key("transact"),
        ..transaction([v1::operation::Operation::Create(create("order/t"))])
    };
    let migrate_keyed = v1::MigrateInstanceRequest {
        id: "order/t".to_owned(),
        version: Some(1),
        idempotency_key: key("migrate"),
        ..Default::default()
    };
    let delete_keyed = v1::DeleteInstanceRequest {
        id: "order/t".to_owned(),
        idempotency_key: key("delete"),
        ..Default::default()
    };
    let forget_keyed = v1::DeleteMachineRequest {
        machine: "order".to_owned(),
        version: Some(2),
        idempotency_key: key("forget"),
    };
    for (client, replayed) in [(&mut *one, false), (&mut *two, true)] {
        let (_, written) = done!(
            client.define(asking(define_keyed.clone())),
            define_response,
            Defined
        );
        assert_eq!(written.replayed, replayed);
        let (_, written) = done!(
            client.transact(asking(transact_keyed.clone())),
            transact_response,
            Committed
        );
        assert_eq!(written.replayed, replayed);
        let (_, written) = done!(
            client.migrate_instance(asking(migrate_keyed.clone())),
            migrate_instance_response,
            Migrated
        );
        assert_eq!(written.replayed, replayed);
        let (_, written) = done!(
            client.delete_instance(asking(delete_keyed.clone())),
            delete_instance_response,
            Deleted
        );
        assert_eq!(written.replayed, replayed);
        let (_, written) = done!(
            client.delete_machine(asking(forget_keyed.clone())),
            delete_machine_response,
            Deleted
        );
        assert_eq!(written.replayed, replayed);
    }
    cluster.agree().await
}
