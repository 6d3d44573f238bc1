//! Every limit of the cluster and of the configuration is reached, with its own code where it refuses, and shows in the
//! metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::{Api, answer};
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{INSTANCES, refused};

const DEADLINE: Duration = Duration::from_secs(30);

/// Each as small as it takes to reach it.
const LIMITS: [(&str, u64); 19] = [
    ("definitions_max", 3),
    ("versions_max", 2),
    ("states_max", 4),
    ("transitions_max", 5),
    ("document_bytes_max", 1024),
    ("instances_max", 4),
    ("metadata_entries_max", 3),
    ("metadata_bytes_max", 64),
    ("history_entries_max", 3),
    ("history_bytes_max", 400),
    ("operations_max", 2),
    ("events_max", 5),
    ("event_bytes_max", 1024),
    ("sinks_max", 3),
    ("dead_letters_max", 3),
    ("keys_max", 2),
    ("key_bytes_max", 2048),
    // And so long that two requests right after each other are within it on two busy cores.
    ("key_retention_ms", 10_000),
    ("sessions_max", 128),
];

const ORDER: &str = r#"{"name":"order","initial":"open","states":{"open":{},"paid":{}},"transitions":[{"from":"open","to":"paid"},{"from":"paid","to":"open"}]}"#;

/// Use and limit of each quota.
async fn quotas(api: &Api) -> Result<BTreeMap<String, (u64, u64)>> {
    let metrics = api.get("/metrics").await?.expect(StatusCode::OK)?.text;
    let mut quotas: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in metrics.lines() {
        let Some((name, value)) = line.split_once("\"} ") else {
            continue;
        };
        if let Some(name) = name.strip_prefix("lockstep_quota_used{quota=\"") {
            quotas.entry(name.to_owned()).or_default().0 = value.parse()?;
        } else if let Some(name) = name.strip_prefix("lockstep_quota_limit{quota=\"") {
            quotas.entry(name.to_owned()).or_default().1 = value.parse()?;
        }
    }
    Ok(quotas)
}

async fn quota_is(api: &Api, name: &str, expected: (u64, u64)) -> Result<()> {
    wait_for(
        format!("quota {name} at {expected:?}"),
        DEADLINE,
        async || {
            let found = quotas(api).await?.get(name).copied();
            ensure!(found == Some(expected), "it is {found:?}");
            Ok(())
        },
    )
    .await
}

