//! nginx between a client and the nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_client::{Client, Consistency, Revision, TransitionCall, WatchCall, Watched};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::http::{Api, after, answer};
use lockstep_tests::nginx::{DEPLOYED, Nginx};
use lockstep_tests::wait::wait_for;
use lockstep_tests::watcher::Watcher;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::TRANSITIONS;

/// For what nothing hinders.
const DEADLINE: Duration = Duration::from_secs(30);
/// nginx as it is without any setting: HTTP/1.0 to the node, a connection for each request.
const BARE: &str = "server { listen 80; location / { proxy_pass http://node1:3333; } }";
/// It keeps every answer that does not forbid it.
const CACHING: &str = "
    proxy_cache_path cache keys_zone=all:1m;
    server {
        listen 80;
        location / {
            proxy_pass http://node1:3333;
            proxy_cache all;
            proxy_cache_valid any 1h;
            add_header X-Cache-Status $upstream_cache_status;
        }
    }";
/// It compresses every answer, which makes an ETag weak.
const COMPRESSING: &str = "
    gzip on;
    gzip_types *;
    server { listen 80; location / { proxy_pass http://node1:3333; } }";

/// An open answer of server-sent events.
struct Events(reqwest::Response, String);

impl Events {
    async fn open(api: &Api) -> Result<Self> {
        let path = "/v1/watch?machine=triad&instance=default";
        let request = api.request(Method::GET, path).timeout(DEADLINE);
        let response = request.send().await?.error_for_status()?;
        Ok(Self(response, String::new()))
    }

    /// Reads on until this came.
    async fn until(&mut self, text: &str) -> Result<()> {
        while !self.1.contains(text) {
            let chunk = self.0.chunk().await;
            let chunk = chunk.with_context(|| format!("no {text:?} in {:?}", self.1))?;
            self.1 += std::str::from_utf8(&chunk.context("the watch ended")?)?;
        }
        Ok(())
    }
}

/// A watch that is quiet shows its first bookmark at once, and then each event as it happens.
async fn watches_promptly(api: &Api) -> Result<()> {
    let mut events = Events::open(api).await?;
    events.until("event: bookmark").await?;
    for _ in 0..3 {
        let to = after(&api.state().await?);
        api.transition(to, None, json!({})).await?.moved()?;
        events.until(&format!("\"to\":\"{to}\"")).await?;
    }
    Ok(())
}

/// What a read that may be compressed says, and a write on that condition, come to; returns the condition.
async fn condition_holds_once(api: &Api) -> Result<String> {
    let read = api.request(Method::GET, "/v1/machines/triad/instances/default");
    let read = read.header("accept-encoding", "gzip").send().await?;
    let tag = read.headers().get("etag").context("no ETag")?;
    let tag = tag.to_str()?.to_owned();
    let to = after(&api.state().await?);
    let send = async || {
        let request = api.request(Method::POST, TRANSITIONS);
        let request = request.header("if-match", &tag);
        answer(request.json(&json!({ "to": to }))).await
    };
    send().await?.expect(StatusCode::OK)?;
    let stale = send().await?.expect(StatusCode::PRECONDITION_FAILED)?;
    ensure!(stale.problem()?["code"] == "revision_mismatch", "{stale:?}");
    Ok(tag)
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_passes_conditions_watches_and_errors_on() -> Result<()> {
    let cluster = Cluster::start().await?;
    for configuration in [DEPLOYED, BARE, COMPRESSING] {
        let nginx = Nginx::start(&cluster, configuration).await?;
        let api = nginx.api();
        let tag = condition_holds_once(&api).await.context(configuration)?;
        assert_eq!(tag.starts_with("W/"), configuration == COMPRESSING, "{tag}");
        watches_promptly(&api).await.context(configuration)?;
        // The redirect stays on the proxy, with method and body.
        let to = after(&api.state().await?);
        let (path, body) = (format!("{TRANSITIONS}/"), json!({ "to": to }));
        api.post(&path, &body).await?.expect(StatusCode::OK)?;
        api.get("/v1/machines/none")
            .await?
            .expect(StatusCode::NOT_FOUND)?
            .problem()?;
        let forwarded = api.request(Method::GET, "/v1/machines/triad");
        let forwarded = forwarded
            .header("x-forwarded-for", "192.0.2.1, 198.51.100.2")
            .header("x-forwarded-proto", "https")
            .header("forwarded", "for=192.0.2.1;proto=https");
        answer(forwarded).await?.expect(StatusCode::OK)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_never_answers_for_a_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let nginx = Nginx::start(&cluster, CACHING).await?;
    let (api, direct) = (nginx.api(), cluster.nodes[1].api());
    let machine = "/v1/machines/new";
    api.get(machine).await?.expect(StatusCode::NOT_FOUND)?;
    let defined =
        json!({ "name": "new", "initial": "a", "states": { "a": {} }, "transitions": [] });
    direct
        .define(defined.to_string())
        .await?
        .expect(StatusCode::CREATED)?;
    for to in ["second", "third", "first"] {
        direct.transition(to, None, json!({})).await?.moved()?;
        for path in ["/", "/v1/machines/triad/instances/default", machine] {
            let read = api.get(path).await?.expect(StatusCode::OK)?;
            assert_eq!(read.headers["x-cache-status"], "MISS", "{read:?}");
        }
        assert_eq!(api.state().await?, to);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_survive_answers_that_were_sent_before_the_body_was_read() -> Result<()> {
    let cluster = Cluster::start().await?;
    let nginx = Nginx::start(&cluster, DEPLOYED).await?;
    let api = nginx.api();
    for round in 0..60 {
        let body = vec![b'x'; 1 << (round % 20)];
        let (path, kind) = match round % 2 {
            0 => ("/nowhere", "application/json"),
            _ => (TRANSITIONS, "text/plain"),
        };
        let refused = api.send(Method::POST, path, kind, body).await?;
        let refused = refused.status;
        ensure!(refused.is_client_error(), "{round}: {refused}");
        let to = after(&api.state().await?);
        let moved = api.transition(to, None, json!({})).await?;
        moved
            .moved()
            .with_context(|| format!("after {refused}, {round}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_asks_another_node_while_one_is_down() -> Result<()> {
    const ROUNDS: usize = 3;
    const MOVES: usize = 20;
    let mut cluster = Cluster::start().await?;
    let nginx = Nginx::start(&cluster, DEPLOYED).await?;
    let api = nginx.api();
    let path = "/v1/watch?machine=triad&instance=default&from_revision=1";
    let watcher = Watcher::start(vec![nginx.api()], path, ROUNDS * MOVES);
    let moves = async |number: usize| {
        let to = ["second", "third", "first"][number % 3];
        let key = format!("move-{number}");
        api.transition(to, Some(&key), json!({})).await?.moved()
    };
    for round in 0..ROUNDS {
        let leader = cluster.leader().await?;
        cluster.nodes[leader].kill9()?;
        let first = round * MOVES;
        // What was sent to the node as it died is not sent again by nginx: the key makes that safe here.
        wait_for("a write", DEADLINE, async || moves(first).await).await?;
        // Two of three nodes are enough: nginx never passes on that one is down.
        for number in first + 1..first + MOVES {
            moves(number).await?;
            api.state().await?;
        }
        cluster.nodes[leader].restart().await?;
    }
    let seen = watcher.finish(DEADLINE).await?;
    let revisions = seen.iter().map(|event| &event.data["instance_revision"]);
    ensure!(
        revisions.eq((1..=ROUNDS * MOVES)
            .map(|it| json!(it))
            .collect::<Vec<_>>()
            .iter())
    );
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_works_through_nginx_while_nodes_are_killed() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let nginx = Nginx::start(&cluster, DEPLOYED).await?;
    let client = Client::builder().endpoints([nginx.grpc_address()]);
    let client = client.timeout(DEADLINE).build()?;
    let unknown = client
        .get(&"triad/none".parse()?, Consistency::Linearizable)
        .await;
    let unknown = unknown.err().context("there is no such instance")?;
    ensure!(unknown.code() == "unknown_instance", "{unknown}");

    let triad = "triad/default".parse()?;
    let mut watch = client.watch(WatchCall::instance(&triad)).await?;
    let mut revision = 0;
    let mut lost = 0;
    for position in 0..cluster.nodes.len() {
        for to in ["second", "third", "first"] {
            client
                .transition(TransitionCall::to(&triad, to.parse()?))
                .await?;
            revision += 1;
            let event = loop {
                let watched = tokio::time::timeout(DEADLINE, watch.next());
                match watched.await?.context("the watch ended")?? {
                    Watched::Event(event) => break event,
                    Watched::Lost { .. } => lost += 1,
                    _ => {}
                }
            };
            assert_eq!(event.instance_revision, Revision(revision), "{event:?}");
            if to == "second" {
                cluster.nodes[position].kill9()?;
            }
        }
        cluster.nodes[position].restart().await?;
    }
    ensure!(lost > 0, "its node was killed too");
    cluster.agree().await
}
