//! The members change while the cluster runs: nodes join, are replaced, removed, promoted and demoted, and
//! nothing that was acknowledged is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bulk::{create, numbered, transition};
use lockstep_tests::cluster::{Cluster, Plan, READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::http::{Answer, Api, after};
use lockstep_tests::members::{
    self, CHANGE_DEADLINE, id_of, voters, wait_for_new_id, wait_for_voters,
};
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MEMBERS: &str = "/v1/cluster/members";

async fn remove(api: &Api, member: &str) -> Result<Answer> {
    let request = api.request(Method::DELETE, &format!("{MEMBERS}/{member}"));
    lockstep_tests::http::answer(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_takes_its_own_place_under_a_new_id() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, lost) = cluster.leader_and_follower().await?;
    let api = cluster.nodes[leader].api().clone();
    let name = cluster.nodes[lost].name.clone();
    let before = id_of(&api, &name).await?;
    let writer = Writer::persistent(&api).await?;
    cluster.nodes[lost].kill9()?;
    cluster.nodes[lost].lose_disk()?;
    cluster.nodes[lost].start()?;
    wait_for_new_id(&api, &name, &before).await?;
    assert_eq!(api.members().await?.len(), 3);
    cluster.nodes[lost].wait_ready().await?;
    writer.wait_for_more(20, CHANGE_DEADLINE).await?;
    writer.finish().await?;
    cluster.agree().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_is_replaced_under_load_and_no_write_is_lost() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    for _ in 0..2 {
        let joined = cluster.lay_out_another()?;
        cluster.nodes[joined].start()?;
        cluster.nodes[joined].wait_ready().await?;
    }
    let api = cluster.nodes[4].api().clone();
    wait_for_voters(&api, &["node1", "node2", "node3", "node4", "node5"]).await?;
    let writer = Writer::persistent(&api).await?;
    let joined = cluster.lay_out_another()?;
    cluster.nodes[joined].start()?;
    for (position, name) in ["node1", "node2", "node3"].into_iter().enumerate() {
        members::remove(&api, name).await?;
        let status = cluster.nodes[position].wait_ended(STOP_DEADLINE).await?;
        ensure!(!status.success(), "{name} ended with {status}");
        let log = cluster.nodes[position].log();
        ensure!(log.contains("is no longer a member of cluster"), "{log}");
    }
    wait_for_voters(&api, &["node4", "node5", "node6"]).await?;
    writer.wait_for_more(20, CHANGE_DEADLINE).await?;
    let written = writer.finish().await?;
    println!("longest pause {:?}", written.longest_gap);
    let (_, revision) = api.instance().await?;
    assert_eq!(revision, written.revision);
    cluster.agree().await
}

#[tokio::test]
async fn a_change_that_would_lose_the_quorum_is_refused_with_the_numbers_unless_forced()
-> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (leader, down) = cluster.leader_and_follower().await?;
    let api = cluster.nodes[leader].api().clone();
    cluster.nodes[down].kill9()?;
    let other = (0..3)
        .find(|at| *at != leader && *at != down)
        .context("three nodes")?;
    let (down, other) = (
        cluster.nodes[down].name.clone(),
        cluster.nodes[other].name.clone(),
    );
    let expected = "3 -> 2 voters, quorum 2 -> 2, 1 of the 2 answer";
    wait_for(
        "the loss of the quorum to be seen",
        CHANGE_DEADLINE,
        async || {
            let silent = api
                .members()
                .await?
                .into_iter()
                .find(|it| it["name"] == *down);
            let contact = silent.and_then(|it| it["contact_ms"].as_u64());
            ensure!(
                contact.is_none_or(|ms| ms > 5000),
                "it answered {contact:?} ms ago"
            );
            Ok(())
        },
    )
    .await?;
    let refused = remove(&api, &other).await?.expect(StatusCode::CONFLICT)?;
    ensure!(
        refused.text.contains("quorum_lost") && refused.text.contains(expected),
        "{refused:?}"
    );
    // The one that is down may go.
    remove(&api, &down).await?.expect(StatusCode::OK)?;
    let last = cluster.nodes[leader].name.clone();
    let forced = format!("{MEMBERS}/{other}?force");
    let forced = api.request(Method::DELETE, &forced);
    lockstep_tests::http::answer(forced)
        .await?
        .expect(StatusCode::OK)?;
    wait_for_voters(&api, &[last.as_str()]).await?;
    let refused = remove(&api, &last).await?.expect(StatusCode::CONFLICT)?;
    ensure!(refused.text.contains("last_voter"), "{refused:?}");
    let unknown = remove(&api, "node9").await?.expect(StatusCode::NOT_FOUND)?;
    ensure!(unknown.text.contains("unknown_member"), "{unknown:?}");
    api.next("second").await?.expect(StatusCode::OK)?;
    Ok(())
}