async fn limited() -> Result<Cluster> {
    let plan = Plan::single();
    let plan = LIMITS
        .into_iter()
        .fold(plan, |plan, (name, max)| plan.setting(name, max));
    Cluster::start_as(plan).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_of_the_cluster_has_its_metric() -> Result<()> {
    let cluster = limited().await?;
    let api = cluster.nodes[0].api();
    let settings = api.get("/v1/cluster/settings").await?;
    let settings = settings.expect(StatusCode::OK)?.json()?;
    for (name, max) in LIMITS {
        assert_eq!(settings[name], max, "{name}");
        let quota = name.trim_end_matches("_max");
        wait_for(format!("the limit of {name}"), DEADLINE, async || {
            let found = quotas(api).await?;
            ensure!(found.get(quota).is_some_and(|it| it.1 == max), "{found:?}");
            Ok(())
        })
        .await?;
    }
    // And `applied_index`, `revision` and `feature_level_max`, which is no limit on what is stored.
    let count = settings.as_object().context("an object")?.len();
    assert_eq!(count, LIMITS.len() + 3, "{settings}");
    let found = quotas(api).await?;
    for other in [
        "http_connections",
        "http_requests",
        "report_counters",
        "report_timers",
        "requests",
        "watchers",
    ] {
        assert!(found.contains_key(other), "{other}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_on_definitions_has_its_own_code() -> Result<()> {
    let cluster = limited().await?;
    let api = cluster.nodes[0].api();
    api.define(ORDER).await?.expect(StatusCode::CREATED)?;
    api.define(&ORDER.replace("order", "other"))
        .await?
        .expect(StatusCode::CREATED)?;
    // The built-in one counts.
    let third = api.define(&ORDER.replace("order", "third")).await?;
    let problem = refused(&third, 507, "too_many_definitions")?;
    assert_eq!(
        (&problem["requested"], &problem["max"]),
        (&json!(4), &json!(3))
    );
    quota_is(api, "definitions", (3, 3)).await?;

    let described = |text: &str| ORDER.replacen('{', &format!("{{\"description\":\"{text}\","), 1);
    api.define(&described("b"))
        .await?
        .expect(StatusCode::CREATED)?;
    refused(
        &api.define(&described("c")).await?,
        507,
        "too_many_versions",
    )?;
    quota_is(api, "versions", (2, 2)).await?;

    let states = r#"{"name":"order","initial":"a","states":{"a":{},"b":{},"c":{},"d":{},"e":{}}}"#;
    let problem = refused(&api.define(states).await?, 422, "invalid_definition")?;
    assert_eq!(problem["faults"][0]["code"], "too_many_states");
    let steps = r#"{"name":"order","initial":"a","states":{"a":{},"b":{},"c":{}},"transitions":[{"from":"*","to":"a"},{"from":"*","to":"b"}]}"#;
    let problem = refused(&api.define(steps).await?, 422, "invalid_definition")?;
    assert_eq!(problem["faults"][0]["code"], "too_many_transitions");
    let long = described(&"x".repeat(1024));
    let problem = refused(&api.define(&long).await?, 422, "definition_too_large")?;
    assert_eq!(problem["max"], 1024);
    let found = quotas(api).await?;
    // The largest is the built-in one.
    assert_eq!((found["states"], found["transitions"]), ((3, 4), (4, 5)));
    assert!((1..1024).contains(&found["document_bytes"].0), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_on_instances_and_requests_has_its_own_code() -> Result<()> {
    let cluster = limited().await?;
    let api = cluster.nodes[0].api();
    api.define(ORDER).await?.expect(StatusCode::CREATED)?;
    let metadata = |entries: &[(&str, &str)]| {
        let entries: BTreeMap<_, _> = entries.iter().copied().collect();
        json!({ "metadata": entries })
    };
    for (body, code) in [
        (
            metadata(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]),
            "too_many_metadata_entries",
        ),
        (metadata(&[("a", &"v".repeat(64))]), "metadata_too_large"),
    ] {
        refused(&api.post(INSTANCES, &body).await?, 422, code)?;
    }
    let fits = metadata(&[("a", &"v".repeat(30)), ("b", ""), ("c", "")]);
    for _ in 0..3 {
        api.post(INSTANCES, &fits)
            .await?
            .expect(StatusCode::CREATED)?;
    }
    refused(
        &api.post(INSTANCES, &json!({})).await?,
        507,
        "too_many_instances",
    )?;
    quota_is(api, "instances", (4, 4)).await?;
    quota_is(api, "metadata_entries", (3, 3)).await?;
    quota_is(api, "metadata_bytes", (33, 64)).await?;

    let check = |n: usize| {
        let one = json!({ "check": { "id": "triad/default", "exists": true } });
        json!({ "operations": vec![one; n] })
    };
    let said = api.post("/v1/transactions", &check(3)).await?;
    refused(&said, 422, "too_many_operations")?;
    api.post("/v1/transactions", &check(2))
        .await?
        .expect(StatusCode::OK)?;
    quota_is(api, "operations", (2, 2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_drop_old_data_report_what_is_left() -> Result<()> {
    let mut cluster = limited().await?;
    let api = cluster.nodes[0].api().clone();
    for state in ["second", "third", "first", "second", "third", "first"] {
        api.next(state).await?.expect(StatusCode::OK)?;
    }
    let history = api
        .get("/v1/machines/triad/instances/default/history")
        .await?;
    let history = history.expect(StatusCode::OK)?.json()?;
    let kept = history["events"].as_array().context("events")?.len();
    assert!((1..=3).contains(&kept), "{history}");
    assert_eq!(history["oldest_revision"], 7 - kept);
    quota_is(&api, "history_entries", (kept as u64, 3)).await?;
    let found = quotas(&api).await?;
    assert!((1..=400).contains(&found["history_bytes"].0), "{found:?}");

    let said = api.get("/v1/watch?from_revision=1").await?;
    let problem = refused(&said, 410, "compacted")?;
    let oldest = problem["oldest_revision"].as_u64().context("a revision")?;
    assert!((2..=6).contains(&oldest), "{problem}");
    quota_is(&api, "events", (7 - oldest, 5)).await?;

    // A third key: the first is forgotten, and its request is a new one.
    let request = async |key: &str, to: &str| -> Result<Value> {
        api.transition(to, Some(key), json!({})).await?.json()
    };
    assert_eq!(request("one", "second").await?["replayed"], false);
    assert_eq!(request("one", "second").await?["replayed"], true);
    request("two", "third").await?;
    request("three", "first").await?;
    assert!(quotas(&api).await?["keys"].0 <= 2);
    assert_eq!(request("one", "second").await?["replayed"], false);
    // Nor is a key remembered for longer than it may be; cluster time moves with what is asked.
    wait_for("the key to be forgotten", DEADLINE, async || {
        let again = request("one", "second").await?;
        ensure!(again["replayed"] == false, "{again}");
        Ok(())
    })
    .await?;
    wait_for("the age of the oldest key", DEADLINE, async || {
        let (age_ms, max_ms) = quotas(&api).await?["key_retention_ms"];
        ensure!(age_ms <= max_ms, "{age_ms} of {max_ms} ms");
        Ok(())
    })
    .await?;

    // Another run of the node is another session.
    cluster.nodes[0].kill9()?;
    cluster.nodes[0].restart().await?;
    api.get("/").await?.expect(StatusCode::OK)?;
    let state = api.state().await?;
    api.next(lockstep_tests::http::after(&state))
        .await?
        .expect(StatusCode::OK)?;
    quota_is(&api, "sessions", (2, 128)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_of_the_http_interface_has_its_own_code() -> Result<()> {
    let plan = Plan::single()
        .with("LOCKSTEP_HTTP_BODY_BYTES_MAX", "1KiB")
        .with("LOCKSTEP_HTTP_CONCURRENCY_MAX", 2)
        .with("LOCKSTEP_WATCHERS_MAX", 2)
        .with("LOCKSTEP_RAFT_QUEUE_MAX", 1)
        .with("LOCKSTEP_RAFT_BATCH_REQUESTS_MAX", 1);
    let cluster = Cluster::start_as(plan).await?;
    let node = &cluster.nodes[0];
    let api = node.api();
    let large = json!({ "id": "x".repeat(2000) });
    let said = api.post("/v1/machines/triad/instances", &large).await?;
    assert_eq!(
        refused(&said, 413, "body_too_large")?["body_bytes_max"],
        1024
    );

    // Two requests whose bodies do not come: there is room for no third.
    let mut stalled = vec![];
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.http_address()).await?;
        stream
            .write_all(b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
            .await?;
        stalled.push(stream);
    }
    // Only once both are let in: a request before that could take the place of one.
    quota_is(api, "http_requests", (2, 2)).await?;
    let said = api.get("/v1/machines").await?;
    refused(&said, 503, "too_many_requests")?;
    ensure!(said.retry_after().is_some(), "{said:?}");
    // What looks only at the process is answered all the same.
    api.get("/livez").await?.expect(StatusCode::OK)?;
    let mut late = String::new();
    stalled[0].read_to_string(&mut late).await.ok();
    assert!(
        late.contains("408") && late.contains("request_timeout"),
        "{late}"
    );
    drop(stalled);

    // More at once than may wait.
    wait_for("a refusal for want of room", DEADLINE, async || {
        let asked = ["a", "b", "c", "d"].map(|to| api.transition(to, None, json!({})));
        let [a, b, c, d] = asked;
        let said = tokio::join!(a, b, c, d);
        let overloaded = [said.0?, said.1?, said.2?, said.3?];
        let overloaded = overloaded.iter().find(|it| it.status == 429);
        let said = overloaded.context("none was refused")?;
        refused(said, 429, "overloaded")?;
        ensure!(said.retry_after().is_some(), "{said:?}");
        Ok(())
    })
    .await?;
    assert_eq!(quotas(api).await?["requests"].1, 1);

    for n in 0.. {
        let request = api.request(Method::POST, &format!("/counter?name=n{n}"));
        let said = answer(request).await?;
        if said.status != StatusCode::OK {
            refused(&said, 409, "too_many_names")?;
            let found = quotas(api).await?["report_counters"];
            assert_eq!(found.0, found.1);
            break;
        }
        ensure!(n < 1000, "there is no end of names");
    }
    Ok(())
}
