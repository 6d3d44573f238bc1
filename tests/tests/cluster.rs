//! Three nodes as separate processes: they elect, agree, lose nothing when killed, and recover.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Node, Plan, READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::grpc;
use lockstep_tests::http::after;
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A killed leader must be replaced, and writes must go on, within this. An election takes less than
/// a second; two busy cores may have it be repeated.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);
/// For writes that nothing hinders.
const WRITES_DEADLINE: Duration = Duration::from_secs(20);
/// For a node without open requests to stop: well below http.drain_timeout, 5 seconds.
const IDLE_STOP_MAX: Duration = Duration::from_secs(3);

/// Nodes that hold a request for as long as a failover may take here, so that none has to fail.
async fn patient() -> Result<Cluster> {
    let timeout = humantime::format_duration(FAILOVER_DEADLINE);
    Cluster::start_as(Plan::default().with("LOCKSTEP_HTTP_REQUEST_TIMEOUT", timeout)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_elect_one_leader_and_agree_on_it() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.leader().await?;
    let views = cluster.views().await?;
    assert_eq!(views.iter().filter(|(_, view)| view.leads()).count(), 1);
    for (_, view) in &views {
        assert_eq!(view.cluster_id, views[0].1.cluster_id);
        assert!(!view.cluster_id.is_empty());
        assert_eq!(view.members, views[0].1.members);
        let names: Vec<_> = view.members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["node1", "node2", "node3"]);
    }
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_accepts_a_write_and_every_node_reads_it() -> Result<()> {
    let cluster = Cluster::start().await?;
    assert_eq!(cluster.nodes[0].api().state().await?, "first");
    for (writer, to) in [(0, "second"), (1, "third"), (2, "first"), (0, "third")] {
        let answer = cluster.nodes[writer]
            .api()
            .next(to)
            .await?
            .expect(StatusCode::OK)?;
        assert_eq!(answer.text.trim(), to);
        for node in &cluster.nodes {
            assert_eq!(node.api().state().await?, to, "read from {}", node.name);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_illegal_move_is_400_from_every_node_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.nodes[0]
        .api()
        .next("third")
        .await?
        .expect(StatusCode::OK)?;
    let before = cluster.nodes[0].api().instance().await?;
    for node in &cluster.nodes {
        let answer = node
            .api()
            .next("second")
            .await?
            .expect(StatusCode::BAD_REQUEST)?;
        assert!(answer.text.starts_with("invalid transition"), "{answer:?}");
        assert!(
            answer.text.contains("first"),
            "it says what is allowed: {answer:?}"
        );
        assert_eq!(node.api().instance().await?, before);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_nothing_is_lost_or_executed_twice() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
    writer.wait_for_more(50, WRITES_DEADLINE).await?;

    cluster.nodes[leader].kill9()?;
    // One may have been on its way back already.
    let gap = writer.wait_for_more(2, FAILOVER_DEADLINE).await?;
    println!("writes went on after {gap:?}");
    writer.wait_for_more(50, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;

    assert_eq!(
        cluster.nodes[follower].api().instance().await?.1,
        written.revision
    );
    assert_eq!(written.revision, written.acknowledged);
    assert_ne!(cluster.leader().await?, leader);

    cluster.nodes[leader].restart().await?;
    cluster.agree().await?;
    assert_eq!(
        cluster.nodes[leader].api().instance().await?.1,
        written.revision
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_process_is_gone_is_replaced_before_its_lease_ends() -> Result<()> {
    let lease = FAILOVER_DEADLINE * 2;
    let plan = Plan::default()
        .with(
            "LOCKSTEP_RAFT_ELECTION_TIMEOUT_MIN",
            format!("{}ms", lease.as_millis() - 1),
        )
        .with(
            "LOCKSTEP_RAFT_ELECTION_TIMEOUT_MAX",
            format!("{}ms", lease.as_millis()),
        )
        .with(
            "LOCKSTEP_HTTP_REQUEST_TIMEOUT",
            format!("{}s", lease.as_secs() * 3),
        );
    let mut cluster = Cluster::start_as(plan).await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    cluster.nodes[follower]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;

    cluster.nodes[leader].kill9()?;
    let write = cluster.nodes[follower].api().next("third");
    let written = tokio::time::timeout(FAILOVER_DEADLINE, write).await;
    let written = written.context("the election timeout was waited for")??;
    written.expect(StatusCode::OK)?;
    assert_ne!(cluster.leader().await?, leader);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_without_a_key_execute_once_when_the_leader_is_killed() -> Result<()> {
    let mut cluster = patient().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let writer = Writer::strict(cluster.nodes[follower].api()).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    // The node that was asked finds the new leader within the request's deadline: no request fails.
    cluster.nodes[leader].kill9()?;
    writer.wait_for_more(20, FAILOVER_DEADLINE).await?;
    let written = writer.finish().await?;
    assert_eq!(
        cluster.nodes[follower].api().instance().await?.1,
        written.revision
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_killed_at_once_lose_no_acknowledged_transition() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let mut revision = 0;
    for round in 0..2 {
        let writer = Writer::persistent(cluster.nodes[round].api()).await?;
        writer.wait_for_more(100, WRITES_DEADLINE).await?;
        for node in &mut cluster.nodes {
            node.kill9()?;
        }
        cluster.start_all()?;
        // The writer repeats what was not acknowledged, under the same key, until it is.
        writer.wait_for_more(20, READY_DEADLINE).await?;
        let written = writer.finish().await?;
        revision += written.acknowledged;
        assert_eq!(written.revision, revision);
        cluster.wait_ready().await?;
        for node in &cluster.nodes {
            assert_eq!(node.api().instance().await?.1, revision, "{}", node.name);
        }
        cluster.agree().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_far_behind_catches_up_by_snapshot() -> Result<()> {
    let plan = Plan::default()
        .with("LOCKSTEP_RAFT_SNAPSHOT_ENTRIES", 50)
        .with("LOCKSTEP_RAFT_LOG_KEEP_ENTRIES", 10);
    let mut cluster = Cluster::start_as(plan).await?;
    let behind = cluster.follower().await?;
    cluster.nodes[behind].kill9()?;
    let stopped_at = cluster
        .views()
        .await?
        .iter()
        .map(|(_, view)| view.applied_index)
        .max()
        .context("none runs")?;

    let leader = cluster.leader().await?;
    let writer = Writer::persistent(cluster.nodes[leader].api()).await?;
    wait_for(
        "a log that no longer reaches back to the node that is down",
        WRITES_DEADLINE,
        async || {
            for (_, view) in cluster.views().await? {
                ensure!(view.log_first_index > stopped_at + 1, "{view:?}");
            }
            Ok(())
        },
    )
    .await?;
    let written = writer.finish().await?;

    cluster.nodes[behind].restart().await?;
    cluster.agree().await?;
    let view = cluster.nodes[behind].api().cluster().await?;
    assert!(
        view.snapshot_index > stopped_at,
        "it caught up without a snapshot: {view:?}"
    );
    assert_eq!(
        cluster.nodes[behind].api().instance().await?.1,
        written.revision
    );

    // What came by snapshot is as durable as what came by log.
    cluster.nodes[behind].kill9()?;
    cluster.nodes[behind].restart().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_majority_is_503_with_retry_after_and_heals_by_itself() -> Result<()> {
    // Short for the refusals, which take as long; and longer than an unplanned election,
    // which the writes that must succeed may meet.
    let mut cluster =
        Cluster::start_as(Plan::default().with("LOCKSTEP_HTTP_REQUEST_TIMEOUT", "3s")).await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    cluster.nodes[1].kill9()?;
    cluster.nodes[2].kill9()?;
    // While the survivor still takes itself for the leader, what became of a write is unknown.
    let survivor = cluster.nodes[0].api().clone();
    let refused = wait_for(
        "a refusal for want of a majority",
        READY_DEADLINE,
        async || {
            let answer = survivor.next("second").await?;
            ensure!(
                answer.status != StatusCode::OK,
                "a minority acknowledged a write: {answer:?}"
            );
            answer.expect(StatusCode::SERVICE_UNAVAILABLE)
        },
    )
    .await?;
    assert!(
        refused.retry_after().is_some_and(|seconds| seconds >= 1),
        "{refused:?}"
    );
    survivor
        .get("/")
        .await?
        .expect(StatusCode::SERVICE_UNAVAILABLE)?;
    survivor
        .get("/readyz")
        .await?
        .expect(StatusCode::SERVICE_UNAVAILABLE)?;
    survivor.get("/livez").await?.expect(StatusCode::OK)?;

    cluster.nodes[1].start()?;
    cluster.wait_ready().await?;
    let (state, revision) = survivor.instance().await?;
    // The refused writes asked for what was there or had been asked for: none was legal.
    assert_eq!((state.as_str(), revision), ("second", 1));
    survivor.next("third").await?.expect(StatusCode::OK)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_stop_hands_over_without_failing_a_request() -> Result<()> {
    let mut cluster = patient().await?;
    for signal in [libc::SIGTERM, libc::SIGQUIT] {
        let (leader, follower) = cluster.leader_and_follower().await?;
        let writer = Writer::strict(cluster.nodes[follower].api()).await?;
        writer.wait_for_more(20, WRITES_DEADLINE).await?;
        cluster.nodes[leader].signal(signal)?;
        let status = cluster.nodes[leader].wait_ended(STOP_DEADLINE).await?;
        assert!(status.success(), "{status}");
        writer.wait_for_more(20, WRITES_DEADLINE).await?;
        let written = writer.finish().await?;
        println!("longest gap {:?}", written.longest_gap);
        assert_eq!(
            cluster.nodes[follower].api().instance().await?.1,
            written.revision
        );
        cluster.nodes[leader].restart().await?;
        cluster.agree().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_nodes_stop_without_waiting_for_peers_or_idle_clients() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    for node in [follower, leader] {
        let node = &mut cluster.nodes[node];
        // Clients that neither send nor close: a connection after its request, and a watch.
        let idle = [
            idle_after("/livez", node.http_address()).await?,
            idle_after("/v1/watch", node.http_address()).await?,
        ];
        let mut client = grpc::machines(node)?;
        client
            .list_machines(grpc::asking(Default::default()))
            .await?;
        let began = Instant::now();
        let status = node.terminate().await?;
        assert!(status.success(), "{status}");
        let took = began.elapsed();
        assert!(took < IDLE_STOP_MAX, "{took:?}");
        drop((idle, client));
        node.restart().await?;
    }
    Ok(())
}

/// A connection whose client has begun to read the answer to a request, and does nothing more.
async fn idle_after(path: &str, address: SocketAddr) -> Result<TcpStream> {
    let mut client = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: lockstep\r\n\r\n");
    client.write_all(request.as_bytes()).await?;
    client.read_u8().await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_not_heard_is_not_reported_as_one() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, other) = cluster.leader_and_follower().await?;
    let third = 3 - leader - other;
    let api = cluster.nodes[third].api().clone();
    let has_leader = async |expected: &str| {
        let line = format!("lockstep_has_leader {expected}\n");
        wait_for(format!("{line:?}"), FAILOVER_DEADLINE, async || {
            ensure!(api.get("/metrics").await?.text.contains(&line));
            Ok(())
        })
        .await
    };
    has_leader("1").await?;
    for frozen in [leader, other] {
        cluster.nodes[frozen].pause()?;
    }
    has_leader("0").await?;
    let contact = async || {
        let view = api.read("/v1/cluster").await?;
        view["leader_contact_ms"]
            .as_u64()
            .context("no leader_contact_ms")
    };
    let first = contact().await?;
    assert!(first > 400, "{first}");
    wait_for("a later contact", FAILOVER_DEADLINE, async || {
        let later = contact().await?;
        ensure!(later > first, "{later}");
        Ok(())
    })
    .await?;
    let verbose = api.get("/readyz?verbose").await?.problem()?;
    assert_eq!(verbose["checks"]["cluster_time"]["ok"], true, "{verbose}");
    for frozen in [leader, other] {
        cluster.nodes[frozen].resume()?;
    }
    has_leader("1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_a_node_in_order_or_changes_only_what_it_names() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    let node = &mut cluster.nodes[0];
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP] {
        node.signal(signal)?;
    }
    wait_for("the reload", FAILOVER_DEADLINE, async || {
        ensure!(node.log().contains("reloaded log.filter"));
        Ok(())
    })
    .await?;
    node.api().next("second").await?.expect(StatusCode::OK)?;
    node.signal(libc::SIGQUIT)?;
    let status = node.wait_ended(STOP_DEADLINE).await?;
    assert!(status.success(), "{status}");
    assert!(node.log().contains("signal=\"SIGQUIT\""));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_is_replaced_and_follows_when_it_wakes() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    cluster.nodes[leader].pause()?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    cluster.nodes[leader].resume()?;
    writer.wait_for_more(20, WRITES_DEADLINE).await?;
    let written = writer.finish().await?;
    // A linearizable read through the resumed node: it must not answer as leader of its old term.
    assert_eq!(
        cluster.nodes[leader].api().instance().await?.1,
        written.revision
    );
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_executes_once_across_a_change_of_leader() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let api = cluster.nodes[follower].api().clone();
    let first = api
        .transition("second", Some("order-42"), json!({}))
        .await?
        .moved()?;
    assert_eq!((first.revision, first.replayed), (1, false));
    api.transition("third", Some("order-43"), json!({}))
        .await?
        .moved()?;

    cluster.nodes[leader].kill9()?;
    let again = wait_for("the stored outcome", FAILOVER_DEADLINE, async || {
        api.transition("second", Some("order-42"), json!({}))
            .await?
            .moved()
    })
    .await?;
    assert_eq!(
        (again.to.as_str(), again.revision, again.replayed),
        ("second", 1, true)
    );
    assert_eq!(api.instance().await?, ("third".to_owned(), 2));

    // Also from the node that led, after it lost its memory.
    cluster.nodes[leader].restart().await?;
    let again = cluster.nodes[leader]
        .api()
        .transition("second", Some("order-42"), json!({}))
        .await?
        .moved()?;
    assert!(again.replayed && again.revision == 1, "{again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transition_at_the_wrong_revision_or_state_is_rejected() -> Result<()> {
    let cluster = Cluster::start().await?;
    let api = cluster.nodes[2].api();
    api.transition(
        "second",
        None,
        json!({ "expect_revision": 0, "expect_state": "first" }),
    )
    .await?
    .moved()?;
    for (conditions, code) in [
        (json!({ "expect_revision": 0 }), "revision_mismatch"),
        (json!({ "expect_state": "first" }), "state_mismatch"),
    ] {
        let refused = api
            .transition("third", None, conditions)
            .await?
            .expect(StatusCode::CONFLICT)?;
        assert_eq!(refused.problem()?["code"], code);
    }
    assert_eq!(api.instance().await?, ("second".to_owned(), 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_is_refused_and_the_log_says_so() -> Result<()> {
    let mut ours = Cluster::start().await?;
    let mut theirs = Cluster::start().await?;
    let (our_id, their_id) = (
        ours.nodes[0].api().cluster().await?.cluster_id,
        theirs.nodes[0].api().cluster().await?.cluster_id,
    );
    assert_ne!(our_id, their_id);
    ours.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;

    // Their node3 comes back where our node3 was: same address, another cluster's disk.
    ours.nodes[2].terminate().await?;
    theirs.nodes[2].terminate().await?;
    let address = ours.nodes[2].grpc_address();
    theirs.nodes[2].set("LOCKSTEP_GRPC_LISTEN", address);
    theirs.nodes[2].set("LOCKSTEP_PEERS", ours.peers());
    theirs.nodes[2].start()?;
    let stranger = theirs.nodes[2].name.clone();
    wait_for("the refusal in a log", READY_DEADLINE, async || {
        let logs: Vec<String> = ours
            .running()
            .chain([&theirs.nodes[2]])
            .map(Node::log)
            .collect();
        let said = |log: &String| {
            log.lines()
                .any(|line| line.contains(&our_id) && line.contains(&their_id))
        };
        ensure!(
            logs.iter().any(said),
            "no log names both clusters, of which one is {stranger}'s"
        );
        Ok(())
    })
    .await?;

    // No node switched to the other cluster, and ours continues with two nodes.
    assert_eq!(ours.nodes[0].api().cluster().await?.cluster_id, our_id);
    assert_eq!(theirs.nodes[2].api().cluster().await?.cluster_id, their_id);
    ours.nodes[1]
        .api()
        .next("third")
        .await?
        .expect(StatusCode::OK)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_is_a_cluster() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::single()).await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    cluster.nodes[0].kill9()?;
    cluster.nodes[0].restart().await?;
    assert_eq!(cluster.nodes[0].api().state().await?, "second");
    let to = after("second");
    cluster.nodes[0]
        .api()
        .next(to)
        .await?
        .expect(StatusCode::OK)?;
    Ok(())
}

/// Starts the first node of `cluster`, expects it to end with `code` by itself, and returns its log.
async fn refusal(cluster: &mut Cluster, code: i32) -> Result<String> {
    let node = &mut cluster.nodes[0];
    node.start()?;
    let status = node.wait_ended(STOP_DEADLINE).await?;
    let log = node.log();
    ensure!(
        status.code() == Some(code),
        "expected exit code {code}, got {status}:\n{log}"
    );
    ensure!(!log.contains("panicked"), "it panicked:\n{log}");
    Ok(log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() -> Result<()> {
    for key in ["LOCKSTEP_HTTP_LISTEN", "LOCKSTEP_GRPC_LISTEN"] {
        let mut cluster = Cluster::lay_out(Plan::single())?;
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = taken.local_addr()?;
        cluster.nodes[0].set(key, address);
        if key == "LOCKSTEP_GRPC_LISTEN" {
            cluster.nodes[0].set("LOCKSTEP_PEERS", format!("node1={address}"));
        }
        let log = refusal(&mut cluster, 1).await?;
        assert!(
            log.contains(&address.to_string()),
            "{key}: the address is not named:\n{log}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_data_folder_is_named() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::single())?;
    // A file in its place: permissions would not stop root, which CI may be.
    std::fs::write(cluster.nodes[0].data(), "not a folder")?;
    let data = cluster.nodes[0].data().display().to_string();
    let log = refusal(&mut cluster, 1).await?;
    assert!(log.contains(&data), "the folder is not named:\n{log}");
    assert_eq!(std::fs::read_to_string(&data)?, "not a folder");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_foreign_files_is_rejected_and_left_alone() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::single())?;
    let data = cluster.nodes[0].data().to_owned();
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("letter.txt"), "dear")?;
    let log = refusal(&mut cluster, 1).await?;
    assert!(
        log.contains(&data.display().to_string()),
        "the folder is not named:\n{log}"
    );
    assert_eq!(std::fs::read_dir(&data)?.count(), 1, "nothing was added");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_data_folder_is_refused() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let mut second = Cluster::lay_out(Plan::single())?;
    let data = cluster.nodes[0].data().display().to_string();
    second.nodes[0].set("LOCKSTEP_DATA_DIR", &data);
    let log = refusal(&mut second, 1).await?;
    assert!(log.contains(&data), "the folder is not named:\n{log}");
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configuration_is_a_usage_error_that_names_the_setting() -> Result<()> {
    for (key, value, said) in [
        ("LOCKSTEP_HTTP_LISTEN", "nowhere", "LOCKSTEP_HTTP_LISTEN"),
        ("LOCKSTEP_PEERS", "node1", "LOCKSTEP_PEERS"),
        ("LOCKSTEP_RAFT_HEARTBEAT", "10m", "LOCKSTEP_RAFT_HEARTBEAT"),
        ("LOCKSTEP_DISCOVERY", "carrier-pigeon", "LOCKSTEP_DISCOVERY"),
        (
            "LOCKSTEP_LIMITS_EVENTS_MAX",
            "7",
            "`lockstep cluster settings set events_max=...`",
        ),
    ] {
        let mut cluster = Cluster::lay_out(Plan::single())?;
        cluster.nodes[0].set(key, value);
        let log = refusal(&mut cluster, 2).await?;
        assert!(
            log.contains(said),
            "{key}={value}: {said} is not named:\n{log}"
        );
        assert!(
            !cluster.nodes[0].data().exists(),
            "{key}={value}: a data folder was made"
        );
    }
    Ok(())
}
