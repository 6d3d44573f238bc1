//! Clients: each is on one node, moves `triad/default` and reads it.

use std::time::Duration;

use lockstep_machine::{
    Command, IdempotencyKey, InstanceId, Outcome, Revision, StateName, Transition, Trigger,
};

use super::bugs::Bug;
use super::chance::{nap, one_of, sleep_ms, up_to};
use super::cluster::{Cluster, SimRouter};
use super::tokens::Token;
use lockstep_node::service::ServiceError;
use lockstep_raft::Deadline;
use lockstep_raft::consensus::NodeId;
use openraft_rt_sim::SimRuntime;

/// The built-in instance.
pub fn triad() -> InstanceId {
    "triad/default".parse().expect("the literal is a valid id")
}

fn deadline() -> Deadline<SimRuntime> {
    Deadline::after(Duration::from_millis(200 + up_to(2000)))
}

/// A client that writes on one node at a time until the cluster is to stop.
pub async fn write_for_ever(cluster: Cluster, seat: usize, client: u64) {
    let mut view = View {
        state: StateName::new("first").expect("the literal is valid"),
        revision: 0,
    };
    for request in 0_u64.. {
        if cluster.quiet() {
            return;
        }
        let token = Token::new(client, request);
        let has_key = one_of(3) == 0;
        let Some(router) = cluster.router(at(&cluster, seat)) else {
            sleep_ms(20).await;
            continue;
        };
        write(&cluster, &router, &token, has_key, &mut view).await;
        nap(Duration::from_millis(20)).await;
    }
}

/// What a client last learned about the instance.
struct View {
    state: StateName,
    revision: u64,
}

/// A move of the built-in instance from `state`.
pub fn a_move(state: &StateName, expected: Option<u64>, token: &Token) -> Command {
    let to = match (state.as_str(), one_of(2)) {
        ("first", 0) => "second",
        ("first" | "second", _) => "third",
        _ => "first",
    };
    Command::Transition(Transition {
        instance: triad(),
        trigger: Trigger::To(StateName::new(to).expect("the literal is valid")),
        expect_state: None,
        expect_revision: expected.map(Revision),
        metadata: token.metadata(),
    })
}

/// Sends one request. With a key it is repeated: always after an unknown outcome, sometimes after a known one.
async fn write(
    cluster: &Cluster,
    router: &SimRouter,
    token: &Token,
    has_key: bool,
    view: &mut View,
) {
    let oracle = cluster.oracle();
    let expected = (one_of(4) == 0).then_some(view.revision);
    let command = a_move(&view.state, expected, token);
    let key = has_key.then(|| IdempotencyKey::new(token.as_str()).expect("it is printable"));
    let known_before = oracle.known_revision();
    let mut first = None;
    for attempt in 0..4 {
        match router
            .submit(command.clone(), key.clone(), deadline())
            .await
        {
            Ok(reply) => match &reply.outcome {
                Outcome::Transitioned(made) => {
                    oracle.acknowledged(token, known_before, &reply, first, expected);
                    *view = View {
                        state: made.to.clone(),
                        revision: made.revision.0,
                    };
                    first = Some(made.revision.0);
                    if !has_key || one_of(3) > 0 {
                        return;
                    }
                }
                Outcome::Rejected(rejection) => {
                    oracle.count("rejected");
                    oracle.refused(token);
                    // A replayed rejection reports an old state.
                    if let (Some((state, revision)), false) = (rejection.current(), reply.replayed)
                    {
                        oracle.saw(known_before, revision.0, state, "a rejection");
                        *view = View {
                            state: state.clone(),
                            revision: revision.0,
                        };
                    }
                    return;
                }
                other => {
                    return oracle
                        .violated(format!("an outcome that nothing asked for: {other:?}"));
                }
            },
            Err(ServiceError::OutcomeUnknown { .. }) => {
                oracle.count("outcome unknown");
                if !has_key {
                    return;
                }
            }
            Err(
                error @ (ServiceError::Unavailable { .. }
                | ServiceError::Overloaded
                | ServiceError::DiskFull),
            ) => {
                oracle.count(match error {
                    ServiceError::DiskFull => "refused for a full disk",
                    _ => "unavailable",
                });
                // About an earlier attempt, this answer says nothing.
                if attempt == 0 {
                    oracle.refused(token);
                }
                return;
            }
            Err(error) => {
                return oracle.violated(format!("an error that nothing explains: {error}"));
            }
        }
    }
}

/// The node that clients of this seat use: the same one as long as the members are the same.
fn at(cluster: &Cluster, seat: usize) -> NodeId {
    let nodes = cluster.nodes();
    nodes[seat % nodes.len()]
}

/// A client that reads on one node at a time until the cluster is to stop.
pub async fn read_for_ever(cluster: Cluster, seat: usize) {
    while !cluster.quiet() {
        nap(Duration::from_millis(40)).await;
        let node = at(&cluster, seat);
        let Some(router) = cluster.router(node) else {
            continue;
        };
        let known_before = cluster.oracle().known_revision();
        let unconfirmed = cluster.has(Bug::ReadWithoutQuorum) && router.consensus().leads();
        if !unconfirmed && router.confirm(deadline()).await.is_err() {
            continue;
        }
        let read = {
            let applied = router.consensus().state().read();
            applied.state.instance(&triad()).cloned()
        };
        let read = read.expect("the built-in instance is always there");
        let what = format!("a read on node {node}");
        cluster
            .oracle()
            .saw(known_before, read.revision.0, &read.state, &what);
        cluster.oracle().count("reads");
    }
}
