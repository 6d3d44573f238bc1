//! Reads: machines, diagrams, instances, histories and lists.

use anyhow::{Context, Result};
use lockstep_proto::v1;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::grpc::{asking, code};
use lockstep_tests::machines::order;
use reqwest::StatusCode;
use tonic::Code;

use super::{by_event, clients, create, define, done, one_node, to_state, transaction};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_defined_on_one_node_and_driven_through_the_others() -> Result<()> {
    let cluster = Cluster::start().await?;
    let [one, two, three] = &mut clients(&cluster)?[..] else {
        unreachable!("three nodes")
    };
    let defined = define(one, &order("1h")).await?;
    assert_eq!((defined.version, defined.created), (1, true));
    // Equal is no new version; a changed one is the next.
    assert!(!define(two, &order("1h")).await?.created);
    let changed = order("2h");
    assert_eq!(define(three, &changed).await?.version, 2);

    let request = v1::CreateInstanceRequest {
        version: Some(1),
        metadata: [("customer".to_owned(), "ada".to_owned())].into(),
        ..create("order/42")
    };
    let creating = two.create_instance(asking(request));
    let (created, _) = done!(creating, create_instance_response, Created);
    assert_eq!((created.state.as_str(), created.version), ("placed", 1));
    let request = v1::TransitionRequest {
        expect_state: Some("placed".to_owned()),
        metadata: [("by".to_owned(), "ada".to_owned())].into(),
        ..by_event("order/42", "pay")
    };
    let (made, written) = done!(
        three.transition(asking(request)),
        transition_response,
        Transitioned
    );
    assert_eq!((made.from.as_str(), made.to.as_str()), ("placed", "paid"));

    let request = v1::GetInstanceRequest {
        id: "order/42".to_owned(),
        freshness: None,
    };
    let read = one.get_instance(asking(request)).await?.into_inner();
    let instance = read.instance.context("an instance")?;
    assert_eq!((instance.state.as_str(), instance.revision), ("paid", 1));
    assert_eq!(instance.allowed, ["shipped"]);
    assert_eq!(instance.metadata["customer"], "ada");
    assert!(read.read_at.context("how fresh")?.revision >= written.revision);

    let request = v1::GetHistoryRequest {
        id: "order/42".to_owned(),
        freshness: None,
    };
    let history = two.get_history(asking(request)).await?.into_inner();
    let [paid] = &history.events[..] else {
        panic!("{history:?}");
    };
    assert_eq!(
        (paid.kind(), paid.event()),
        (v1::EventKind::Transitioned, "pay")
    );
    assert_eq!(paid.metadata["by"], "ada");
    assert_eq!(history.oldest_revision, Some(1));

    let request = v1::DeleteInstanceRequest {
        id: "order/42".to_owned(),
        expect_revision: Some(1),
        ..Default::default()
    };
    let deleting = two.delete_instance(asking(request));
    let (deleted, _) = done!(deleting, delete_instance_response, Deleted);
    assert_eq!(deleted.state, "paid");
    let request = v1::DeleteMachineRequest {
        machine: "order".to_owned(),
        ..Default::default()
    };
    let forgetting = one.delete_machine(asking(request));
    let (forgotten, _) = done!(forgetting, delete_machine_response, Deleted);
    assert_eq!(forgotten.versions, [1, 2]);
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_listed_shown_and_drawn() -> Result<()> {
    let cluster = Cluster::start().await?;
    let [one, two, three] = &mut clients(&cluster)?[..] else {
        unreachable!("three nodes")
    };
    define(one, &order("1h")).await?;
    define(one, &order("2h")).await?;
    let request = v1::CreateInstanceRequest {
        version: Some(1),
        ..create("order/42")
    };
    let creating = two.create_instance(asking(request));
    done!(creating, create_instance_response, Created);
    let paying = two.transition(asking(by_event("order/42", "pay")));
    done!(paying, transition_response, Transitioned);

    let listed = three.list_machines(asking(Default::default())).await?;
    let machines = listed.into_inner().machines;
    let order = machines
        .iter()
        .find(|it| it.machine == "order")
        .context("the machine in the list")?;
    assert_eq!((order.version, order.instances), (2, 1));
    assert_eq!(order.states["paid"], 1);
    assert_eq!(order.description, "A customer's order");
    assert!(machines.iter().any(|it| it.machine == "triad"));

    let request = v1::GetMachineRequest {
        machine: "order".to_owned(),
        version: Some(1),
        freshness: None,
    };
    let shown = one.get_machine(asking(request)).await?.into_inner();
    assert!(shown.definition.contains("\"1h\""), "{}", shown.definition);
    let pinned: Vec<_> = shown
        .versions
        .iter()
        .map(|it| (it.version, it.instances))
        .collect();
    assert_eq!(pinned, [(1, 1), (2, 0)]);

    for (format, start) in [
        (v1::PictureFormat::Unspecified, "stateDiagram"),
        (v1::PictureFormat::Dot, "digraph"),
        (v1::PictureFormat::Svg, "<?xml"),
    ] {
        let request = v1::DrawMachineRequest {
            machine: "order".to_owned(),
            format: format.into(),
            instance: Some("42".to_owned()),
            ..Default::default()
        };
        let drawn = two.draw_machine(asking(request)).await?.into_inner();
        assert!(drawn.picture.starts_with(start), "{}", drawn.picture);
        assert_eq!(drawn.version, 1, "that of the instance");
    }
    Ok(())
}

/// The names on a page, and where the next one starts.
type Page = (Vec<String>, Option<String>);

async fn page_over_http(cluster: &Cluster, node: usize, cursor: &str) -> Result<Page> {
    let path = format!("/v1/machines/order/instances?prefix=a&limit=10&cursor={cursor}");
    let api = cluster.nodes[node].api();
    let page = api.get(&path).await?.expect(StatusCode::OK)?.json()?;
    let instances = page["instances"].as_array().context("instances")?;
    let ids = instances.iter().filter_map(|it| it["id"].as_str());
    Ok((
        ids.map(str::to_owned).collect(),
        page["next_cursor"].as_str().map(str::to_owned),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_continues_on_any_node_and_over_http() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut clients = clients(&cluster)?;
    define(&mut clients[0], &order("1h")).await?;
    let names: Vec<String> = (0..35).map(|n| format!("order/a{n:02}")).collect();
    let creations = names
        .iter()
        .map(|id| v1::operation::Operation::Create(create(id)));
    let creating = clients[1].transact(asking(transaction(creations)));
    done!(creating, transact_response, Committed);
    let other = clients[1].create_instance(asking(create("order/b")));
    done!(other, create_instance_response, Created);

    let page = |cursor| v1::ListInstancesRequest {
        machine: "order".to_owned(),
        prefix: "a".to_owned(),
        limit: Some(10),
        cursor,
        ..Default::default()
    };
    let (mut seen, mut cursor) = (vec![], None);
    for client in &mut clients {
        let listed = client.list_instances(asking(page(cursor))).await?;
        let listed = listed.into_inner();
        assert_eq!(listed.total, 36);
        seen.extend(listed.instances.into_iter().map(|it| it.id));
        cursor = listed.next_cursor;
    }
    let third = cursor.context("a fourth page")?;
    let (last, cursor) = page_over_http(&cluster, 0, &third).await?;
    assert_eq!((last.len(), cursor), (5, None));
    seen.extend(last);
    assert_eq!(seen, names);

    let altered = third.replace('0', "1") + "00";
    let refused = clients[0].list_instances(asking(page(Some(altered)))).await;
    let status = refused.expect_err("an altered cursor");
    assert_eq!(
        (status.code(), code(&status)),
        (Code::InvalidArgument, "invalid_cursor")
    );

    // By state and by label.
    let paying = clients[2].transition(asking(by_event("order/a07", "pay")));
    done!(paying, transition_response, Transitioned);
    let labelled = v1::CreateInstanceRequest {
        metadata: [("customer".to_owned(), "ada".to_owned())].into(),
        ..create("order/c")
    };
    let creating = clients[2].create_instance(asking(labelled));
    done!(creating, create_instance_response, Created);
    for (state, label, expected) in [
        (Some("paid"), None, "order/a07"),
        (None, Some("ada"), "order/c"),
    ] {
        let request = v1::ListInstancesRequest {
            machine: "order".to_owned(),
            state: state.map(str::to_owned),
            label: label.map(|value| v1::Label {
                key: "customer".to_owned(),
                value: value.to_owned(),
            }),
            ..Default::default()
        };
        let listed = clients[0]
            .list_instances(asking(request))
            .await?
            .into_inner();
        let ids: Vec<_> = listed.instances.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, [expected]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_at_a_revision_sees_that_write_on_any_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut clients = clients(&cluster)?;
    let mut state = "first";
    for round in 0..9 {
        state = lockstep_tests::http::after(state);
        let moving = clients[round % 3].transition(asking(to_state("triad/default", state)));
        let (_, written) = done!(moving, transition_response, Transitioned);
        for client in &mut clients {
            let request = v1::GetInstanceRequest {
                id: "triad/default".to_owned(),
                freshness: Some(v1::Freshness {
                    consistency: v1::Consistency::Stale.into(),
                    min_revision: Some(written.revision),
                }),
            };
            let read = client.get_instance(asking(request)).await?.into_inner();
            assert_eq!(read.instance.context("an instance")?.state, state);
            assert!(read.read_at.context("how fresh")?.revision >= written.revision);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_revision_is_rejected_at_once() -> Result<()> {
    let cluster = one_node(Plan::default()).await?;
    let request = v1::ListMachinesRequest {
        freshness: Some(v1::Freshness {
            consistency: v1::Consistency::Stale.into(),
            min_revision: Some(1_000_000),
        }),
    };
    let client = &mut clients(&cluster)?[0];
    let refused = client.list_machines(asking(request)).await;
    let status = refused.expect_err("a revision that is not there yet");
    assert_eq!(
        (status.code(), code(&status)),
        (Code::OutOfRange, "revision_ahead")
    );
    Ok(())
}
