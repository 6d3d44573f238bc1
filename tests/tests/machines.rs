//! Machines that users define, over HTTP, on three real processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::{Api, answer};
use lockstep_tests::machines::order;
use lockstep_tests::wait::wait_for;
use lockstep_tests::watcher::Watcher;
use reqwest::{Method, StatusCode};
use serde_json::json;

/// For what nothing hinders.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_defined_on_one_node_and_driven_through_the_others() -> Result<()> {
    let cluster = Cluster::start().await?;
    let [one, two, three] = [0, 1, 2].map(|node| cluster.nodes[node].api());
    let defined = one
        .define(order("2s"))
        .await?
        .expect(StatusCode::CREATED)?
        .json()?;
    assert_eq!(
        (&defined["machine"], &defined["version"]),
        (&json!("order"), &json!(1))
    );
    assert_eq!(
        defined["timeouts"],
        json!({ "placed": { "after": "2 seconds", "to": "expired" } })
    );
    // Equal is no new version; a changed one is the next.
    two.define(order("2s")).await?.expect(StatusCode::OK)?;
    let changed = order("1h");
    let changed = three
        .define(changed)
        .await?
        .expect(StatusCode::CREATED)?
        .json()?;
    assert_eq!(changed["version"], 2);

    let created = two
        .post(
            "/v1/machines/order/instances",
            &json!({ "id": "42", "metadata": { "customer": "ada" } }),
        )
        .await?
        .expect(StatusCode::CREATED)?;
    assert_eq!(
        created.headers["location"],
        "/v1/machines/order/instances/42"
    );
    let path = "/v1/machines/order/instances/42";
    three
        .post(
            &format!("{path}/transitions"),
            &json!({ "event": "pay", "metadata": { "by": "ada" } }),
        )
        .await?
        .expect(StatusCode::OK)?;
    let instance = one.read(path).await?;
    assert_eq!(
        (&instance["state"], &instance["revision"]),
        (&json!("paid"), &json!(1))
    );
    assert_eq!(instance["events"], json!(["ship"]));
    let history = one.read(&format!("{path}/history")).await?;
    assert!(history.to_string().contains("\"by\":\"ada\""), "{history}");
    let page = two
        .read("/v1/machines/order/instances?state=paid&label=customer=ada")
        .await?;
    assert_eq!(
        (&page["total"], &page["instances"][0]["id"]),
        (&json!(1), &json!("order/42"))
    );

    // On a follower too, which gets the rejection from the leader.
    for api in [&one, &two, &three] {
        let refused = api
            .post(&format!("{path}/transitions"), &json!({ "event": "pay" }))
            .await?
            .problem()?;
        assert_eq!(refused["code"], "unknown_event");
        assert_eq!(refused["events"], json!(["ship"]), "{refused}");
    }
    let graph = one
        .get("/v1/machines/order/graph?format=mermaid&instance=42")
        .await?
        .expect(StatusCode::OK)?;
    assert!(graph.text.contains("paid"), "{graph:?}");
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_definition_is_reported_at_once() -> Result<()> {
    let cluster = Cluster::start().await?;
    let bad = "{ name: bad, initial: nowhere, states: { a: { timeout: { after: 1s, to: gone } } }, transitions: [ { from: a, to: b } ] }";
    let refused = cluster.nodes[1]
        .api()
        .define(bad)
        .await?
        .expect(StatusCode::UNPROCESSABLE_ENTITY)?
        .problem()?;
    let paths: Vec<_> = refused["faults"]
        .as_array()
        .context("faults")?
        .iter()
        .filter_map(|fault| fault["path"].as_str())
        .collect();
    for path in ["initial", "states.a.timeout.to", "transitions"] {
        assert!(
            paths.iter().any(|found| found.starts_with(path)),
            "{path} in {paths:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_atomic() -> Result<()> {
    let cluster = Cluster::start().await?;
    let api = cluster.nodes[2].api();
    api.define(order("2s")).await?.expect(StatusCode::CREATED)?;
    let both = json!({ "operations": [
        { "create": { "id": "order/a" } },
        { "create": { "id": "order/b" } },
        { "transition": { "id": "triad/default", "to": "second", "expect_state": "first" } },
    ] });
    let done = api
        .post("/v1/transactions", &both)
        .await?
        .expect(StatusCode::OK)?
        .json()?;
    assert_eq!(done["results"].as_array().map(Vec::len), Some(3));
    // Again: the first operation fails, and nothing of it happens.
    let refused = api
        .post(
            "/v1/transactions",
            &json!({ "operations": [
        { "create": { "id": "order/c" } },
        { "create": { "id": "order/a" } },
    ] }),
        )
        .await?;
    ensure!(refused.status == StatusCode::CONFLICT, "{refused:?}");
    assert_eq!(refused.problem()?["operation"], 1);
    api.get("/v1/machines/order/instances/c")
        .await?
        .expect(StatusCode::NOT_FOUND)?;
    assert_eq!(cluster.nodes[0].api().state().await?, "second");
    cluster.agree().await
}

/// Creates orders through `nodes` in turn, until each exists.
async fn create_orders(nodes: &[Api], count: usize) -> Result<()> {
    for chunk in (0..count).collect::<Vec<_>>().chunks(100) {
        let operations: Vec<_> = chunk
            .iter()
            .map(|n| json!({ "create": { "id": format!("order/{n:05}") } }))
            .collect();
        let key = format!("orders-{}", chunk[0]);
        wait_for("a hundred orders", DEADLINE, async || {
            let node = &nodes[chunk[0] / 100 % nodes.len()];
            let request = node
                .request(Method::POST, "/v1/transactions")
                .header("Idempotency-Key", &key)
                .json(&json!({ "operations": operations }));
            answer(request).await?.expect(StatusCode::OK)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_fire_once_when_the_leader_is_killed() -> Result<()> {
    const ORDERS: usize = 3000;
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let apis = cluster.apis();
    apis[follower]
        .define(order("2s"))
        .await?
        .expect(StatusCode::CREATED)?;
    let watcher = Watcher::start(
        vec![apis[follower].clone()],
        "/v1/machines/order/watch?state=expired&from_revision=1",
        ORDERS,
    );
    create_orders(&apis, ORDERS).await?;
    watcher.wait_for(100, DEADLINE).await?;
    cluster.nodes[leader].kill9()?;
    let seen = watcher.finish(DEADLINE).await?;

    let mut late: BTreeMap<String, u64> = BTreeMap::new();
    for event in &seen {
        assert_eq!(event.data["cause"], "timeout");
        let id = event.data["id"].as_str().context("an id")?.to_owned();
        let late_ms = event.data["late_ms"].as_u64().context("lateness")?;
        assert!(late.insert(id, late_ms).is_none(), "fired twice: {event:?}");
    }
    assert_eq!(late.len(), ORDERS);
    let machine = apis[follower].read("/v1/machines/order").await?;
    assert_eq!(machine["states"]["expired"], ORDERS);
    cluster.nodes[leader].restart().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_each_transition_once_and_in_order_while_nodes_die() -> Result<()> {
    const MOVES: usize = 3000;
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let apis = cluster.apis();
    // It begins on the follower, and goes on wherever it is answered.
    let mut nodes = apis.clone();
    nodes.swap(0, follower);
    let watcher = Watcher::start(nodes, "/v1/watch?machine=triad&from_revision=1", MOVES);
    let writing = {
        let apis = apis.clone();
        tokio::spawn(async move {
            let states = ["second", "third", "first"];
            for n in 0..MOVES {
                let key = format!("move-{n}");
                // A node that is down does not answer: the next one is asked.
                let turn = AtomicUsize::new(n);
                wait_for("a move", DEADLINE, async || {
                    let node = &apis[turn.fetch_add(1, Ordering::Relaxed) % apis.len()];
                    node.transition(states[n % 3], Some(&key), json!({}))
                        .await?
                        .moved()
                })
                .await?;
            }
            anyhow::Ok(())
        })
    };
    watcher.wait_for(200, DEADLINE).await?;
    cluster.nodes[leader].kill9()?;
    watcher.wait_for(600, DEADLINE).await?;
    cluster.nodes[leader].restart().await?;
    cluster.nodes[follower].kill9()?;
    watcher.wait_for(1000, DEADLINE).await?;
    cluster.nodes[follower].restart().await?;
    writing.await??;
    let seen = watcher.finish(DEADLINE).await?;
    for (n, event) in seen.iter().enumerate() {
        assert_eq!(event.data["instance_revision"], n + 1, "{event:?}");
    }
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_in_the_body_in_the_query_and_as_an_etag() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    api.define(order("1h")).await?.expect(StatusCode::CREATED)?;
    // Every field of a creation is optional, and so is its body.
    let instances = "/v1/machines/order/instances";
    let bare = answer(api.request(Method::POST, instances)).await?;
    bare.expect(StatusCode::CREATED)?;
    let created = api.post(instances, &json!({ "id": "1" })).await?;
    created.expect(StatusCode::CREATED)?;
    let path = "/v1/machines/order/instances/1";
    let read = api.get(path).await?.expect(StatusCode::OK)?;
    assert_eq!(read.headers["etag"], "\"0\"");
    assert_eq!(read.headers["cache-control"], "no-store");

    let pay = || {
        let path = format!("{path}/transitions");
        let request = api.request(Method::POST, &path);
        request.json(&json!({ "event": "pay" }))
    };
    let late = answer(pay().header("if-match", "\"1\"")).await?;
    let late = late.expect(StatusCode::PRECONDITION_FAILED)?.problem()?;
    assert_eq!(late["code"], "revision_mismatch");
    let paid = answer(pay().header("if-match", "\"0\"")).await?;
    paid.expect(StatusCode::OK)?;

    let delete = |query: &str| api.request(Method::DELETE, &format!("{path}{query}"));
    let elsewhere = json!({ "expect_state": "placed" });
    for (request, status, code) in [
        (delete("").json(&elsewhere), 409, "state_mismatch"),
        (delete("?expect_state=placed"), 409, "state_mismatch"),
        (
            delete("").header("if-match", "\"0\""),
            412,
            "revision_mismatch",
        ),
        (delete("").header("if-match", "1"), 400, "invalid_parameter"),
        (
            delete("?expect_state=paid").json(&elsewhere),
            400,
            "invalid_parameter",
        ),
        (
            delete("").json(&json!({ "expect": "placed" })),
            400,
            "invalid_body",
        ),
        (
            delete("").body("expect_state=placed"),
            415,
            "unsupported_media_type",
        ),
    ] {
        let refused = answer(request).await?;
        let found = (refused.status, &refused.problem()?["code"]);
        assert_eq!(found, (StatusCode::from_u16(status)?, &json!(code)));
    }
    let expected = json!({ "expect_state": "paid", "metadata": { "by": "ada" } });
    let deleted = delete("?expect_revision=1").header("if-match", "\"1\"");
    answer(deleted.json(&expected))
        .await?
        .expect(StatusCode::OK)?;
    Ok(())
}
