//! Bad requests for machines, instances, transactions and watches: precise errors, nothing changed,
//! and memory that stays bounded when clients do not read.

mod limits;
mod watchers;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::{Answer, Api, answer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ORDER: &str = r#"{"name":"order","initial":"open","states":{"open":{},"paid":{}},"transitions":[{"from":"open","to":"paid","event":"pay"},{"from":"paid","to":"open"}]}"#;
const INSTANCES: &str = "/v1/machines/order/instances";

/// The refusal, if it has this status and code.
fn refused(answer: &Answer, status: u16, code: &str) -> Result<Value> {
    let problem = answer.problem()?;
    ensure!(
        answer.status == status && problem["code"] == code,
        "expected {status} {code}, got {answer:?}"
    );
    Ok(problem)
}

async fn revision(api: &Api) -> Result<Value> {
    let machines = api.get("/v1/machines").await?.expect(StatusCode::OK)?;
    Ok(machines.json()?["revision"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_of_the_corpus_is_answered_as_a_client_error_or_accepted() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../document/tests/corpus");
    let mut sent = 0;
    for entry in std::fs::read_dir(&corpus)? {
        let path = entry?.path();
        let name = path.display();
        let kind = match path.extension().and_then(|it| it.to_str()) {
            Some("json") => "application/json",
            Some("yaml") => "application/yaml",
            _ => continue,
        };
        let document = std::fs::read(&path)?;
        for query in ["?dry_run=true", ""] {
            let path = format!("/v1/machines{query}");
            let said = api
                .send(Method::POST, &path, kind, document.clone())
                .await
                .with_context(|| format!("{name}"))?;
            ensure!(
                said.status.is_success() || said.status.is_client_error(),
                "{name}: {said:?}"
            );
            if said.status.is_client_error() {
                said.problem().with_context(|| format!("{name}"))?;
            }
        }
        sent += 1;
    }
    assert!(sent > 60, "{sent}");
    api.get("/readyz").await?.expect(StatusCode::OK)?;
    assert!(!cluster.nodes[0].log().contains("panicked"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_fault_is_reported_with_its_path() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let document = include_str!("../../document/tests/corpus/every-fault.yaml");
    let said = api
        .send(Method::POST, "/v1/machines", "application/yaml", document)
        .await?;
    let problem = refused(&said, 422, "invalid_definition")?;
    let faults = problem["faults"].as_array().context("faults")?;
    let found: Vec<_> = faults
        .iter()
        .filter_map(|it| Some((it["path"].as_str()?, it["code"].as_str()?)))
        .collect();
    for expected in [
        ("name", "invalid_name"),
        ("inital", "unknown_field"),
        ("initial", "missing"),
        ("description", "invalid_text"),
        ("labels.team", "duplicate_key"),
        ("labels.team", "wrong_type"),
        ("states.a.timeout.after", "invalid_duration"),
        ("states.a.timeout.too", "unknown_field"),
        ("states.a.final", "wrong_type"),
        ("states.b.timeout", "final_has_timeout"),
        ("states.b.timeout.after", "invalid_duration"),
        ("states.c", "duplicate_key"),
        ("states.bad name", "invalid_name"),
        ("transitions[0].from", "missing"),
        ("transitions[1].event", "wrong_type"),
        ("transitions[2].color", "unknown_field"),
        ("transitions[3].to", "unknown_state"),
        ("transitions[4].from", "empty_from"),
        ("transitions[5].from", "final_has_exit"),
        ("transitions[7]", "duplicate_transition"),
        ("transitions[8].event", "conflicting_event"),
        ("transitions[9]", "wrong_type"),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpected_bodies_change_nothing() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    api.define(ORDER).await?.expect(StatusCode::CREATED)?;
    let created = api.post(INSTANCES, &json!({ "id": "1" })).await?;
    created.expect(StatusCode::CREATED)?;
    let before = revision(api).await?;
    let transitions = "/v1/machines/order/instances/1/transitions";
    let migrate = "/v1/machines/order/instances/1/migrate";
    let deep = format!("{{\"to\":{}1{}", "[".repeat(3000), "]".repeat(3000));
    let deep_metadata = format!("{{\"metadata\":{}1", "{\"a\":".repeat(3000));
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(65));
    let long_key = format!(r#"{{"metadata":{{"{}":"v"}}}}"#, "k".repeat(65));
    let nested = format!("{{\"operations\":[{}", "{\"create\":".repeat(200));
    for (path, body, code) in [
        // A body that is no object, or no JSON.
        (transitions, "", "invalid_body"),
        (INSTANCES, "null", "invalid_body"),
        (INSTANCES, "[\"2\",null,null]", "invalid_body"),
        (INSTANCES, "{\"id\":\"2\"} {}", "malformed_json"),
        (INSTANCES, "{\"id\":\"2\",}", "malformed_json"),
        (transitions, "\u{feff}{}", "invalid_body"),
        // A key that is there twice, at every depth.
        (INSTANCES, r#"{"id":"2","id":"3"}"#, "invalid_body"),
        (
            INSTANCES,
            r#"{"metadata":{"a":"1","a":"2"}}"#,
            "invalid_metadata",
        ),
        (transitions, r#"{"to":"paid","to":"open"}"#, "invalid_body"),
        (
            migrate,
            r#"{"states":{"open":"paid","open":"open"}}"#,
            "invalid_body",
        ),
        // A field that there is not.
        (INSTANCES, r#"{"id":"2","idd":"3"}"#, "invalid_body"),
        (
            transitions,
            r#"{"to":"paid","expect_sate":"open"}"#,
            "invalid_body",
        ),
        (
            "/v1/transactions",
            r#"{"operations":[],"atomic":true}"#,
            "invalid_body",
        ),
        (
            "/v1/transactions",
            r#"{"operations":[{"create":{"id":"order/2","x":1}}]}"#,
            "invalid_body",
        ),
        (
            "/v1/transactions",
            r#"{"operations":[{"create":{"id":"order/2"},"delete":{"id":"order/1"}}]}"#,
            "invalid_body",
        ),
        (
            "/v1/transactions",
            r#"{"operations":[{"create":["order/2",null,null]}]}"#,
            "invalid_body",
        ),
        // Control characters, and too much of a name.
        (INSTANCES, r#"{"id":"a\u0000b"}"#, "invalid_body"),
        (INSTANCES, r#"{"id":"a\nb"}"#, "invalid_body"),
        (INSTANCES, "{\"id\":\"a\u{7}b\"}", "malformed_json"),
        (INSTANCES, long.as_str(), "invalid_body"),
        (
            INSTANCES,
            r#"{"metadata":{"a\u0007":"b"}}"#,
            "invalid_metadata",
        ),
        (
            INSTANCES,
            r#"{"metadata":{"a":"\u001b[31m"}}"#,
            "invalid_metadata",
        ),
        (INSTANCES, r#"{"metadata":{"":"v"}}"#, "invalid_metadata"),
        (INSTANCES, long_key.as_str(), "invalid_metadata"),
        (INSTANCES, r#"{"metadata":{"a":1}}"#, "invalid_body"),
        // Numbers out of range.
        (INSTANCES, r#"{"version":-1}"#, "invalid_body"),
        (INSTANCES, r#"{"version":4294967296}"#, "invalid_body"),
        (
            transitions,
            r#"{"to":"paid","expect_revision":1e999}"#,
            "invalid_body",
        ),
        (
            transitions,
            r#"{"to":"paid","expect_revision":18446744073709551616}"#,
            "invalid_body",
        ),
        // Depth.
        (transitions, deep.as_str(), "invalid_body"),
        (INSTANCES, deep_metadata.as_str(), "invalid_body"),
        ("/v1/transactions", nested.as_str(), "invalid_body"),
        // Neither or both.
        (transitions, "{}", "invalid_body"),
        (
            transitions,
            r#"{"to":"paid","event":"pay"}"#,
            "invalid_body",
        ),
    ] {
        let said = api
            .send(Method::POST, path, "application/json", body)
            .await?;
        let problem = refused(&said, 400, code)
            .or_else(|error| match code {
                // Good JSON or not: either is a precise answer about a text that is cut off.
                "invalid_body" => refused(&said, 400, "malformed_json").map_err(|_| error),
                _ => Err(error),
            })
            .with_context(|| body.chars().take(120).collect::<String>())?;
        let detail = problem["detail"].as_str().context("a detail")?;
        ensure!(!detail.is_empty() && detail.len() < 1000, "{detail}");
    }
    assert_eq!(revision(api).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_conflicting_things_have_their_own_codes() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    api.define(ORDER).await?.expect(StatusCode::CREATED)?;
    let created = api.post(INSTANCES, &json!({ "id": "1" })).await?;
    created.expect(StatusCode::CREATED)?;
    let one = "/v1/machines/order/instances/1";
    let two_moved = "/v1/machines/order/instances/2/transitions";
    let moved = "/v1/machines/order/instances/1/transitions";
    let migrated = "/v1/machines/order/instances/1/migrate";
    let operation = |it: Value| json!({ "operations": [it] });
    let twice = json!({ "operations": [
        { "transition": { "id": "order/1", "to": "paid" } },
        { "check": { "id": "order/1", "exists": true } },
        { "delete": { "id": "order/1" } },
    ] });
    for (path, body, status, code) in [
        // Versions that there are not.
        (INSTANCES, json!({ "version": 2 }), 404, "unknown_version"),
        (INSTANCES, json!({ "version": 0 }), 404, "unknown_version"),
        (migrated, json!({ "version": 9 }), 404, "unknown_version"),
        (migrated, json!({}), 409, "already_at_version"),
        // Instances and machines that there are, or are not.
        (INSTANCES, json!({ "id": "1" }), 409, "instance_exists"),
        (
            "/v1/machines/none/instances",
            json!({}),
            404,
            "unknown_machine",
        ),
        (two_moved, json!({ "to": "paid" }), 404, "unknown_instance"),
        (moved, json!({ "to": "gone" }), 422, "unknown_state"),
        (moved, json!({ "to": "open" }), 409, "illegal_transition"),
        (moved, json!({ "event": "ship" }), 422, "unknown_event"),
        (
            moved,
            json!({ "to": "paid", "expect_state": "paid" }),
            409,
            "state_mismatch",
        ),
        (
            moved,
            json!({ "to": "paid", "expect_revision": 7 }),
            409,
            "revision_mismatch",
        ),
        // Transactions.
        (
            "/v1/transactions",
            json!({ "operations": [] }),
            422,
            "empty_transaction",
        ),
        ("/v1/transactions", twice, 422, "instance_twice"),
        (
            "/v1/transactions",
            operation(json!({ "create": { "id": "order/1" } })),
            409,
            "operation_failed",
        ),
        (
            "/v1/transactions",
            operation(json!({ "check": { "id": "order/1", "state": "paid" } })),
            409,
            "operation_failed",
        ),
        (
            "/v1/transactions",
            operation(json!({ "create": { "id": "order" } })),
            400,
            "invalid_name",
        ),
    ] {
        refused(&api.post(path, &body).await?, status, code)?;
    }
    let unmapped = ORDER.replace("open", "begun");
    api.define(&unmapped).await?.expect(StatusCode::CREATED)?;
    let said = api.post(migrated, &json!({})).await?;
    refused(&said, 422, "unmapped_state")?;
    let instance = api.get(one).await?.expect(StatusCode::OK)?.json()?;
    assert_eq!(
        (&instance["state"], &instance["revision"]),
        (&json!("open"), &json!(0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_cursors_are_parsed_strictly() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    api.define(ORDER).await?.expect(StatusCode::CREATED)?;
    for id in ["a1", "a2", "a3"] {
        let created = api.post(INSTANCES, &json!({ "id": id })).await?;
        created.expect(StatusCode::CREATED)?;
    }
    let page = api.get(&format!("{INSTANCES}?limit=1&prefix=a")).await?;
    let page = page.expect(StatusCode::OK)?.json()?;
    let cursor = page["next_cursor"].as_str().context("a cursor")?;
    let next = api
        .get(&format!("{INSTANCES}?limit=1&prefix=a&cursor={cursor}"))
        .await?;
    assert_eq!(next.json()?["instances"][0]["id"], "order/a2");
    // Each digit of it counts, and so do the filters that it was given for.
    for at in 0..cursor.len() {
        let mut altered = cursor.to_owned();
        let other = if &altered[at..=at] == "0" { "1" } else { "0" };
        altered.replace_range(at..=at, other);
        let said = api
            .get(&format!("{INSTANCES}?limit=1&prefix=a&cursor={altered}"))
            .await?;
        refused(&said, 400, "invalid_cursor")?;
    }
    let long = "0".repeat(5000);
    for (query, code) in [
        (format!("prefix=b&cursor={cursor}"), "invalid_cursor"),
        (format!("cursor={cursor}"), "invalid_cursor"),
        (format!("prefix=a&cursor={cursor}00"), "invalid_cursor"),
        (format!("cursor={long}"), "invalid_cursor"),
        ("cursor=".to_owned(), "invalid_cursor"),
        (
            "cursor=%F0%9F%98%80%F0%9F%98%80%F0%9F%98%80%F0%9F%98%80%F0%9F%98%80".to_owned(),
            "invalid_cursor",
        ),
        ("limit=0".to_owned(), "invalid_parameter"),
        ("limit=1001".to_owned(), "invalid_parameter"),
        ("limit=1&limit=1".to_owned(), "repeated_parameter"),
        ("limits=1".to_owned(), "unknown_parameter"),
        ("label=by".to_owned(), "invalid_parameter"),
        ("state=a%00b".to_owned(), "invalid_name"),
        ("prefix=%0a".to_owned(), "invalid_name"),
        ("consistency=eventual".to_owned(), "invalid_parameter"),
        ("min_revision=-1".to_owned(), "invalid_parameter"),
        (
            "min_revision=18446744073709551616".to_owned(),
            "invalid_parameter",
        ),
    ] {
        let said = api.get(&format!("{INSTANCES}?{query}")).await?;
        refused(&said, 400, code).with_context(|| query.clone())?;
    }
    // A future revision is rejected at once, not waited for.
    for consistency in ["linearizable", "stale"] {
        let path =
            format!("{INSTANCES}?consistency={consistency}&min_revision=18446744073709551615");
        refused(&api.get(&path).await?, 409, "revision_ahead")?;
    }
    // A name is one part of a path, however it is written.
    for path in [
        "/v1/machines/a%2Fb",
        "/v1/machines/%00",
        "/v1/machines/..%2f..",
        "/v1/machines/a%20b",
    ] {
        refused(&api.get(path).await?, 400, "invalid_name")?;
    }
    refused(&api.get("/v1/machines/%ff").await?, 400, "invalid_path")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_request() -> Result<()> {
    let cluster = Cluster::start().await?;
    let apis: Vec<_> = cluster.nodes.iter().map(|node| node.api()).collect();
    apis[0].define(ORDER).await?.expect(StatusCode::CREATED)?;
    let keyed = async |node: usize, path: &str, key: &[u8], body: &Value| {
        let request = apis[node].request(Method::POST, path);
        answer(request.header("Idempotency-Key", key).json(body)).await
    };
    let create = json!({ "id": "1", "metadata": { "by": "ann" } });
    let first = keyed(0, INSTANCES, b"k", &create).await?;
    let first = first.expect(StatusCode::CREATED)?.json()?;
    assert_eq!(first["replayed"], false);
    // The same request on every node: the first answer again.
    for node in 0..3 {
        let again = keyed(node, INSTANCES, b"k", &create).await?;
        let again = again.expect(StatusCode::CREATED)?.json()?;
        assert_eq!(
            (&again["replayed"], &again["created"]),
            (&json!(true), &first["created"])
        );
    }
    // Another request, whatever it is: refused, and nothing of it happens.
    let other_metadata = json!({ "id": "1", "metadata": { "by": "bob" } });
    let pay = json!({ "to": "paid" });
    let both =
        json!({ "operations": [{ "create": { "id": "order/1", "metadata": { "by": "ann" } } }] });
    for (node, path, body) in [
        (0, INSTANCES, &other_metadata),
        (1, INSTANCES, &json!({ "id": "2" })),
        (2, "/v1/machines/order/instances/1/transitions", &pay),
        (0, "/v1/transactions", &both),
    ] {
        refused(
            &keyed(node, path, b"k", body).await?,
            422,
            "idempotency_key_reused",
        )?;
    }
    // A refusal is kept like any other answer.
    let illegal = json!({ "to": "open" });
    let transitions = format!("{INSTANCES}/1/transitions");
    for replayed in [false, true] {
        let said = keyed(1, &transitions, b"r", &illegal).await?;
        let problem = refused(&said, 409, "illegal_transition")?;
        assert_eq!(problem["replayed"], replayed);
    }
    for key in [&b""[..], b"\xff", b"\xc3\xa9", &[b'k'; 129]] {
        refused(
            &keyed(0, INSTANCES, key, &create).await?,
            400,
            "invalid_idempotency_key",
        )?;
    }
    let doubled = apis[0].request(Method::POST, INSTANCES);
    let doubled = doubled
        .header("Idempotency-Key", "a")
        .header("Idempotency-Key", "a");
    let said = answer(doubled.json(&create)).await?;
    refused(&said, 400, "invalid_idempotency_key")?;
    let instance = apis[2].get(&format!("{INSTANCES}/1")).await?.json()?;
    assert_eq!(instance["revision"], 0);
    cluster.agree().await
}
