//! `/openapi.json` is valid and true: an independent validator checks it, and schemathesis sends every
//! operation to a live cluster. Watches, which never end, are tested here.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::program;
use reqwest::Method;
use serde_json::Value;

/// About two minutes are needed on an idle machine, and the tools are installed first.
const CHECK_DEADLINE: Duration = Duration::from_secs(540);
/// What the script says when its tools cannot be had.
const NOTHING_CHECKED: i32 = 77;

#[tokio::test]
async fn a_live_cluster_answers_as_its_description_says() -> Result<()> {
    let cluster = Cluster::start().await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut check = Command::new(root.join("scripts/check-openapi"));
    check.arg(cluster.nodes[0].api().url(""));
    let ended = program::run(check, CHECK_DEADLINE).await?;
    if ended.code == Some(NOTHING_CHECKED) {
        // Skipped with a message that names the missing tool.
        eprintln!("SKIPPED: {}", ended.stderr);
        return Ok(());
    }
    ensure!(ended.code == Some(0), "{}\n{}", ended.stdout, ended.stderr);
    for node in &cluster.nodes {
        node.api()
            .get("/readyz")
            .await?
            .expect(reqwest::StatusCode::OK)?;
        ensure!(!node.log().contains("panicked"), "{} panicked", node.name);
    }
    cluster.agree().await
}

#[tokio::test]
async fn a_watch_answers_as_its_description_says() -> Result<()> {
    let plan = Plan::single()
        .with("LOCKSTEP_WATCHERS_MAX", 1)
        .setting("events_max", 1);
    let cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api();
    for state in ["second", "third", "first", "second"] {
        api.next(state).await?.expect(reqwest::StatusCode::OK)?;
    }
    let description = api.get("/openapi.json").await?.json()?;
    for path in ["/v1/watch", "/v1/machines/{machine}/watch"] {
        let answers = &description["paths"][path]["get"]["responses"];
        let real = path.replace("{machine}", "triad");
        let described =
            async |query: &str, last: Option<&str>| -> Result<(u16, reqwest::Response)> {
                let mut request = api.request(Method::GET, &format!("{real}{query}"));
                if let Some(last) = last {
                    request = request.header("Last-Event-ID", last);
                }
                let response = request.send().await?;
                let status = response.status().as_u16();
                let kind = response
                    .headers()
                    .get("content-type")
                    .context("a content type")?;
                let kind = kind
                    .to_str()?
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let content: &Value = &answers[status.to_string()]["content"];
                ensure!(
                    content.get(&kind).is_some(),
                    "{query}: {status} {kind} is not in {answers}"
                );
                Ok((status, response))
            };
        for (query, last, expected) in [
            ("?state=a%20b", None, 400),
            ("?unknown=1", None, 400),
            ("?prefix=%0a", None, 400),
            ("?from_revision=x", None, 400),
            ("", Some("7"), 400),
            ("?from_revision=1", None, 410),
            ("?from_revision=18446744073709551615", None, 409),
        ] {
            let (status, _) = described(query, last).await?;
            ensure!(status == expected, "{path}{query}: {status}");
        }
        let (status, mut open) = described("", None).await?;
        ensure!(status == 200, "{status}");
        let first = open.chunk().await?.context("a bookmark")?;
        ensure!(first.starts_with(b"id: "), "{first:?}");
        let (status, refused) = described("", None).await?;
        ensure!(
            status == 429 && refused.headers().contains_key("retry-after"),
            "{status}"
        );
        drop((open, refused));
        // The place is given back once the server sees that its reader has left.
        lockstep_tests::wait::wait_for("room", Duration::from_secs(30), async || {
            let metrics = api.get("/metrics").await?.text;
            ensure!(
                metrics.contains("lockstep_watchers 0\n"),
                "it is still open"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}
