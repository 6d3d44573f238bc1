//! Watches: in order, once, without gaps, on any node; and the errors when that is impossible.

use anyhow::{Context, Result, ensure};
use lockstep_proto::v1;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::grpc::{self, Watch, asking, code, trailer};
use lockstep_tests::machines::order;
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use tonic::Code;

use super::{DEADLINE, clients, create, define, done, one_node, to_state, transaction};

fn everything(from_revision: u64) -> Watch {
    Watch::new(v1::WatchRequest {
        from: Some(v1::watch_request::From::FromRevision(from_revision)),
        ..Default::default()
    })
}

/// Moves the built-in instance `count` times through a node, each move once.
async fn moves(node: &lockstep_tests::cluster::Node, from: u64, count: u64) -> Result<()> {
    let states = ["second", "third", "first"];
    let client = grpc::machines(node)?;
    for n in from..from + count {
        let request = v1::TransitionRequest {
            idempotency_key: Some(format!("move-{n}")),
            ..to_state("triad/default", states[n as usize % 3])
        };
        // While the cluster looks for a leader, it is asked again.
        wait_for("a move", DEADLINE, async || {
            let mut client = client.clone();
            let moving = client.transition(asking(request.clone()));
            done!(moving, transition_response, Transitioned);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumed_on_another_node_sees_each_transition_once_and_in_order() -> Result<()> {
    const MOVES: u64 = 300;
    let mut cluster = Cluster::start().await?;
    let follower = cluster.follower().await?;
    let other = (follower + 1) % 3;
    let third = (follower + 2) % 3;
    let mut watch = Watch::new(v1::WatchRequest {
        machine: Some("triad".to_owned()),
        instance: Some("default".to_owned()),
        from: Some(v1::watch_request::From::FromRevision(1)),
        ..Default::default()
    });
    let mut seen: Vec<v1::Event> = vec![];
    let reach = async |watch: &mut Watch, seen: &mut Vec<v1::Event>, count: u64| {
        while (seen.len() as u64) < count {
            seen.extend(watch.next().await??);
        }
        anyhow::Ok(())
    };

    // A node that shuts down ends its watches with a status.
    moves(&cluster.nodes[third], 0, MOVES / 3).await?;
    watch.open(&cluster.nodes[follower]).await?;
    reach(&mut watch, &mut seen, MOVES / 6).await?;
    cluster.nodes[follower].terminate().await?;
    let ended = loop {
        match watch.next().await? {
            Ok(events) => seen.extend(events),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (ended.code(), code(&ended)),
        (Code::Unavailable, "not_ready")
    );

    // It goes on on another one, which is killed.
    moves(&cluster.nodes[third], MOVES / 3, MOVES / 3).await?;
    watch.open(&cluster.nodes[other]).await?;
    reach(&mut watch, &mut seen, MOVES / 2).await?;
    cluster.nodes[follower].restart().await?;
    cluster.nodes[other].kill9()?;
    let ended = loop {
        match watch.next().await {
            Ok(Ok(events)) => seen.extend(events),
            Ok(Err(status)) => break status,
            Err(error) => return Err(error),
        }
    };
    assert_ne!(ended.code(), Code::OutOfRange, "{ended}");

    // And on the first one, which has been away.
    watch.open(&cluster.nodes[follower]).await?;
    moves(&cluster.nodes[third], 2 * MOVES / 3, MOVES / 3).await?;
    reach(&mut watch, &mut seen, MOVES).await?;
    for (n, event) in seen.iter().enumerate() {
        assert_eq!(event.instance_revision, n as u64 + 1, "{event:?}");
    }
    cluster.nodes[other].restart().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_what_it_selects_and_bookmarks_show_its_progress() -> Result<()> {
    let cluster = one_node(Plan::default()).await?;
    let client = &mut clients(&cluster)?[0];
    let orders = v1::WatchRequest {
        machine: Some("order".to_owned()),
        prefix: Some("a".to_owned()),
        ..Default::default()
    };
    let unknown = Watch::new(orders.clone()).open(&cluster.nodes[0]).await;
    assert_eq!(
        code(&unknown.expect_err("no such machine")),
        "unknown_machine"
    );
    define(client, &order("1h")).await?;
    // From now on: nothing of it yet, but a cursor.
    let mut now = Watch::new(orders.clone());
    now.open(&cluster.nodes[0]).await?;
    assert!(now.next().await??.is_empty(), "a bookmark");

    for id in ["order/a1", "order/b1", "order/a2"] {
        let creating = client.create_instance(asking(create(id)));
        done!(creating, create_instance_response, Created);
    }
    let mut ids = vec![];
    while ids.len() < 2 {
        ids.extend(now.next().await??.into_iter().filter_map(|event| event.id));
    }
    assert_eq!(ids, ["order/a1", "order/a2"]);

    // From the start, definitions are among them.
    let mut all = everything(1);
    all.open(&cluster.nodes[0]).await?;
    let events = all.next().await??;
    let kinds: Vec<_> = events.iter().map(v1::Event::kind).collect();
    use v1::EventKind::{Created, Defined};
    assert_eq!(kinds, [Defined, Created, Created, Created]);
    assert_eq!(
        (events[0].machine.as_str(), &events[0].id),
        ("order", &None)
    );
    let metrics = cluster.nodes[0].api().get("/metrics").await?.text;
    assert!(metrics.contains("lockstep_watchers 2\n"), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_would_miss_events_or_never_see_one_is_refused() -> Result<()> {
    let cluster = one_node(Plan::default()).await?;
    let node = &cluster.nodes[0];
    moves(node, 0, 3).await?;
    use v1::watch_request::From;
    let after = From::After(v1::EventCursor {
        revision: 1,
        position: 0,
    });
    let elsewhere = |from| v1::WatchRequest {
        // In a cluster made anew, it may not exist.
        machine: Some("none".to_owned()),
        from,
        cluster_id: Some("0123456789abcdef".to_owned()),
        ..Default::default()
    };
    for (request, code_expected) in [
        (elsewhere(Some(after)), "cursor_of_another_cluster"),
        (
            elsewhere(Some(From::FromRevision(1))),
            "cursor_of_another_cluster",
        ),
        (elsewhere(None), "cursor_of_another_cluster"),
        (
            v1::WatchRequest {
                machine: Some("triad".to_owned()),
                state: Some("fourth".to_owned()),
                ..Default::default()
            },
            "unknown_state",
        ),
    ] {
        let refused = Watch::new(request).open(node).await;
        let status = refused.expect_err("refused");
        assert_eq!(code(&status), code_expected, "{status}");
    }

    for (path, status, expected) in [
        ("/v1/watch?machine=none", 404, "unknown_machine"),
        ("/v1/machines/none/watch", 404, "unknown_machine"),
        ("/v1/watch?machine=triad&state=fourth", 422, "unknown_state"),
        (
            "/v1/machines/triad/watch?state=fourth",
            422,
            "unknown_state",
        ),
    ] {
        let refused = node.api().get(path).await?;
        let found = (refused.status.as_u16(), &refused.problem()?["code"]);
        assert_eq!(found, (status, &expected.into()), "{path}");
    }

    let path = "/v1/watch?machine=triad";
    let stream = |id: &str| {
        node.api()
            .request(Method::GET, path)
            .header("last-event-id", id)
    };
    let mut open = stream("1-0").send().await?;
    let chunk = open.chunk().await?.context("an event")?;
    let text = String::from_utf8(chunk.to_vec())?;
    let id = text.lines().find_map(|line| line.strip_prefix("id: "));
    let id = id.context("an id")?;
    let (cursor, own) = id.rsplit_once('-').context("the cluster")?;
    assert_eq!(own, cluster.views().await?[0].1.cluster_id);
    let mut client = grpc::machines(node)?;
    let watching = client.watch(v1::WatchRequest::default()).await?;
    let first = watching
        .into_inner()
        .message()
        .await?
        .context("a message")?;
    assert_eq!(first.cluster_id, own);
    let mut at_home = Watch::new(v1::WatchRequest {
        cluster_id: Some(own.to_owned()),
        ..elsewhere(Some(From::FromRevision(1)))
    });
    let status = at_home.open(node).await.expect_err("no such machine");
    assert_eq!(code(&status), "unknown_machine", "{status}");
    // Its own id resumes, that of another cluster does not.
    assert_eq!(stream(id).send().await?.status(), StatusCode::OK);
    let refused = stream(&format!("{cursor}-0123456789abcdef")).send().await?;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let problem: serde_json::Value = refused.json().await?;
    assert_eq!(problem["code"], "cursor_of_another_cluster");
    assert_eq!(problem["cluster_id"], own);
    assert_eq!(problem["revision"], 3);
    Ok(())
}

/// A node that keeps `events` events only, with a machine defined.
async fn forgetful(events: usize) -> Result<Cluster> {
    let plan = Plan::default().setting("events_max", events as u64);
    let cluster = one_node(plan).await?;
    define(&mut clients(&cluster)?[0], &order("1h")).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_compacted_events_reports_the_oldest_revision() -> Result<()> {
    let cluster = forgetful(10).await?;
    moves(&cluster.nodes[0], 0, 60).await?;
    let refused = everything(1).open(&cluster.nodes[0]).await;
    let status = refused.expect_err("it is gone");
    assert_eq!(
        (status.code(), code(&status)),
        (Code::OutOfRange, "compacted")
    );
    let oldest: u64 = trailer(&status, "oldest-revision").parse()?;
    let mut whole = everything(oldest);
    whole.open(&cluster.nodes[0]).await?;
    let first = whole.next().await??;
    assert_eq!(first.len(), 10);
    assert_eq!(first[0].cursor.context("a cursor")?.revision, oldest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_learns_where_to_resume() -> Result<()> {
    const EACH: usize = 100;
    let cluster = forgetful(EACH).await?;
    let client = &mut clients(&cluster)?[0];
    let mut slow = everything(1);
    slow.open(&cluster.nodes[0]).await?;
    // Far more than fits on the way to a reader that does not read: 400 KB each time.
    let metadata = [("why".to_owned(), "x".repeat(4000))];
    for round in 0..12 {
        let creations = (0..EACH).map(|n| {
            v1::operation::Operation::Create(v1::CreateInstanceRequest {
                metadata: metadata.clone().into(),
                ..create(format!("order/{round:02}-{n:03}"))
            })
        });
        let creating = client.transact(asking(transaction(creations)));
        done!(creating, transact_response, Committed);
    }
    let mut seen = vec![];
    let ended = loop {
        match slow.next().await? {
            Ok(events) => seen.extend(events),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (ended.code(), code(&ended)),
        (Code::OutOfRange, "lagged"),
        "{ended}"
    );
    // What it got has no gap: all of one revision, then the next.
    let cursors = seen.iter().filter_map(|event| event.cursor);
    let mut last: Option<v1::EventCursor> = None;
    for cursor in cursors.filter(|cursor| cursor.revision > 1) {
        if let Some(last) = last {
            let next = (last.revision, last.position + 1);
            ensure!(
                (cursor.revision, cursor.position) == next
                    || (cursor.revision, cursor.position) == (last.revision + 1, 0),
                "{cursor:?} behind {last:?}"
            );
        }
        last = Some(cursor);
    }
    let oldest: u64 = trailer(&ended, "oldest-revision").parse()?;
    let mut on = everything(oldest);
    on.open(&cluster.nodes[0]).await?;
    let first = on.next().await??;
    assert_eq!(first[0].cursor.context("a cursor")?.revision, oldest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_cannot_start_ahead_of_the_cluster() -> Result<()> {
    let cluster = Cluster::start().await?;
    moves(&cluster.nodes[0], 0, 3).await?;
    let node = &cluster.nodes[cluster.follower().await?];
    let now = node.api().get("/v1/cluster/settings").await?.json()?["revision"]
        .as_u64()
        .context("a revision")?;
    // After the newest revision: nothing is missed. After a later one, events would be.
    everything(now + 1).open(node).await?;
    // Each refusal names the revision that the caller named.
    let detail =
        |ahead: u64| format!("revision {ahead} does not exist yet; the cluster is at {now}");
    for ahead in [now + 2, u64::MAX] {
        let refused = everything(ahead).open(node).await;
        let status = refused.expect_err("it is ahead");
        let found = (status.code(), code(&status), status.message());
        let detail = detail(ahead);
        assert_eq!(found, (Code::OutOfRange, "revision_ahead", &*detail));
    }
    for (query, last, ahead) in [
        ("?from_revision=999999999", None, 999_999_999),
        ("", Some("99999999999-0"), 99_999_999_999),
        ("", Some("99999999999-4294967295"), 99_999_999_999),
    ] {
        let mut request = node
            .api()
            .request(Method::GET, &format!("/v1/watch{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await?;
        assert_eq!(response.status(), StatusCode::CONFLICT, "{query} {last:?}");
        let problem: serde_json::Value = response.json().await?;
        assert_eq!(problem["code"], "revision_ahead");
        assert_eq!(problem["detail"], detail(ahead));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_bounded_over_both_interfaces_together() -> Result<()> {
    let cluster = one_node(Plan::default().with("LOCKSTEP_WATCHERS_MAX", 1)).await?;
    let node = &cluster.nodes[0];
    let mut only = everything(0);
    only.open(node).await?;
    let refused = everything(0).open(node).await;
    let status = refused.expect_err("one is open");
    assert_eq!(
        (status.code(), code(&status)),
        (Code::ResourceExhausted, "too_many_watchers")
    );
    assert!(trailer(&status, "retry-after-ms").parse::<u64>()? > 0);
    let path = "/v1/watch?from_revision=0";
    let refused = node.api().get(path).await?;
    let problem = refused.expect(StatusCode::TOO_MANY_REQUESTS)?.problem()?;
    assert_eq!(problem["code"], "too_many_watchers");
    // Its place is free once it is gone, and taken over HTTP it is taken here.
    drop(only);
    let request = node.api().request(Method::GET, path);
    let held = wait_for("a place for a watch", DEADLINE, async || {
        let response = request.try_clone().context("a request")?.send().await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        Ok(response)
    })
    .await?;
    assert!(everything(0).open(node).await.is_err());
    drop(held);
    wait_for("a place for a watch", DEADLINE, async || {
        Ok(everything(0).open(node).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_node_ends_its_watches_and_accepts_them_again_when_reconnected() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let watch = || {
        Watch::new(v1::WatchRequest {
            from: Some(v1::watch_request::From::FromRevision(1)),
            ..Default::default()
        })
    };
    let mut open = watch();
    open.open(&cluster.nodes[0]).await?;
    moves(&cluster.nodes[0], 0, 3).await?;
    while open.next().await??.is_empty() {}

    cluster.nodes[1].pause()?;
    cluster.nodes[2].pause()?;
    let ended = loop {
        if let Err(status) = open.next().await? {
            break status;
        }
    };
    assert_eq!(
        (ended.code(), code(&ended)),
        (Code::Unavailable, "unavailable")
    );
    let refused = cluster.nodes[0]
        .api()
        .get("/v1/watch?from_revision=1")
        .await?;
    refused.expect(StatusCode::SERVICE_UNAVAILABLE)?;

    cluster.nodes[1].resume()?;
    cluster.nodes[2].resume()?;
    let mut again = wait_for("a watch on the node that is back", DEADLINE, async || {
        let mut again = watch();
        again.open(&cluster.nodes[0]).await?;
        Ok(again)
    })
    .await?;
    let mut seen = 0;
    while seen < 3 {
        seen += again.next().await??.len();
    }
    Ok(())
}
