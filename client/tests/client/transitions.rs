//! Transitions over a stream.

use futures::future::join_all;
use lockstep_client::{Error, IdempotencyKey, InstanceId, TransitionCall};
use lockstep_scripted::{Answer, Node, closed_port};

use crate::{client, client_within};

fn to(state: &str) -> TransitionCall {
    let triad: InstanceId = "triad/default".parse().expect("valid");
    TransitionCall::to(&triad, state.parse().expect("valid"))
}

#[tokio::test]
async fn transitions_in_flight_at_once_get_their_own_results() {
    let node = Node::start([Answer::Done; 100]).await;
    let stream = client([&node.address]).transition_stream();
    let states: Vec<_> = (0..100).map(|number| format!("s{number}")).collect();
    let made = states.iter().map(|state| stream.transition(to(state)));
    for (made, state) in join_all(made).await.into_iter().zip(&states) {
        let written = made.expect("it is made");
        assert_eq!(written.made.to.as_str(), state);
    }
    let mut keys: Vec<_> = node.requests().into_iter().map(|it| it.key).collect();
    assert!(keys.iter().all(Option::is_some), "{keys:?}");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 100, "each has a key of its own");
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_on_another_node_under_the_same_key() {
    let one = Node::start([Answer::OutcomeUnknown]).await;
    let other = Node::start([Answer::Replayed]).await;
    let stream = client([&one.address, &other.address]).transition_stream();
    let key = IdempotencyKey::new("k1").expect("valid");
    let call = to("second").idempotency_key(key);
    let written = stream.transition(call).await.expect("it was executed");
    assert!(written.replayed);
    for node in [one, other] {
        let keys: Vec<_> = node.requests().into_iter().map(|it| it.key).collect();
        assert_eq!(keys, [Some("k1".to_owned())]);
    }
}

#[tokio::test]
async fn a_stream_that_broke_is_replaced() {
    let one = Node::start([Answer::Done, Answer::Hang]).await;
    let other = Node::start([Answer::Done]).await;
    let stream = client([&one.address, &other.address]).transition_stream();
    stream.transition(to("second")).await.expect("it is made");
    let hangs = stream.transition(to("third"));
    let killed = async {
        while one.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        one.kill().await
    };
    let (made, _) = tokio::join!(hangs, killed);
    assert_eq!(
        made.expect("it is made elsewhere").made.to.as_str(),
        "third"
    );
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn what_no_node_would_answer_differently_ends_the_transition() {
    let node = Node::start([Answer::Rejected, Answer::Invalid]).await;
    let stream = client([&node.address]).transition_stream();
    let rejected = stream.transition(to("second")).await;
    assert!(matches!(rejected, Err(Error::Rejected(_))), "{rejected:?}");
    let invalid = stream.transition(to("second")).await;
    assert!(matches!(invalid, Err(Error::Invalid(_))), "{invalid:?}");

    let nowhere = client_within([closed_port()], 200).transition_stream();
    let unavailable = nowhere.transition(to("second")).await;
    assert!(
        matches!(unavailable, Err(Error::Unavailable { .. })),
        "{unavailable:?}"
    );
}
