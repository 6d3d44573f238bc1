//! `cluster settings`: any node shows and changes them, and a restart keeps them.

use anyhow::{Context, Result};
use lockstep_tests::cluster::Cluster;
use serde_json::{Value, json};

use super::{assert_fields, endpoints, error, lockstep, table};

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_follower_took_hold_everywhere_and_survive_a_restart() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let at = |node| endpoints(&cluster, [node]);
    let (at_leader, at_follower) = (at(leader), at(follower));
    let set = ["cluster", "settings", "set"];
    let get = ["cluster", "settings", "get"];
    let with = |start: [&'static str; 3], rest: &[&'static str], endpoint: &str| {
        let all = start.iter().chain(rest).map(|it| (*it).to_owned());
        all.chain(["-e".to_owned(), endpoint.to_owned()])
            .collect::<Vec<_>>()
    };
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        lockstep(&arguments).await
    };

    let values = [
        "sinks_max=7",
        "event_bytes_max=1MiB",
        "key_retention_ms=48h",
    ];
    let said = run(with(set, &values, &at_follower)).await?.done()?;
    let (header, rows) = table(&said)?;
    assert_eq!(header, ["SETTING", "VALUE"]);
    let expected = [
        ["event_bytes_max", "1MiB"],
        ["key_retention_ms", "2d"],
        ["sinks_max", "7"],
    ];
    assert_eq!(rows, expected);

    // A repeat under the same key is the same request.
    let keyed = ["versions_max=9", "--key", "once", "-o", "json"];
    for replayed in [false, true] {
        let said = run(with(set, &keyed, &at_follower)).await?.done()?;
        let expected = json!({ "versions_max": 9, "sinks_max": 7, "replayed": replayed });
        assert_fields(&serde_json::from_str(&said)?, expected);
    }

    let wrong = ["sink_max=1", "-o", "json"];
    let said = run(with(set, &wrong, &at_follower)).await?.failed(1)?;
    let rejected = error(&said)?;
    assert_eq!(rejected["code"], "unknown_setting");
    let message = rejected["message"].as_str().context("a message")?;
    assert!(message.contains("did you mean sinks_max?"), "{message}");
    let wrong = ["states_max=9", "sinks_max=1025", "-o", "json"];
    let said = run(with(set, &wrong, &at_follower)).await?.failed(1)?;
    let expected = json!({ "code": "invalid_setting", "min": 1, "max": 1024 });
    assert_fields(&error(&said)?, expected);
    run(with(set, &["sinks_max=1MiB"], &at_follower))
        .await?
        .failed(2)?;
    run(with(get, &["sink_max"], &at_follower))
        .await?
        .failed(1)?;

    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let said = run(with(get, &["-o", "json"], &at_leader)).await?.done()?;
    let all: Value = serde_json::from_str(&said)?;
    let expected = json!({
        "sinks_max": 7, "versions_max": 9, "event_bytes_max": 1 << 20,
        "key_retention_ms": 172_800_000, "states_max": 256,
    });
    assert_fields(&all, expected);
    cluster.agree().await
}
