//! The client against real gRPC servers that answer by script.

use std::time::{Duration, Instant};

use lockstep_client::{
    Address, Consistency, DeadLetters, DeadLettersCall, Error, IdempotencyKey, InstanceId,
    StateName, TransitionCall,
};
use lockstep_scripted::{Answer, Node, closed_port};

use crate::{client, client_within};

/// For a call that must end long before its own timeout: a hang is what it detects.
const DEADLINE: Duration = Duration::from_secs(30);

fn instance() -> InstanceId {
    "triad/default".parse().expect("a test id is valid")
}

fn to(state: &str) -> TransitionCall {
    TransitionCall::to(
        &instance(),
        StateName::new(state).expect("a test state is valid"),
    )
}

#[test]
fn calls_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let client = client_within(["127.0.0.1:1"], 100);
    let (instance, address) = (instance(), "127.0.0.1:1".parse::<Address>().expect("valid"));
    is_send(&client.get(&instance, Consistency::Stale));
    is_send(&client.transition(to("second")));
    is_send(&client.status(&address, false));
    is_send(&client.statuses(false));
    is_send(&client.leader());
    is_send(&client.sinks());
    is_send(&client.check_sink("reports", Duration::from_secs(1)));
    is_send(&client.reseed_sink("reports"));
    is_send(&client.dead_letters(&DeadLettersCall::of("reports")));
    is_send(&client.discard_dead_letters("reports", DeadLetters::All));
    is_send(&client.prefer_leader());
    is_send(&client.view());
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_the_one_that_answers_is_kept() {
    let node = Node::start([Answer::Done, Answer::Done]).await;
    let dead = closed_port();
    let client = client([dead.as_str(), &node.address]);
    let moved = client
        .transition(to("second"))
        .await
        .expect("the second endpoint answers");
    assert_eq!(moved.made.to.as_str(), "second");
    client
        .transition(to("third"))
        .await
        .expect("it answers again");
    assert_eq!(node.requests().len(), 2);
}

#[tokio::test]
async fn a_node_that_cannot_serve_is_left_and_the_request_tried_elsewhere_under_the_same_key() {
    let first = Node::start([Answer::Unavailable]).await;
    let second = Node::start([Answer::Done]).await;
    let client = client([&first.address, &second.address]);
    client
        .transition(to("second"))
        .await
        .expect("the second node answers");
    let (one, other) = (first.requests(), second.requests());
    assert_eq!((one.len(), other.len()), (1, 1));
    let key = one[0].key.clone().expect("the client drew a key");
    assert_eq!(other[0].key.as_ref(), Some(&key));
    assert!(IdempotencyKey::new(&key).is_ok());
}

#[tokio::test]
async fn a_single_node_is_asked_again_until_it_serves() {
    let node = Node::start([Answer::Unavailable, Answer::Unavailable, Answer::Done]).await;
    let client = client([&node.address]);
    client
        .transition(to("second"))
        .await
        .expect("the third attempt is answered");
    let requests = node.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        requests
            .iter()
            .all(|request| request.key == requests[0].key)
    );
}

#[tokio::test]
async fn two_calls_have_two_keys_and_a_callers_key_is_kept() {
    let node = Node::start([Answer::Done, Answer::Done, Answer::Done]).await;
    let client = client([&node.address]);
    client.transition(to("second")).await.expect("answered");
    client.transition(to("second")).await.expect("answered");
    let key = IdempotencyKey::new("order-42").expect("valid");
    client
        .transition(to("second").idempotency_key(key))
        .await
        .expect("answered");
    let keys: Vec<_> = node
        .requests()
        .into_iter()
        .map(|request| request.key)
        .collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2].as_deref(), Some("order-42"));
}

#[tokio::test]
async fn a_node_that_hangs_leaves_time_for_another() {
    let hung = Node::start([Answer::Hang]).await;
    let healthy = Node::start([Answer::Done]).await;
    // The half that the first one gets is enough to be heard by it, and the rest to be answered.
    let client = client_within([&hung.address, &healthy.address], 4000);
    client
        .transition(to("second"))
        .await
        .expect("the healthy node answers");
    assert_eq!(hung.requests()[0].key, healthy.requests()[0].key);
}

#[tokio::test]
async fn one_deadline_holds_for_the_whole_call_and_is_sent_to_the_node() {
    // More than there is time for.
    let one = Node::start([Answer::Hang; 50]).await;
    let other = Node::start([Answer::Hang; 50]).await;
    let client = client_within([&one.address, &other.address], 2000);
    let error = tokio::time::timeout(DEADLINE, client.transition(to("second")))
        .await
        .expect("it ends")
        .expect_err("no node answers");
    let requests = [one.requests(), other.requests()].concat();
    let sent = requests
        .iter()
        .map(|it| it.timeout.expect("grpc-timeout is sent"));
    // Each hangs for as long as it was given, so that all of them together fit in.
    let sent: Duration = sent.sum();
    assert!(sent <= Duration::from_millis(2000), "{requests:?}");
    let Error::OutcomeUnknown { key, tried, .. } = error else {
        panic!("{error}")
    };
    assert!(
        requests
            .iter()
            .all(|it| it.key.as_deref() == key.as_ref().map(IdempotencyKey::as_str)),
        "{key:?}: {requests:?}"
    );
    assert_eq!(tried.len(), 2);
}

