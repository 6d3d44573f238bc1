//! Clients: each is on one node, moves `triad/default` and reads it.

use std::time::Duration;

use lockstep_machine::{
    Command, IdempotencyKey, InstanceId, Metadata, Outcome, Revision, StateName, Transition,
    Trigger,
};

use super::chance::{nap, one_of, sleep_ms, up_to};
use super::cluster::{Cluster, SimRouter};
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

/// A client that writes on one node until the cluster is to stop.
pub async fn write_for_ever(cluster: Cluster, node: NodeId, client: u64) {
    let mut view = View {
        state: StateName::new("first").expect("the literal is valid"),
        revision: 0,
    };
    for request in 0_u64.. {
        if cluster.quiet() {
            return;
        }
        let key = (one_of(3) == 0).then(|| format!("client-{client}/{request}"));
        let key = key.map(|key| IdempotencyKey::new(key).expect("it is short and printable"));
        let Some(router) = cluster.router(node) else {
            sleep_ms(20).await;
            continue;
        };
        write(&cluster, &router, key, &mut view).await;
        nap(Duration::from_millis(20)).await;
    }
}

/// What a client last learned about the instance.
struct View {
    state: StateName,
    revision: u64,
}

async fn write(
    cluster: &Cluster,
    router: &SimRouter,
    key: Option<IdempotencyKey>,
    view: &mut View,
) {
    let oracle = cluster.oracle();
    let to = match (view.state.as_str(), one_of(2)) {
        ("first", 0) => "second",
        ("first" | "second", _) => "third",
        _ => "first",
    };
    let expected = (one_of(4) == 0).then_some(view.revision);
    let command = Command::Transition(Transition {
        instance: triad(),
        trigger: Trigger::To(StateName::new(to).expect("the literal is valid")),
        expect_state: None,
        expect_revision: expected.map(Revision),
        metadata: Metadata::default(),
    });
    let told = oracle.told();
    let mut first = None;
    // Requests with a key are repeated: always after an unknown outcome, sometimes after a known one.
    for attempt in 0..4 {
        match router
            .submit(command.clone(), key.clone(), deadline())
            .await
        {
            Ok(reply) => match &reply.outcome {
                Outcome::Transitioned(made) => {
                    oracle.acknowledged(told, &reply, first, expected);
                    *view = View {
                        state: made.to.clone(),
                        revision: made.revision.0,
                    };
                    first = Some(made.revision.0);
                    if key.is_none() || one_of(3) > 0 {
                        return;
                    }
                }
                Outcome::Rejected(rejection) => {
                    oracle.count(|counts| counts.rejected += 1);
                    if let Some(first) = first {
                        oracle.violated(format!(
                            "a key came to revision {first}, then to {rejection}"
                        ));
                    }
                    // A replayed rejection reports an old state.
                    if let (Some((state, revision)), false) = (rejection.current(), reply.replayed)
                    {
                        oracle.saw(told, revision.0, state, "a rejection");
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
                oracle.count(|counts| counts.unknown += 1);
                if key.is_none() {
                    return;
                }
            }
            Err(error) => {
                oracle.count(|counts| counts.unavailable += 1);
                if !matches!(
                    error,
                    ServiceError::Unavailable { .. } | ServiceError::Overloaded
                ) {
                    oracle.violated(format!("an error that nothing explains: {error}"));
                }
                if let (0, Some(key)) = (attempt, &key) {
                    cluster.never_executed(key.clone());
                }
                return;
            }
        }
    }
}

/// A client that reads on one node until the cluster is to stop.
pub async fn read_for_ever(cluster: Cluster, node: NodeId) {
    while !cluster.quiet() {
        nap(Duration::from_millis(40)).await;
        let Some(router) = cluster.router(node) else {
            continue;
        };
        let told = cluster.oracle().told();
        if router.confirm(deadline()).await.is_err() {
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
            .saw(told, read.revision.0, &read.state, &what);
        cluster.oracle().count(|counts| counts.reads += 1);
    }
}
