//! The client library against three real processes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use lockstep_client::{
    Client, Consistency, CreateCall, DefineCall, DeleteCall, DrawCall, Error, EventCursor,
    EventKind, Expectation, Freshness, GlobalRevision, IdempotencyKey, InstanceId, ListCall,
    MachineName, Metadata, MigrateCall, OperationResult, Revision, StateName, Transaction,
    TransitionCall, Version, Watch, WatchCall, Watched,
};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::machines::order;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// For what nothing hinders.
const DEADLINE: Duration = Duration::from_secs(60);

/// Asks the nodes in this order.
fn client(cluster: &Cluster, order: &[usize]) -> Result<Client> {
    let addresses = order.iter().map(|&at| cluster.nodes[at].grpc_address());
    let builder = Client::builder().endpoints(addresses);
    Ok(builder.timeout(Duration::from_secs(20)).build()?)
}

fn id(name: &str) -> Result<InstanceId> {
    Ok(format!("order/{name}").parse()?)
}

/// The next event, whatever comes in between; and how often the node was lost meanwhile.
async fn event(watch: &mut Watch, lost: &mut usize) -> Result<lockstep_client::Event> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let watched = tokio::time::timeout_at(deadline, watch.next())
            .await
            .context("no event in time")?
            .context("the watch ended")??;
        match watched {
            Watched::Event(event) => return Ok(*event),
            Watched::Lost { .. } => *lost += 1,
            _ => {}
        }
    }
}

/// The position of the node that a watch is at.
fn node_of(watch: &Watch, cluster: &Cluster) -> Result<usize> {
    let at = watch.endpoint().as_str();
    let mut nodes = cluster.nodes.iter();
    nodes
        .position(|node| node.grpc_address().to_string() == at)
        .with_context(|| format!("no node is at {at}"))
}

fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Result<lockstep_client::Rejected> {
    match answer {
        Err(Error::Rejected(rejected)) => Ok(*rejected),
        other => bail!("a rejection is expected: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_transitions_makes_each_once_while_its_node_is_killed() -> Result<()> {
    const ORDERS: usize = 300;
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let client = client(&cluster, &[leader, follower, 3 - leader - follower])?;
    client.define(DefineCall::yaml(order("1h"))).await?;
    let orders: Vec<_> = (0..ORDERS)
        .map(|number| id(&number.to_string()))
        .collect::<Result<_>>()?;
    for some in orders.chunks(100) {
        let add = |all: Transaction, order| all.create(CreateCall::new(order));
        let creating = client.transact(some.iter().fold(Transaction::new(), add));
        creating.await?;
    }

    let stream = client.transition_stream();
    let pay = "pay".parse::<lockstep_client::EventName>()?;
    let paying = orders
        .iter()
        .map(|order| stream.transition(TransitionCall::event(order, pay.clone())));
    let mut paid = futures::stream::iter(paying).buffer_unordered(50);
    for number in 0..ORDERS {
        if number == ORDERS / 3 {
            cluster.nodes[leader].kill9()?;
        }
        let written = paid.next().await.context("each has a result")??;
        assert_eq!(written.made.revision, Revision(1), "it moved once");
    }
    // The stream goes on, and a rejection concerns its transition alone.
    let call = |event: &str| Ok::<_, Error>(TransitionCall::event(&orders[0], event.parse()?));
    let (again, shipped) = tokio::join!(
        stream.transition(call("pay")?),
        stream.transition(TransitionCall::event(&orders[1], "ship".parse()?)),
    );
    assert_eq!(rejection(again)?.code, "unknown_event");
    assert_eq!(shipped?.made.revision, Revision(2));
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_defines_drives_and_reads_machines_through_any_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let [one, two, three] = [[0], [1], [2]].map(|order| client(&cluster, &order));
    let (one, two, three) = (one?, two?, three?);

    // A definition is tried, rejected with every fault, stored once, and changed.
    let call = DefineCall::yaml(order("1h"));
    let would = one.define(call.clone().dry_run()).await?;
    assert_eq!((would.made.version, would.made.created), (1, true));
    rejection(
        one.machine(
            &would.made.machine.parse()?,
            None,
            Consistency::Linearizable,
        )
        .await,
    )?;
    let faulty = order("1h").replace("initial: placed", "initial: nowhere");
    let rejected = rejection(
        two.define(DefineCall::yaml(faulty.replace("to: paid", "to: gone")))
            .await,
    )?;
    ensure!(rejected.faults.len() >= 2, "{rejected:?}");
    ensure!(matches!(
        one.define(DefineCall::json("{")).await,
        Err(Error::Invalid(_))
    ));
    let machine = one.define(call.clone()).await?.made.machine.parse()?;
    ensure!(
        !two.define(call).await?.made.created,
        "an equal one is no new version"
    );

    // An answer of one node is seen on another, without asking the leader.
    let metadata = Metadata::new([("customer", "ada")])?;
    let created = two
        .create(CreateCall::new(&id("42")?).metadata(metadata))
        .await?;
    let freshness = Freshness::from(Consistency::Stale).min_revision(created.revision);
    let read = three.get(&id("42")?, freshness).await?;
    assert_eq!(read.found.state.as_str(), "placed");
    assert_eq!(read.found.metadata.get("customer"), Some("ada"));
    ensure!(read.revision >= created.revision && read.applied_index > 0);
    let named = three.create(CreateCall::of(&machine)).await?.made.instance;
    assert_eq!(named.name().len(), 26);

    // The same key gets the first outcome; another request under it is rejected.
    let key = IdempotencyKey::new("pay-42")?;
    let pay = TransitionCall::event(&id("42")?, "pay".parse()?)
        .metadata(Metadata::new([("by", "ada")])?)
        .idempotency_key(key.clone());
    let paid = one.transition(pay.clone()).await?;
    let again = three.transition(pay).await?;
    assert_eq!((&paid.made, again.replayed), (&again.made, true));
    let other = DeleteCall::new(&id("42")?).idempotency_key(key);
    assert_eq!(
        rejection(two.delete(other).await)?.code,
        "idempotency_key_reused"
    );

    let rejected = rejection(
        two.transition(TransitionCall::to(&id("42")?, StateName::new("placed")?))
            .await,
    )?;
    assert_eq!(rejected.code, "illegal_transition");
    assert_eq!(rejected.allowed, ["shipped"]);
    assert_eq!(rejected.current_revision, Some(1));
    let history = two.history(&id("42")?, Consistency::Linearizable).await?;
    assert_eq!(history.found.events.len(), 1);
    assert_eq!(history.found.events[0].metadata.get("by"), Some("ada"));

    // All or nothing.
    let transaction = Transaction::new()
        .check(&id("42")?, Expectation::InState("paid".parse()?))
        .create(CreateCall::new(&id("43")?))
        .transition(TransitionCall::to(&id("42")?, "shipped".parse()?))
        .delete(DeleteCall::new(&named));
    let done = three.transact(transaction).await?;
    ensure!(
        matches!(
            &done.made[..],
            [
                OperationResult::Checked,
                OperationResult::Created(_),
                OperationResult::Transitioned(_),
                OperationResult::Deleted(_),
            ]
        ),
        "{done:?}"
    );
    let transaction = Transaction::new()
        .create(CreateCall::new(&id("44")?))
        .create(CreateCall::new(&id("43")?));
    let rejected = rejection(one.transact(transaction).await)?;
    assert_eq!(rejected.operation, Some(1));
    let reason = rejected.reason.as_ref().context("a reason")?;
    assert_eq!(reason.code, "instance_exists");
    assert_eq!(
        rejection(one.get(&id("44")?, Consistency::Linearizable).await)?.code,
        "unknown_instance"
    );

    // Another version, and a way to it.
    let renamed = order("1h").replace("placed", "open");
    assert_eq!(two.define(DefineCall::yaml(renamed)).await?.made.version, 2);
    let rejected = rejection(two.migrate(MigrateCall::new(&id("43")?)).await)?;
    assert_eq!(rejected.code, "unmapped_state");
    ensure!(
        rejected.known.iter().any(|state| state == "open"),
        "{rejected:?}"
    );
    let call = MigrateCall::new(&id("43")?).map_state(&"placed".parse()?, &"open".parse()?);
    let would = two.migrate(call.clone().dry_run()).await?;
    assert_eq!(would.made.to.as_str(), "open");
    assert_eq!(two.migrate(call).await?.made.version, Version(2));

    let shown = three
        .machine(&machine, Some(Version(1)), Consistency::Linearizable)
        .await?;
    assert_eq!(shown.found.definition.initial.as_str(), "placed");
    assert_eq!(shown.found.versions.len(), 2);
    let drawn = one.draw(DrawCall::instance(&id("43")?)).await?;
    ensure!(drawn.found.text.contains("open"), "{drawn:?}");
    assert_eq!(drawn.found.version, Version(2));
    let listed = one.machines(Consistency::Linearizable).await?;
    assert_eq!(listed.found.len(), 2, "order and triad");
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_a_list_come_as_one_stream() -> Result<()> {
    const ORDERS: usize = 250;
    let cluster = Cluster::start().await?;
    let client = client(&cluster, &[0, 1, 2])?;
    let defined = client.define(DefineCall::yaml(order("1h"))).await?;
    let machine = defined.made.machine.parse()?;
    for chunk in (0..ORDERS).collect::<Vec<_>>().chunks(50) {
        let mut transaction = Transaction::new();
        for number in chunk {
            transaction = transaction.create(CreateCall::new(&id(&format!("{number:04}"))?));
        }
        client.transact(transaction).await?;
    }
    let call = ListCall::of(&machine).limit(40);
    let page = client.instances(&call).await?;
    assert_eq!(
        (page.found.instances.len(), page.found.total),
        (40, ORDERS as u64)
    );
    let mut all = client.all_instances(call);
    let mut names = Vec::new();
    while let Some(instance) = all.next().await {
        names.push(instance?.id.name().to_owned());
    }
    let expected: Vec<_> = (0..ORDERS).map(|number| format!("{number:04}")).collect();
    assert_eq!(names, expected);
    let forged = ListCall::of(&machine).cursor("forged");
    ensure!(matches!(
        client.instances(&forged).await,
        Err(Error::Invalid(_))
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_each_transition_once_and_in_order_while_nodes_are_killed() -> Result<()> {
    const MOVES: u64 = 1500;
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let third = 3 - leader - follower;
    // The watch begins at a follower and goes on at the leader, unless one of them is slow to answer.
    // Whichever it is at is the one that is killed.
    let reader = client(&cluster, &[follower, leader, third])?;
    let writer = client(&cluster, &[third, leader, follower])?;
    let triad: InstanceId = "triad/default".parse()?;
    let call = WatchCall::instance(&triad).from_revision(GlobalRevision(1));
    let mut watch = reader.watch(call).await?;

    // So little ahead of the watch that no node dies with everything said already.
    let ahead = Arc::new(Semaphore::new(100));
    let allowed = ahead.clone();
    let writing = tokio::spawn(async move {
        let states = ["second", "third", "first"].map(StateName::new);
        for number in 0..MOVES {
            allowed.acquire().await?.forget();
            let state = states[number as usize % 3].clone()?;
            writer.transition(TransitionCall::to(&triad, state)).await?;
        }
        anyhow::Ok(())
    });
    let mut lost = 0;
    let mut last = None;
    let mut down = follower;
    for number in 1..=MOVES {
        match number {
            200 => {
                down = node_of(&watch, &cluster)?;
                cluster.nodes[down].kill9()?;
            }
            600 => {
                cluster.nodes[down].restart().await?;
                down = node_of(&watch, &cluster)?;
                cluster.nodes[down].kill9()?;
            }
            1000 => cluster.nodes[down].restart().await?,
            _ => {}
        }
        let event = event(&mut watch, &mut lost).await?;
        assert_eq!(event.kind, EventKind::Transitioned);
        assert_eq!(event.instance_revision, Revision(number), "{event:?}");
        ensure!(
            last < Some(event.cursor()),
            "{event:?} comes after {last:?}"
        );
        last = Some(event.cursor());
        ahead.add_permits(1);
    }
    writing.await??;
    ensure!(
        lost >= 2,
        "both nodes that were killed were watched: {lost}"
    );
    assert_eq!(watch.reached(), last);
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_compacted_events_reports_the_oldest_revision() -> Result<()> {
    let plan = lockstep_tests::cluster::Plan::default().setting("events_max", 100);
    let cluster = Cluster::start_as(plan).await?;
    let client = client(&cluster, &[0, 1, 2])?;
    client.define(DefineCall::yaml(order("1h"))).await?;
    for number in 0..150 {
        client
            .create(CreateCall::new(&id(&format!("{number}"))?))
            .await?;
    }
    let call = WatchCall::all().from_revision(GlobalRevision(1));
    let Err(Error::Compacted { oldest }) = client.watch(call.clone()).await else {
        bail!("it must not begin")
    };
    let mut watch = client.watch(call.from_revision(oldest)).await?;
    let first = event(&mut watch, &mut 0).await?;
    assert_eq!(first.revision, oldest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_cannot_see_events_is_refused_at_once() -> Result<()> {
    let cluster = Cluster::start().await?;
    let client = client(&cluster, &[0, 1, 2])?;
    let triad: MachineName = "triad".parse()?;
    let cursor = EventCursor::after(GlobalRevision(0));
    for (call, code) in [
        (
            WatchCall::all().from_revision(GlobalRevision(999_999_999)),
            "revision_ahead",
        ),
        (
            WatchCall::all().after(EventCursor::after(GlobalRevision(999_999_999))),
            "revision_ahead",
        ),
        (
            WatchCall::all()
                .after(cursor)
                .cluster_id("0123456789abcdef"),
            "cursor_of_another_cluster",
        ),
        (WatchCall::of(&"none".parse()?), "unknown_machine"),
        (
            WatchCall::of(&triad).state("fourth".parse()?),
            "unknown_state",
        ),
    ] {
        // A watch that waits for a node would do so for ever.
        let watching = client.watch(call.clone().timeout(Duration::MAX));
        let refused = tokio::time::timeout(DEADLINE, watching).await;
        let rejected = rejection(refused.with_context(|| format!("{call:?} waits"))?)?;
        assert_eq!(rejected.code, code, "{call:?}");
        if code == "revision_ahead" {
            let named = "revision 999999999 does not exist yet";
            assert!(rejected.message.starts_with(named), "{rejected:?}");
        }
    }
    // With the id of its own cluster, the same cursor is one.
    let own = cluster.nodes[0].api().cluster().await?.cluster_id;
    client
        .watch(WatchCall::all().after(cursor).cluster_id(own))
        .await?;
    Ok(())
}