#[tokio::test]
async fn a_read_that_hangs_is_unavailable_for_it_changes_nothing() {
    let node = Node::start([Answer::Hang]).await;
    let error = client_within([&node.address], 300)
        .get(&instance(), Consistency::Linearizable)
        .await;
    assert!(matches!(error, Err(Error::Unavailable { .. })), "{error:?}");
}

#[tokio::test]
async fn without_a_node_nothing_was_executed() {
    let dead = closed_port();
    let error = client_within([&dead], 300)
        .transition(to("second"))
        .await
        .expect_err("no node is there");
    let text = error.to_string();
    let Error::Unavailable { tried, .. } = error else {
        panic!("{text}")
    };
    assert_eq!(tried.len(), 1);
    assert!(text.contains(&dead) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_possible_execution_is_not_forgotten_when_later_attempts_are_rejected() {
    // The last response ends the call before its deadline: it asks for a longer pause than the time left.
    let rejected = Answer::Overloaded {
        retry_after_ms: 60_000,
    };
    let node = Node::start([Answer::OutcomeUnknown, Answer::Unavailable, rejected]).await;
    let error = client([&node.address]).transition(to("second")).await;
    assert_eq!(node.requests().len(), 3, "it was asked again");
    assert!(
        matches!(error, Err(Error::OutcomeUnknown { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_unknown_outcome_is_learnt_by_asking_again() {
    let node = Node::start([Answer::OutcomeUnknown, Answer::Replayed]).await;
    let moved = client([&node.address])
        .transition(to("second"))
        .await
        .expect("learnt");
    assert!(moved.replayed);
    let requests = node.requests();
    assert_eq!(requests[0].key, requests[1].key);
}

#[tokio::test]
async fn an_overloaded_cluster_is_left_alone_for_as_long_as_it_asks() {
    let node = Node::start([
        Answer::Overloaded {
            retry_after_ms: 300,
        },
        Answer::Done,
    ])
    .await;
    let start = Instant::now();
    client([&node.address])
        .transition(to("second"))
        .await
        .expect("answered later");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn an_overloaded_cluster_that_asks_for_more_time_than_there_is_ends_the_call() {
    let node = Node::start([Answer::Overloaded {
        retry_after_ms: 3_600_000,
    }])
    .await;
    let client = client_within([&node.address], 600_000);
    let error = tokio::time::timeout(DEADLINE, client.transition(to("second")))
        .await
        .expect("it does not wait for its own deadline");
    assert!(matches!(error, Err(Error::Unavailable { .. })), "{error:?}");
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn a_rejection_is_final_and_says_what_is_allowed() {
    let node = Node::start([Answer::Rejected]).await;
    let error = client([&node.address, &closed_port()])
        .transition(to("second"))
        .await;
    let Err(Error::Rejected(rejected)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(rejected.code, "illegal_transition");
    assert_eq!(rejected.allowed, ["first"]);
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn a_broken_rule_is_not_asked_about_twice() {
    let node = Node::start([Answer::Invalid]).await;
    let error = client([&node.address]).transition(to("second")).await;
    assert!(matches!(error, Err(Error::Invalid(_))), "{error:?}");
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_against_the_contract_is_reported_with_its_sender() {
    let node = Node::start([Answer::Nonsense]).await;
    let error = client([&node.address]).transition(to("second")).await;
    let Err(Error::BadAnswer { endpoint, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(endpoint.as_str(), node.address);
}

#[tokio::test]
async fn a_node_that_dies_and_returns_is_found_again() {
    let node = Node::start([Answer::Done]).await;
    let client = client([&node.address]);
    client.transition(to("second")).await.expect("answered");
    let address = node.stop().await;
    let returning = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Node::start_at(&address, [Answer::Done]).await
    };
    let (answer, _node) = tokio::join!(client.transition(to("third")), returning);
    answer.expect("the returned node answers");
}

#[tokio::test]
async fn the_leader_is_the_one_of_the_newest_term_and_can_be_preferred() {
    let follower = Node::start([]).await;
    let leader = Node::start([Answer::Done]).await;
    follower.set_status(1, 7, Some((2, &leader.address)));
    leader.set_status(2, 7, Some((2, &leader.address)));
    let client = client([&follower.address, &leader.address, &closed_port()]);
    let found = client.prefer_leader().await.expect("there is a leader");
    assert_eq!((found.member.id, found.term), (2, 7));
    client
        .transition(to("second"))
        .await
        .expect("the leader answers");
    assert_eq!((follower.requests().len(), leader.requests().len()), (0, 1));
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_asked_until_the_deadline() {
    let node = Node::start([]).await;
    node.set_status(1, 3, None);
    let error = client_within([&node.address], 2000)
        .leader()
        .await
        .expect_err("there is no leader");
    assert!(error.to_string().contains("knows no leader"), "{error}");
}

#[tokio::test]
async fn every_endpoint_has_its_own_status_or_failure() {
    let node = Node::start([]).await;
    node.set_status(1, 3, None);
    let dead = closed_port();
    let statuses = client_within([&dead, &node.address], 2000)
        .statuses(true)
        .await
        .expect("nothing to discover");
    assert_eq!(statuses[0].0.as_str(), dead);
    assert!(statuses[0].1.is_err());
    assert_eq!(
        statuses[1].1.as_ref().map(|status| status.term).ok(),
        Some(3)
    );
    assert!(
        statuses[1]
            .1
            .as_ref()
            .is_ok_and(|status| status.state_hash.is_some())
    );
}