#[tokio::test]
async fn a_learner_serves_reads_does_not_vote_and_is_promoted_on_demand() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let learner = cluster.lay_out_another()?;
    cluster.nodes[learner].set("LOCKSTEP_CLUSTER_LEARNER", "true");
    cluster.nodes[learner].start()?;
    cluster.nodes[learner].wait_ready().await?;
    let api = cluster.nodes[learner].api().clone();
    let (state, _) = api.instance().await?;
    assert_eq!(state, "first");
    // Longer than promotion takes where it is due.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(voters(&api).await?, ["node1", "node2", "node3"]);
    let promote = lockstep_tests::http::answer(
        api.request(Method::POST, &format!("{MEMBERS}/node4/promote")),
    )
    .await?;
    promote.expect(StatusCode::OK)?;
    wait_for_voters(&api, &["node1", "node2", "node3", "node4"]).await?;
    let demote =
        lockstep_tests::http::answer(api.request(Method::POST, &format!("{MEMBERS}/node1/demote")))
            .await?;
    demote.expect(StatusCode::OK)?;
    wait_for_voters(&api, &["node2", "node3", "node4"]).await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    cluster.agree().await
}

#[tokio::test]
async fn a_node_with_the_name_of_a_live_member_is_refused_with_that_member() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let twin = cluster.lay_out_another()?;
    cluster.nodes[twin].set("LOCKSTEP_NAME", "node2");
    let peers = cluster.peers().replace("node4=", "node2=");
    let others: Vec<&str> = peers
        .split(',')
        .filter(|it| !it.starts_with("node2="))
        .collect();
    let own = format!("node2={}", cluster.nodes[twin].grpc_address());
    cluster.nodes[twin].set("LOCKSTEP_PEERS", format!("{},{own}", others.join(",")));
    cluster.nodes[twin].start()?;
    wait_for("the node to be told", READY_DEADLINE, async || {
        let log = cluster.nodes[twin].log();
        ensure!(log.contains("the name node2 belongs to node"), "{log}");
        Ok(())
    })
    .await?;
    assert_eq!(cluster.nodes[0].api().members().await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn leadership_moves_to_the_node_that_is_named() -> Result<()> {
    let cluster = Cluster::start().await?;
    for _ in 0..3 {
        let (leader, follower) = cluster.leader_and_follower().await?;
        let to = &cluster.nodes[follower].name;
        // Asked of either node.
        let api = cluster.nodes[leader.max(follower)].api();
        let moved = api
            .post("/v1/cluster/transfer-leadership", &json!({ "to": to }))
            .await?;
        let moved = moved.expect(StatusCode::OK)?.json()?;
        assert_eq!(moved["leader"]["name"], **to);
        assert_eq!(cluster.leader().await?, follower);
    }
    let nowhere = json!({ "to": "node7" });
    let refused = cluster.nodes[0]
        .api()
        .post("/v1/cluster/transfer-leadership", &nowhere)
        .await?;
    let refused = refused.expect(StatusCode::NOT_FOUND)?;
    ensure!(
        refused.text.contains("the members are node1, node2, node3"),
        "{refused:?}"
    );
    cluster.agree().await
}

/// Makes so many changes, each in a log entry of its own if the nodes do not batch them.
async fn change(api: &Api, changes: usize) -> Result<()> {
    const WRITERS: usize = 24;
    let commit = async |api: &Api, operation: Value| {
        let transaction = json!({ "operations": [operation] });
        let answer = api.post("/v1/transactions", &transaction).await?;
        answer.expect(StatusCode::OK)
    };
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api = api.clone();
        writers.spawn(async move {
            let id = numbered("triad", writer);
            commit(&api, create(&id)).await?;
            let mut state = "first";
            for _ in 0..changes / WRITERS {
                state = after(state);
                commit(&api, transition(&id, state)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_does_not_move_to_a_voter_that_lags() -> Result<()> {
    let plan = Plan::default().with("LOCKSTEP_RAFT_BATCH_REQUESTS_MAX", 1);
    let mut cluster = Cluster::start_as(plan).await?;
    let (leader, lagging) = cluster.leader_and_follower().await?;
    let api = cluster.nodes[leader].api().clone();
    let term = api.cluster().await?.term;
    cluster.nodes[lagging].pause()?;
    // It still counts as a voter that answers, for some seconds.
    change(&api, 1200).await?;
    let to = json!({ "to": cluster.nodes[lagging].name });
    let path = "/v1/cluster/transfer-leadership";
    let refused = api.post(path, &to).await?.expect(StatusCode::CONFLICT)?;
    println!("{}", refused.text);
    ensure!(refused.text.contains("no_successor"), "{refused:?}");
    // Nothing was interrupted.
    api.next("second").await?.expect(StatusCode::OK)?;
    assert_eq!(api.cluster().await?.term, term);
    cluster.nodes[lagging].resume()?;
    cluster.agree().await
}
